package muxtransport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// Dialer opens connections. It is safe for concurrent use and holds nothing that must be closed.
type Dialer struct {
	sh        *shared
	calls     sync.Pool // of *call
	loneAfter int       // loneAfter, but in tests
}

var _ transport.Dialer = (*Dialer)(nil)

// NewDialer returns a Dialer. It fails if an option makes no sense.
func NewDialer(o Options) (*Dialer, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	d := &Dialer{sh: &shared{opts: o}, loneAfter: loneAfter}
	d.calls.New = func() any { return &call{done: make(chan struct{}, 1)} }
	return d, nil
}

// Counters returns what has happened so far on all connections.
func (d *Dialer) Counters() Counters { return d.sh.counters() }

// Dial implements transport.Dialer. The connection has a method Instance() string beside those of transport.Conn: which instance
// the server is, as Options.Instance of the Server has it; "" = it does not say.
func (d *Dialer) Dial(ctx context.Context, addr string) (transport.Conn, *status.Error) {
	nc, err := d.sh.opts.Dial(ctx, addr)
	if err != nil {
		return nil, dialError(ctx, addr, err)
	}
	if d.sh.opts.TLS != nil {
		nc = d.encrypt(nc, addr)
	}
	began := policy.Now()
	peer, err := d.handshake(ctx, nc)
	if err != nil {
		nc.Close()
		d.sh.handshakesFailed.Add(1)
		if _, ok := errors.AsType[handshakeError](err); !ok { // nobody at home, as with a port that is closed
			return nil, dialError(ctx, addr, err)
		}
		return nil, &status.Error{Code: status.Unavailable, Kind: status.Handshake, Fate: status.NotSent,
			Message: "handshake with " + addr, Cause: err}
	}
	return newClientConn(d, nc, peer, began), nil
}

// encrypt returns nc inside of TLS, whose handshake is still to be made.
func (d *Dialer) encrypt(nc net.Conn, addr string) net.Conn {
	cfg := d.sh.opts.TLS
	if cfg.ServerName == "" && !cfg.InsecureSkipVerify {
		cfg = cfg.Clone()
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			host = addr
		}
		if _, ok := unixPath(addr); ok {
			host = "localhost"
		}
		cfg.ServerName = host
	}
	return tls.Client(nc, cfg)
}

// checkTLS completes TLS's handshake, if there is TLS, and makes sure that the server means this protocol.
func checkTLS(nc net.Conn) error {
	t, ok := nc.(*tls.Conn)
	if !ok {
		return nil
	}
	if err := t.HandshakeContext(context.Background()); err != nil { // nc has a deadline
		return tlsError(err)
	}
	if p := t.ConnectionState().NegotiatedProtocol; p != ALPN {
		return handshakeError(fmt.Sprintf("the server chose %q inside of TLS, not %q: it does not speak this protocol", p, ALPN))
	}
	return nil
}

// tlsError tells what one side has against the other from a connection that just ended.
func tlsError(err error) error {
	if ne, ok := errors.AsType[*net.OpError](err); ok && ne.Op == "remote error" {
		return handshakeError("TLS: " + err.Error())
	}
	if _, ok := errors.AsType[net.Error](err); ok || errors.Is(err, io.EOF) {
		return err
	}
	return handshakeError("TLS: " + err.Error())
}

func dialError(ctx context.Context, addr string, err error) *status.Error {
	e := &status.Error{Code: status.Unavailable, Kind: status.Dial, Fate: status.NotSent, Message: "dial " + addr, Cause: err}
	if errors.Is(ctx.Err(), context.Canceled) {
		e.Code, e.Kind = status.Canceled, status.Cancelled
	}
	return e
}

// handshake exchanges prefaces within the handshake timeout and ctx.
func (d *Dialer) handshake(ctx context.Context, nc net.Conn) (hello, error) {
	deadline := time.Now().Add(d.sh.opts.HandshakeTimeout)
	if t, ok := ctx.Deadline(); ok && t.Before(deadline) {
		deadline = t
	}
	_ = nc.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	peer, err := d.shakeHands(nc)
	if !stop() {
		return hello{}, fmt.Errorf("gave up: %w", context.Cause(ctx))
	}
	if err != nil {
		return hello{}, err
	}
	return peer, nc.SetDeadline(time.Time{})
}

func (d *Dialer) shakeHands(nc net.Conn) (hello, error) {
	if err := checkTLS(nc); err != nil {
		return hello{}, err
	}
	out := preface{min: minVersion, max: maxVersion}.bytes()
	h := d.sh.opts.hello(nc.RemoteAddr())
	h.features |= featureInstance
	if _, err := nc.Write(appendHello(out, h)); err != nil {
		return hello{}, err
	}
	p, err := readPreface(nc)
	if err != nil {
		if _, ok := nc.(*tls.Conn); ok { // a server may say only now what it has against the client's certificate
			err = tlsError(err)
		}
		return hello{}, err
	}
	if p.chosen < minVersion || p.chosen > maxVersion {
		return hello{}, handshakeError(fmt.Sprintf("no protocol version in common: the server speaks %d to %d, this client %d to %d; update the older side",
			p.min, p.max, minVersion, maxVersion))
	}
	return readHello(nc)
}

func readPreface(nc net.Conn) (preface, error) {
	var b [prefaceLen]byte
	if _, err := io.ReadFull(nc, b[:1]); err != nil {
		return preface{}, err
	}
	// A peer that speaks something else is told apart by its first byte; the rest may never come.
	if b[0] != Magic[0] {
		if _, secured := nc.(*tls.Conn); b[0] == recordAlert && !secured {
			return preface{}, errNeedsTLS
		}
		return parsePreface(b[:])
	}
	if _, err := io.ReadFull(nc, b[1:]); err != nil {
		return preface{}, err
	}
	return parsePreface(b[:])
}

// maxHello bounds the first frame, which comes before any agreement.
const maxHello = 1024

func readHello(nc net.Conn) (hello, error) {
	var head [headerLen]byte
	if _, err := io.ReadFull(nc, head[:]); err != nil {
		return hello{}, err
	}
	n := frameSize(head[:])
	f := parseFrame(head[:])
	if f.typ != typeHello || f.more || f.id != 0 || n > maxHello {
		return hello{}, handshakeError(fmt.Sprintf("a frame of type %d and %d bytes where HELLO was expected", f.typ, n))
	}
	payload := make([]byte, n-headerLen)
	if _, err := io.ReadFull(nc, payload); err != nil {
		return hello{}, err
	}
	return parseHello(payload)
}

// handshakeError says what the peer answered that is not this protocol, or not a version of it that both speak. Other
// errors of a handshake mean that it did not answer.
type handshakeError string

func (e handshakeError) Error() string { return string(e) }

// Is lets errNeedsTLS be known as transport.ErrTLS.
func (e handshakeError) Is(target error) bool { return e == errNeedsTLS && target == transport.ErrTLS }

// errNeedsTLS is the answer of a server that speaks TLS: an alert, which begins with recordAlert.
const (
	errNeedsTLS = handshakeError("the server speaks TLS, and this client does not: give it hull.WithTLS, or Options.TLS of its transport")
	recordAlert = 0x15
)
