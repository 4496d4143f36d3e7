package httptransport

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// conn is the way to one node: an http.Transport of its own.
type conn struct {
	d      *Dialer
	addr   string
	scheme string
	rt     *http.Transport
	ctx    context.Context //nolint:containedctx // ends with the Conn
	cancel context.CancelFunc
	done   chan struct{}

	inFlight atomic.Int64
	unusable atomic.Bool // lost or draining
	lost     atomic.Bool
	broken   atomic.Bool // the last network connection that ended was ended by the other side …
	idle     atomic.Bool // … and no call had used it
	parting  atomic.Bool // the server has said that it closes one, which it had not done before
	served   atomic.Bool // a call was answered, or sent at least
	heard    atomic.Bool // … answered
	brief    atomic.Bool // the server closes connections after each answer, which says nothing about its health
	proves   bool        // the server is asked what it speaks
	doubtful atomic.Bool // see doubt

	mu      sync.Mutex
	ended   bool
	looking *look
	looked  policy.Time // when the last look began
	conns   map[*netConn]struct{}
	first   *spare // made by Dial, until the first call takes it
}

var _ transport.Conn = (*conn)(nil)

// Usable implements transport.Conn.
func (c *conn) Usable() bool { return !c.unusable.Load() }

// InFlight implements transport.Conn.
func (c *conn) InFlight() int { return int(c.inFlight.Load()) }

// Done implements transport.Conn.
func (c *conn) Done() <-chan struct{} { return c.done }

// Open implements transport.Conn: it refuses.
func (c *conn) Open(_ context.Context, req *transport.Request) (transport.ClientStream, *status.Error) {
	return nil, &status.Error{Code: status.Unimplemented, Kind: status.NoMethod, Fate: status.NotSent,
		Message: req.Method + " is a stream, which JSON over HTTP cannot carry: call a node that speaks Hull's protocol or gRPC"}
}

// Drain implements transport.Conn.
func (c *conn) Drain() {
	c.unusable.Store(true)
	c.settle()
}

// Close implements transport.Conn.
func (c *conn) Close() error {
	c.unusable.Store(true)
	c.end()
	return nil
}

// enter counts a call in, unless the Conn takes no more.
func (c *conn) enter(ctx context.Context) *status.Error {
	c.inFlight.Add(1)
	var e *status.Error
	if !c.unusable.Load() {
		if !c.doubtful.Load() {
			return nil
		}
		if e = c.await(ctx); e == nil {
			return nil
		}
	}
	c.leave()
	if e != nil {
		return e
	}
	if c.lost.Load() {
		return &status.Error{Code: status.Unavailable, Kind: status.Unsent, Fate: status.NotSent, Message: "connection lost before the call was sent"}
	}
	return &status.Error{Code: status.Unavailable, Kind: status.Draining, Fate: status.NotSent, Message: "the connection is draining"}
}

func (c *conn) leave() {
	c.inFlight.Add(-1)
	c.settle()
}

// serve notes that the Conn was of use.
func (c *conn) serve() {
	if !c.served.Load() { // a look spares all other cores the write
		c.served.Store(true)
	}
}

// answered notes that the server has answered, and whether it closes the connection.
func (c *conn) answered(closes bool) {
	if !c.heard.Load() {
		c.brief.Store(closes)
		c.heard.Store(true)
	} else if closes && !c.brief.Load() {
		c.parting.Store(true)
	}
	c.serve()
}

// lose keeps further calls away.
func (c *conn) lose() {
	c.lost.Store(true)
	c.unusable.Store(true)
}

// settle ends the Conn if no call is under way and none can come, and sees to it that the server is looked at again if it has closed all there was.
func (c *conn) settle() {
	if c.inFlight.Load() > 0 {
		return
	}
	c.mu.Lock()
	gone := len(c.conns) == 0 && c.broken.Load() && !c.brief.Load()
	c.mu.Unlock()
	switch {
	case !gone || c.unusable.Load():
	case c.served.Load() && !c.idle.Load():
		c.doubt()
	default:
		c.lose()
	}
	if c.unusable.Load() && c.inFlight.Load() == 0 {
		c.end()
	}
}

