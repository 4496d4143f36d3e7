package oneport

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
)

// readFirst reads one byte and returns a connection that begins with it, and, if it is inside of TLS, says so.
func readFirst(c net.Conn) (byte, net.Conn, error) {
	var buf [1]byte
	if _, err := io.ReadFull(c, buf[:]); err != nil {
		return 0, nil, err
	}
	p := prefixed{Conn: c, head: buf[:]}
	if _, ok := c.(*tls.Conn); ok {
		return buf[0], &prefixedTLS{p}, nil
	}
	return buf[0], &p, nil
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

// prefixedTLS is prefixed inside of TLS. Whoever is given it has to find that: for who the peer is, and because a write that was interrupted there
// cannot go on.
type prefixedTLS struct{ prefixed }

// NetConn returns the connection below, as that of *tls.Conn does.
func (p *prefixedTLS) NetConn() net.Conn { return p.Conn }

// An accepted connection is wrapped in one of the two types below, which tell the port once that it is closed. That of TCP keeps the
// methods by which its descriptor is reached.
type tcpConn struct {
	*net.TCPConn
	counted
}

// Close implements net.Conn.
func (c *tcpConn) Close() error {
	c.leave()
	return c.TCPConn.Close()
}

type otherConn struct {
	net.Conn
	counted
}

// Close implements net.Conn.
func (c *otherConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// counted is a connection's place in the port's books.
type counted struct {
	port *Port
	peer netip.Addr
	left atomic.Bool
}

func (c *counted) leave() {
	if !c.left.Swap(true) {
		c.port.gone(c.peer)
	}
}

// TLSState returns the state of the TLS that c, a connection that a Port has handed over, is inside of; nil if it is not.
func TLSState(c net.Conn) *tls.ConnectionState {
	switch c := c.(type) {
	case *Conn:
		return c.tls
	case *tls.Conn:
		s := c.ConnectionState()
		return &s
	case *prefixedTLS:
		return TLSState(c.Conn)
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
	flows *flows // nil for HTTP/1.1
	// Of an HTTP/1.1 connection: whether a part of the next request has come, and whether one is being served.
	begun, serving atomic.Bool
	// userDeadline is what the server set as write deadline, and armed when the port last set its own, in nanoseconds since the port was made;
	// 0 = none.
	userDeadline, armed atomic.Int64
}

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	if c.guard == nil {
		n, err := c.read(b)
		c.notice(n, err)
		return n, err
	}
	for {
		n, err := c.guard.read(b, c.read)
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
	}
}

// notice counts a request over HTTP/1.1 whose header does not come in time, which net/http tells nobody.
func (c *Conn) notice(n int, err error) {
	switch {
	case c.serving.Load():
	case n > 0:
		c.begun.Store(true)
	case err != nil && errors.Is(err, os.ErrDeadlineExceeded) && c.begun.Swap(false):
		c.port.n.slowHeaders.Add(1)
	}
}

// Serving says that a request over HTTP/1.1 has come and is being served, or that the connection waits for the next.
func (c *Conn) Serving(now bool) {
	c.serving.Store(now)
	c.begun.Store(false)
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
	n, err := c.Conn.Read(b)
	if err != nil && c.flows != nil && c.flows.cuts.interrupted(c.Conn, err) {
		err = nil
	}
	return n, err
}

// writePiece is how much of a long write must be taken within Options.SlowReader.
const writePiece = 64 << 10

// Write implements net.Conn.
func (c *Conn) Write(b []byte) (n int, err error) {
	for {
		own, err := c.arm()
		if err != nil {
			return n, err
		}
		part := b[:min(len(b), writePiece)]
		if c.flows != nil {
			part = c.flows.retell(part)
		}
		m, err := c.Conn.Write(part)
		n += m
		if c.flows != nil {
			c.flows.wrote(b[:m])
		} else if bytes.HasPrefix(b[:m], tooLargeHTTP1) {
			c.port.n.largeHeaders.Add(1)
		}
		if err != nil {
			if own && errors.Is(err, os.ErrDeadlineExceeded) {
				c.port.n.slowReaders.Add(1)
			}
			return n, err
		}
		if b = b[m:]; len(b) == 0 {
			return n, c.bye()
		}
	}
}

// What net/http answers if a header is too large, which it tells nobody else: handlers' own answers have a date, and are no such page.
var (
	tooLargeHTTP1 = []byte("HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n431 ")
	tooLargeHTTP2 = []byte("<h1>HTTP Error 431</h1>")
)

// bye asks whether the peer has read all, when the server has said the last thing to it.
func (c *Conn) bye() error {
	if c.flows == nil {
		return nil
	}
	ping := c.flows.ask()
	if ping == nil {
		return nil
	}
	_, err := c.Conn.Write(ping)
	return err
}

// MaxAnswerHeader is how much the peer of an HTTP/2 connection says that it takes of an answer's header, and of its trailer, in bytes as HTTP/2 counts
// them; 0 = it has not said, or c is nil.
func (c *Conn) MaxAnswerHeader() int {
	if c == nil || c.flows == nil {
		return 0
	}
	return int(min(c.flows.header.Load(), math.MaxInt32))
}

// Await bounds how long the peer may leave no room for what was handed to the gRPC server as an answer on a stream: patience times Options.SlowReader, or no
// longer at all if patience is 0. Who does not know the number says 0, and all of the connection's streams are awaited, as long as the most patient. When the time is up the stream is cut off, and counted; if it is the connection that has no room, that is closed. The stream's end
// ends it too.
func (c *Conn) Await(stream uint32, patience int) {
	if c.flows != nil {
		c.flows.await(stream, time.Duration(patience)*c.port.opt.SlowReader)
	}
}

// Tight reports whether the peer may have no room for so many bytes on a stream on which nothing has been sent.
func (c *Conn) Tight(n int64) bool {
	f := c.flows
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return min(f.first, f.total.left) < n
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	if c.flows != nil {
		c.flows.close()
	}
	return c.Conn.Close()
}

// arm sets the deadline of a write, and says whether it is the port's own. To set one costs more than a small write's bookkeeping, so one that was set a
// moment ago serves again: a peer has between SlowReader and a quarter more.
func (c *Conn) arm() (own bool, err error) {
	limit, start := c.port.opt.SlowReader, c.port.start
	now := time.Since(start) // the wall clock may jump
	if d := c.userDeadline.Load(); d != 0 && d < int64(now+limit) {
		c.armed.Store(0)
		return false, c.Conn.SetWriteDeadline(start.Add(time.Duration(d)))
	}
	if at := c.armed.Load(); at != 0 && int64(now)-at < int64(limit/4) {
		return true, nil
	}
	c.armed.Store(max(int64(now), 1))
	return true, c.Conn.SetWriteDeadline(start.Add(now + limit + limit/4))
}

// SetWriteDeadline implements net.Conn. The nearer of t and the port's own bound counts.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	d := int64(0)
	if !t.IsZero() {
		d = int64(t.Sub(c.port.start))
	}
	c.userDeadline.Store(d)
	c.armed.Store(0) // what is set now is the user's
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
