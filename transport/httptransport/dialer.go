package httptransport

import (
	"context"
	"crypto/tls"
	"errors"
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

// Dial implements transport.Dialer. It makes the first of the Conn's network connections.
func (d *Dialer) Dial(ctx context.Context, addr string) (transport.Conn, *status.Error) {
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
	nc, err := c.open(ctx)
	if err != nil {
		c.cancel()
		return nil, err
	}
	c.keep(nc)
	return c, nil
}

// open makes a network connection with its handshakes.
func (c *conn) open(ctx context.Context) (net.Conn, *status.Error) {
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
			return nc, nil
		}
		secure := tls.Client(nc, c.tlsConfig())
		if err = secure.HandshakeContext(ctx); err == nil {
			return secure, nil
		}
		secure.Close()
		e.Kind, e.Message = status.Handshake, "handshake with "+c.addr
	}
	if e.Cause = err; errors.Is(ctx.Err(), context.Canceled) {
		e.Code, e.Kind = status.Canceled, status.Cancelled
	}
	return nil, e
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
