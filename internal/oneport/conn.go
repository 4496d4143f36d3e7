package oneport

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// readFirst reads one byte and returns a connection that begins with it.
func readFirst(c net.Conn) (byte, net.Conn, error) {
	var buf [1]byte
	if _, err := io.ReadFull(c, buf[:]); err != nil {
		return 0, nil, err
	}
	return buf[0], &prefixed{Conn: c, head: buf[:]}, nil
}

// prefixed is a connection of which the first bytes have been read already.
type prefixed struct {
	net.Conn
	head []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// An accepted connection is wrapped in one of the two types below, which tell the port once that it is closed. That of TCP keeps the
// methods by which its descriptor is reached.
type tcpConn struct {
	*net.TCPConn
	gone func()
}

func (c *tcpConn) Close() error {
	c.gone()
	return c.TCPConn.Close()
}

type otherConn struct {
	net.Conn
	gone func()
}

func (c *otherConn) Close() error {
	c.gone()
	return c.Conn.Close()
}

// TLSState returns the state of the TLS that c, a connection that a Port has handed over, is inside of; nil if it is not.
func TLSState(c net.Conn) *tls.ConnectionState {
	switch c := c.(type) {
	case *Conn:
		return c.tls
	case *tls.Conn:
		s := c.ConnectionState()
		return &s
	case *prefixed:
		return TLSState(c.Conn)
	}
	return nil
}

// Conn is a connection as HTTP and gRPC servers get it: it begins with what was read of it already, and bounds what its peer may do.
type Conn struct {
	net.Conn
	port  *Port
	tls   *tls.ConnectionState
	head  []byte // not read by the server yet
	guard *guard // nil for HTTP/1.1
	// userDeadline is what the server set as write deadline, in Unix nanoseconds; 0 = none.
	userDeadline atomic.Int64
}

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	if c.guard == nil {
		return c.read(b)
	}
	for {
		n, err := c.guard.read(b, c.read)
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
	}
}

func (c *Conn) read(b []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(b, c.head)
		c.head = c.head[n:]
		if len(c.head) == 0 {
			c.head = nil
		}
		return n, nil
	}
	return c.Conn.Read(b)
}

// writePiece is how much of a long write must be taken within Options.SlowReader.
const writePiece = 64 << 10

// Write implements net.Conn.
func (c *Conn) Write(b []byte) (n int, err error) {
	for {
		piece := b[:min(len(b), writePiece)]
		until, own := time.Now().Add(c.port.opt.SlowReader), true
		if d := c.userDeadline.Load(); d != 0 && d < until.UnixNano() {
			until, own = time.Unix(0, d), false
		}
		if err := c.Conn.SetWriteDeadline(until); err != nil {
			return n, err
		}
		m, err := c.Conn.Write(piece)
		n += m
		if err != nil {
			if own && errors.Is(err, os.ErrDeadlineExceeded) {
				c.port.n.slowReaders.Add(1)
			}
			return n, err
		}
		if b = b[m:]; len(b) == 0 {
			return n, nil
		}
	}
}

// SetWriteDeadline implements net.Conn. The nearer of t and the port's own bound counts.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		c.userDeadline.Store(0)
	} else {
		c.userDeadline.Store(t.UnixNano())
	}
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
