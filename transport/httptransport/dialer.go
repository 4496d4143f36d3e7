package httptransport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// Dialer opens connections. It is safe for concurrent use and holds nothing that must be closed.
type Dialer struct{ opt Options }

var _ transport.Dialer = (*Dialer)(nil)

// NewDialer returns a Dialer. It fails if an option makes no sense.
func NewDialer(o Options) (*Dialer, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	return &Dialer{opt: o}, nil
}

// Pings of HTTP/2 connections.
const (
	pingAfter   = 10 * time.Second // of silence, with calls under way
	pingTimeout = 2 * time.Second
)

// Dial implements transport.Dialer. It makes the first of the Conn's network connections, and sends nothing yet: whether the server speaks
// HTTP at all shows with the first call. Prove finds out.
func (d *Dialer) Dial(ctx context.Context, addr string) (transport.Conn, *status.Error) {
	c, err := d.start(ctx, addr)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Prove is Dial for a server of which nobody knows what it speaks: it asks OPTIONS *, which does nothing and which every HTTP server answers
// in some way. No answer at all within ctx is a failure of kind Dial, one that is not HTTP of kind Handshake.
func (d *Dialer) Prove(ctx context.Context, addr string) (transport.Conn, *status.Error) {
	c, e := d.start(ctx, addr)
	if e != nil {
		return nil, e
	}
	c.proves = d.opt.TLS == nil
	if e = c.prove(ctx); e != nil {
		_ = c.Close()
		return nil, e
	}
	return c, nil
}

func (c *conn) prove(ctx context.Context) *status.Error {
	ctx, cancel := context.WithTimeout(ctx, c.d.opt.HandshakeTimeout)
	defer cancel()
	e := &status.Error{Code: status.Unavailable, Kind: status.Dial, Fate: status.NotSent, Message: "dial " + c.addr}
	req, err := http.NewRequestWithContext(ctx, http.MethodOptions, c.scheme+"://"+host(c.addr), nil)
	if err != nil {
		e.Cause = err
		return e
	}
	req.URL.Opaque = "*"
	req.Header.Set("User-Agent", c.d.opt.UserAgent)
	c.inFlight.Add(1) // or an answer that closes the connection would end it
	defer c.inFlight.Add(-1)
	resp, err := c.rt.RoundTrip(req)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		e.Code, e.Kind, e.Cause = status.Canceled, status.Cancelled, context.Cause(ctx)
		return e
	case err != nil && ctx.Err() == nil && noHTTP(err):
		e.Kind, e.Message, e.Cause = status.Handshake, "handshake with "+c.addr, err
		if c.d.opt.TLS == nil && wantsTLS(err) {
			e.Cause = transport.ErrTLS
		}
		return e
	case err != nil:
		e.Cause = err
		return e
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxWords)) // that HTTP is spoken is known
	_ = resp.Body.Close()
	if c.d.opt.TLS == nil && transport.WantsTLS(body) {
		return needsTLS(c.addr)
	}
	c.answered(resp.Close)
	c.brief.Store(resp.Close)
	c.anew()
	return nil
}

// maxWords is as far as an answer is looked at for what its server says of TLS.
const maxWords = 512

// noHTTP reports whether an error of net/http's says that something came that is not HTTP. net/http has no type for it.
func noHTTP(err error) bool {
	return strings.Contains(err.Error(), "malformed HTTP") || strings.Contains(err.Error(), errEarly.Error())
}

// wantsTLS reports whether what came instead of HTTP, which net/http quotes, is a TLS alert.
func wantsTLS(err error) bool { return strings.Contains(err.Error(), `"\x15\x03`) }

// needsTLS is the error of a server that speaks TLS where this client does not. It cannot have understood a call.
func needsTLS(addr string) *status.Error {
	return &status.Error{Code: status.Unavailable, Kind: status.Handshake, Fate: status.NotSent, Message: "handshake with " + addr, Cause: transport.ErrTLS}
}

func (d *Dialer) start(ctx context.Context, addr string) (*conn, *status.Error) {
	c := &conn{d: d, addr: addr, scheme: "http", done: make(chan struct{}), conns: map[*netConn]struct{}{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.rt = &http.Transport{
		DialContext:            c.connect,
		MaxConnsPerHost:        d.opt.MaxConns,
		MaxIdleConnsPerHost:    d.opt.MaxConns,
		IdleConnTimeout:        d.opt.IdleTime,
		MaxResponseHeaderBytes: int64(d.opt.MaxHeader),
		Protocols:              new(http.Protocols),
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout, StrictMaxConcurrentRequests: true},
	}
	switch {
	case d.opt.TLS != nil:
		c.scheme = "https"
		c.rt.DialTLSContext = c.connect
		c.rt.Protocols.SetHTTP1(true)
		c.rt.Protocols.SetHTTP2(true)
	case d.opt.H2C:
		c.rt.Protocols.SetUnencryptedHTTP2(true)
	default:
		c.rt.Protocols.SetHTTP1(true)
	}
	nc, raw, err := c.open(ctx)
	if err != nil {
		c.cancel()
		return nil, err
	}
	c.keep(nc, raw)
	return c, nil
}

// open makes a network connection with its handshakes, and returns what it is made of too.
func (c *conn) open(ctx context.Context) (net.Conn, *netConn, *status.Error) {
	ctx, cancel := context.WithTimeout(ctx, c.d.opt.HandshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(c.ctx, cancel)
	defer stop()
	e := &status.Error{Code: status.Unavailable, Kind: status.Dial, Fate: status.NotSent, Message: "dial " + c.addr}
	plain, err := c.d.opt.Dial(ctx, c.addr)
	if err == nil {
		nc := &netConn{Conn: plain, c: c}
		c.add(nc)
		if c.d.opt.TLS == nil {
			return nc, nc, nil
		}
		secure := tls.Client(nc, c.tlsConfig())
		if err = secure.HandshakeContext(ctx); err == nil {
			return secure, nc, nil
		}
		secure.Close()
		e.Kind, e.Message = status.Handshake, "handshake with "+c.addr
	}
	if e.Cause = err; errors.Is(ctx.Err(), context.Canceled) {
		e.Code, e.Kind = status.Canceled, status.Cancelled
	}
	return nil, nil, e
}

func (c *conn) tlsConfig() *tls.Config {
	cfg := c.d.opt.TLS.Clone()
	cfg.NextProtos = []string{"h2", "http/1.1"}
	if cfg.ServerName == "" {
		cfg.ServerName = host(c.addr)
		if name, _, err := net.SplitHostPort(cfg.ServerName); err == nil {
			cfg.ServerName = strings.Trim(name, "[]")
		}
	}
	return cfg
}
