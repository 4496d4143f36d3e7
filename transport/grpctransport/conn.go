package grpctransport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// conn is one connection: a ClientConn that may dial once.
type conn struct {
	d    *Dialer
	cc   *grpc.ClientConn
	done chan struct{}

	inFlight atomic.Int64
	unusable atomic.Bool // down or draining
	draining atomic.Bool // close when nothing is under way any more

	mu      sync.Mutex
	dialed  bool
	nc      *netConn // nil until the network connection is there
	dialErr error
	goAway  bool // the peer said that it goes away, or we did
}

var _ transport.Conn = (*conn)(nil)

// errOnce keeps grpc-go from connecting again by itself.
var errOnce = errors.New("the connection has ended; the pool makes another")

// dial opens the network connection, once.
func (c *conn) dial(ctx context.Context, addr string) (net.Conn, error) {
	c.mu.Lock()
	again := c.dialed
	c.dialed = true
	c.mu.Unlock()
	if again {
		return nil, errOnce
	}
	nc, err := c.d.opt.Dial(ctx, addr)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.dialErr = err
		return nil, err
	}
	c.nc = &netConn{Conn: nc, closed: make(chan struct{})}
	return c.nc, nil
}

func (c *conn) failedDial() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dialErr != nil || c.nc != nil && c.nc.isClosed()
}

// watch notices the connection's end.
func (c *conn) watch() {
	defer close(c.done)
	for s := connectivity.Ready; s == connectivity.Ready; s = c.cc.GetState() {
		c.cc.WaitForStateChange(context.Background(), s)
	}
	c.mu.Lock()
	c.goAway = !c.nc.lost()
	c.mu.Unlock()
	c.unusable.Store(true)
	<-c.nc.closed // after GOAWAY what is under way goes on
	_ = c.cc.Close()
}

// Usable implements transport.Conn.
func (c *conn) Usable() bool { return !c.unusable.Load() }

// Single reports that all calls take the same network connection: what one has found out about the server holds for the next.
func (c *conn) Single() bool { return true }

// InFlight implements transport.Conn.
func (c *conn) InFlight() int { return int(c.inFlight.Load()) }

// Done implements transport.Conn.
func (c *conn) Done() <-chan struct{} { return c.done }

// Close implements transport.Conn.
func (c *conn) Close() error {
	c.unusable.Store(true)
	_ = c.cc.Close() // that it is closed already is its only error
	return nil
}

// Drain implements transport.Conn.
func (c *conn) Drain() {
	c.unusable.Store(true)
	c.draining.Store(true)
	if c.inFlight.Load() == 0 {
		_ = c.Close()
	}
}

// enter counts a call in, unless the connection takes no more.
func (c *conn) enter() *status.Error {
	c.inFlight.Add(1)
	if !c.unusable.Load() {
		return nil
	}
	c.leave()
	return c.refusal(nil)
}

func (c *conn) leave() {
	if c.inFlight.Add(-1) == 0 && c.draining.Load() {
		_ = c.Close()
	}
}

// refusal says why a call did not go out: the connection was lost, or goes away.
func (c *conn) refusal(cause error) *status.Error {
	c.mu.Lock()
	lost := c.nc.lost() && !c.goAway
	c.mu.Unlock()
	if lost {
		return &status.Error{Code: status.Unavailable, Kind: status.Unsent, Fate: status.NotSent,
			Message: "connection lost before the call was sent", Cause: cause}
	}
	return &status.Error{Code: status.Unavailable, Kind: status.Draining, Fate: status.NotSent, Message: "the connection is draining", Cause: cause}
}

// silence is how long a call must have been under way, without a byte from the peer, for its connection to be suspected.
const silence = time.Second

// suspect sets the connection aside if a call that began at start ran out of time, and nothing came meanwhile.
func (c *conn) suspect(start policy.Time) {
	if policy.Now().Sub(start) >= silence && policy.Time(c.nc.heard.Load()) < start {
		c.unusable.Store(true)
	}
}

// netConn knows when the peer was heard last, and how the connection ended.
type netConn struct {
	net.Conn
	heard  atomic.Int64 // policy.Time; 0 = never
	first  atomic.Pointer[[]byte]
	failed atomic.Pointer[error]

	once   sync.Once
	closed chan struct{}
}

// Read implements net.Conn.
func (n *netConn) Read(b []byte) (int, error) {
	k, err := n.Conn.Read(b)
	if k > 0 {
		if n.heard.Load() == 0 {
			first := bytes.Clone(b[:min(k, maxWords)])
			n.first.Store(&first)
		}
		n.heard.Store(int64(policy.Now()))
	}
	if err != nil && !n.isClosed() {
		n.failed.CompareAndSwap(nil, &err)
	}
	return k, err
}

// Close implements net.Conn.
func (n *netConn) Close() error {
	n.once.Do(func() { close(n.closed) })
	return n.Conn.Close()
}

func (n *netConn) isClosed() bool {
	select {
	case <-n.closed:
		return true
	default:
		return false
	}
}

// maxWords is as far as a peer's first words are looked at for what it says of TLS.
const maxWords = 512

// wantsTLS reports whether the peer answered that it speaks TLS, to a client that does not.
func (n *netConn) wantsTLS() bool {
	p := n.first.Load()
	return p != nil && transport.WantsTLS(*p)
}

// lost reports whether the connection ended from the other side.
func (n *netConn) lost() bool { return n.failed.Load() != nil }

func (n *netConn) cause() error {
	if p := n.failed.Load(); p != nil {
		return *p
	}
	return io.ErrUnexpectedEOF
}
