package memnet

import (
	"io"
	"net"
	"time"
)

// Conn is one end of a connection. It behaves as a *net.TCPConn does; all methods are safe for concurrent use.
type Conn struct {
	n             *Network
	c             *connection
	host          *Host
	in, out       *pipe
	local, remote addr
}

var _ net.Conn = (*Conn)(nil)

// Read waits for data. At the end of the peer's data it fails with io.EOF.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.in.read(b)
	return n, c.wrap("read", err)
}

// Write takes b into the connection's buffer and waits while that is full. The number of bytes it returns is what the
// host's system has accepted, not what the peer has read.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.out.write(b)
	return n, c.wrap("write", err)
}

// Close ends both directions. What was written still arrives; if data from the peer was not read, the peer sees a
// reset behind it, as with TCP. Calls that wait on this end return net.ErrClosed, even on a frozen host.
func (c *Conn) Close() error {
	c.c.mu.Lock()
	if c.in.r.closed {
		c.c.mu.Unlock()
		return c.wrap("close", net.ErrClosed)
	}
	end := finished
	if c.in.closeReader() {
		end = aborted
	}
	c.out.closeWriter(end)
	c.c.mu.Unlock()
	c.n.forget(c.c)
	return nil
}

// CloseWrite tells the peer that nothing more will come. Reading goes on.
func (c *Conn) CloseWrite() error {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	if c.out.w.closed {
		return c.wrap("close", net.ErrClosed)
	}
	c.out.closeWriter(finished)
	return nil
}

// LocalAddr returns this end's "host:port".
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the other end's "host:port".
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines. The zero time means none.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline bounds Read, calls that wait already included.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.wrap("set", c.in.setDeadline(&c.in.r, t))
}

// SetWriteDeadline bounds Write, calls that wait already included.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.wrap("set", c.out.setDeadline(&c.out.w, t))
}

// reset breaks the connection for both ends.
func (c *Conn) reset() {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	c.in.reset()
	c.out.reset()
}

// freeze stops or releases this end's calls.
func (c *Conn) freeze(on bool) {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	for _, s := range []*side{&c.in.r, &c.out.w} {
		s.frozen = on
		s.cond.Broadcast()
	}
}

// wrap dresses an error as the net package does.
func (c *Conn) wrap(op string, err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // a bare io.EOF stays bare
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}
