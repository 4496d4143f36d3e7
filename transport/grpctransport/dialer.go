package grpctransport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// Dialer opens connections. It is safe for concurrent use and holds nothing that must be closed.
type Dialer struct {
	opt         Options
	dial        []grpc.DialOption
	transparent atomic.Int64
}

var _ transport.Dialer = (*Dialer)(nil)

// NewDialer returns a Dialer. It fails if an option makes no sense.
func NewDialer(o Options) (*Dialer, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if o.TLS != nil {
		creds = credentials.NewTLS(o.TLS)
	}
	d := &Dialer{opt: o}
	d.dial = []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithDisableHealthCheck(), grpc.WithNoProxy(),
		grpc.WithIdleTimeout(0), // the pool knows what is idle
		// It dials once; a pause that never ends keeps it from a second time.
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: o.HandshakeTimeout, Backoff: backoff.Config{BaseDelay: never, Multiplier: 1, MaxDelay: never}}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: o.Keepalive, Timeout: o.KeepaliveTimeout}),
		grpc.WithMaxHeaderListSize(uint32(o.MaxHeader) + statusRoom), //nolint:gosec // checked
		grpc.WithUserAgent(o.UserAgent),
		grpc.WithStatsHandler(statsHandler{d}),
	}
	return d, nil
}

const never = 1000 * time.Hour

// statusRoom is what an answer may have beside metadata: the same limit holds for the frame in which gRPC says how a call ended. Hull's servers say 16 KiB
// of message and details at most over their own protocol. Here details are in base64, and half of that as a message is three times as long if it is not
// ASCII, and comes twice where there are details too.
const statusRoom = 48 << 10

// Transparent returns how many attempts grpc-go made by itself, for calls that a server had not begun.
func (d *Dialer) Transparent() int64 { return d.transparent.Load() }

// Dial implements transport.Dialer. The connection has a method Single() bool beside those of transport.Conn: all its calls take the same network connection.
func (d *Dialer) Dial(ctx context.Context, addr string) (transport.Conn, *status.Error) {
	ctx, cancel := context.WithTimeout(ctx, d.opt.HandshakeTimeout)
	defer cancel()
	c := &conn{d: d, done: make(chan struct{})}
	// grpc-go takes its target for a URL, which an address is not: it may have a zone, a path any letter.
	opts := append(d.dial[:len(d.dial):len(d.dial)],
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return c.dial(ctx, addr) }))
	if d.opt.TLS == nil || d.opt.TLS.ServerName == "" { // which is the authority then, and grpc-go wants no other
		opts = append(opts, grpc.WithAuthority(authority(addr)))
	}
	cc, err := grpc.NewClient("passthrough:///node", opts...)
	if err != nil {
		return nil, &status.Error{Code: status.Unavailable, Kind: status.Dial, Fate: status.NotSent, Message: "dial " + addr, Cause: err}
	}
	c.cc = cc
	cc.Connect()
	for s := cc.GetState(); s != connectivity.Ready; s = cc.GetState() {
		if s == connectivity.TransientFailure || c.failedDial() || !cc.WaitForStateChange(ctx, s) {
			_ = cc.Close()
			return nil, c.dialError(ctx, addr)
		}
	}
	go c.watch()
	return c, nil
}

// authority is what the server at an address is called. The zone of an IPv6 address means something on this machine only.
func authority(addr string) string {
	if strings.HasPrefix(addr, unixScheme) {
		return "localhost"
	}
	if host, port, err := net.SplitHostPort(addr); err == nil && strings.Contains(host, "%") {
		host, _, _ = strings.Cut(host, "%")
		return net.JoinHostPort(host, port)
	}
	return addr
}

// dialError says why there is no connection. A peer that answered something is there, but speaks something else.
func (c *conn) dialError(ctx context.Context, addr string) *status.Error {
	e := &status.Error{Code: status.Unavailable, Kind: status.Dial, Fate: status.NotSent, Message: "dial " + addr}
	c.mu.Lock()
	nc, err := c.nc, c.dialErr
	c.mu.Unlock()
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		e.Code, e.Kind, e.Cause = status.Canceled, status.Cancelled, context.Cause(ctx)
	case err != nil:
		e.Cause = err
	case nc != nil && nc.heard.Load() != 0:
		e.Kind, e.Message = status.Handshake, "handshake with "+addr
		e.Cause = errors.New("the peer does not speak gRPC, or not under these credentials")
		if secured := c.d.opt.TLS != nil; !secured {
			e.Cause = errors.New("the peer does not speak gRPC over plain HTTP/2")
			if nc.wantsTLS() {
				e.Cause = transport.ErrTLS
			}
		}
	case ctx.Err() != nil:
		e.Cause = context.Cause(ctx)
	case nc != nil:
		e.Cause = fmt.Errorf("the connection ended during the handshake: %w", nc.cause())
	}
	return e
}