// end closes everything, once.
func (c *conn) end() {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	c.ended = true
	first := c.first
	c.first = nil
	all := make([]*netConn, 0, len(c.conns))
	for nc := range c.conns {
		all = append(all, nc)
	}
	c.mu.Unlock()
	c.cancel()
	for _, nc := range all {
		_ = nc.Conn.Close()
	}
	if first != nil {
		<-first.idle
	}
	c.rt.CloseIdleConnections()
	close(c.done)
}

// connect is how the http.Transport gets a network connection.
func (c *conn) connect(ctx context.Context, _, _ string) (net.Conn, error) {
	c.mu.Lock()
	first := c.first
	c.first = nil
	c.mu.Unlock()
	if first != nil {
		if nc := first.take(); nc != nil {
			return nc, nil
		}
	}
	nc, raw, err := c.open(ctx)
	if err != nil {
		if err.Kind != status.Cancelled {
			c.lose()
		}
		return nil, err
	}
	raw.used.Store(true)
	return nc, nil
}

func (c *conn) add(nc *netConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		_ = nc.Conn.Close()
		return
	}
	c.conns[nc] = struct{}{}
}

// remove is told that a network connection has been closed.
func (c *conn) remove(nc *netConn) {
	c.mu.Lock()
	delete(c.conns, nc)
	c.broken.Store(nc.failed.Load() || c.parting.Load())
	c.idle.Store(!nc.used.Load())
	last := len(c.conns) == 0
	c.mu.Unlock()
	if last {
		go c.settle() // net/http closes connections under its locks, which the end needs
	}
}

// netConn is a network connection that says when it is closed, and by whom.
type netConn struct {
	net.Conn
	c              *conn
	closed, failed atomic.Bool
	used           atomic.Bool // by a call, or to ask what the server speaks
	once           sync.Once
}

// Read implements net.Conn.
func (n *netConn) Read(b []byte) (int, error) {
	k, err := n.Conn.Read(b)
	if err != nil && !n.closed.Load() && !timedOut(err) {
		n.failed.Store(true)
	}
	return k, err
}

func timedOut(err error) bool {
	e, ok := err.(net.Error) //nolint:errorlint // what Read itself returns for a deadline
	return ok && e.Timeout()
}

// Close implements net.Conn.
func (n *netConn) Close() error {
	n.closed.Store(true)
	err := n.Conn.Close()
	n.once.Do(func() { n.c.remove(n) })
	return err
}

// spare is a connection that no call has needed yet. It is read from, so that its end is noticed.
type spare struct {
	nc   net.Conn
	raw  *netConn
	idle chan struct{} // closed when it is read from no more
	bad  error
}

// keep puts a connection aside for the first call.
func (c *conn) keep(nc net.Conn, raw *netConn) {
	s := &spare{nc: nc, raw: raw, idle: make(chan struct{})}
	c.mu.Lock()
	c.first = s
	c.mu.Unlock()
	go func() {
		var b [1]byte
		_, err := nc.Read(b[:])
		switch {
		case err == nil:
			s.bad = errEarly
		case !timedOut(err):
			s.bad = err
		}
		close(s.idle)
		if s.bad != nil {
			_ = nc.Close()
		}
	}()
}

// errEarly is a server that talks without having been asked.
var errEarly = net.UnknownNetworkError("the server spoke first: it does not speak HTTP")

// take returns the connection, or nil if it has ended.
func (s *spare) take() net.Conn {
	_ = s.nc.SetReadDeadline(time.Unix(1, 0))
	<-s.idle
	if s.bad != nil {
		return nil
	}
	s.raw.used.Store(true)
	_ = s.nc.SetReadDeadline(time.Time{})
	return s.nc
}
