package faults

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Listener is a TCP listener that can refuse: its port is closed, as if nobody listened, and the connections that it had
// accepted are reset. It keeps its address. It is safe for concurrent use.
type Listener struct {
	addr net.Addr

	mu     sync.Mutex
	inner  net.Listener // nil while refusing
	back   chan struct{}
	conns  map[*conn]struct{}
	closed bool
}

// Listen listens on a TCP address.
func Listen(ctx context.Context, addr string) (*Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &Listener{addr: l.Addr(), inner: l, back: make(chan struct{}), conns: map[*conn]struct{}{}}, nil
}

// Addr returns the address, also while it refuses.
func (l *Listener) Addr() net.Addr { return l.addr }

// Accept waits for a connection; while the listener refuses, for the end of that.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		l.mu.Lock()
		inner, back, closed := l.inner, l.back, l.closed
		l.mu.Unlock()
		if closed {
			return nil, net.ErrClosed
		}
		if inner == nil {
			<-back
			continue
		}
		c, err := inner.Accept()
		if err != nil {
			l.mu.Lock()
			gone := l.inner != inner
			l.mu.Unlock()
			if gone {
				continue
			}
			return nil, err
		}
		k := &conn{Conn: c, l: l}
		l.mu.Lock()
		refused := l.inner != inner
		if !refused {
			l.conns[k] = struct{}{}
		}
		l.mu.Unlock()
		if refused {
			reset(c)
			continue
		}
		return k, nil
	}
}

// Refuse closes the port and resets what is connected.
func (l *Listener) Refuse() {
	l.mu.Lock()
	if l.closed || l.inner == nil {
		l.mu.Unlock()
		return
	}
	l.inner.Close()
	l.inner = nil
	var conns []*conn
	for c := range l.conns {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	for _, c := range conns {
		reset(c.Conn)
	}
}

// Restore listens again, on the same port. It fails if another program has taken the port meanwhile.
func (l *Listener) Restore(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.inner != nil {
		return nil
	}
	var lc net.ListenConfig
	inner, err := lc.Listen(ctx, "tcp", l.addr.String())
	for range 50 {
		// The kernel may need a moment to give the port back.
		if err == nil {
			break
		}
		if e := pause(ctx, 10*time.Millisecond); e != nil {
			break
		}
		inner, err = lc.Listen(ctx, "tcp", l.addr.String())
	}
	if err != nil {
		return err
	}
	l.inner = inner
	close(l.back)
	l.back = make(chan struct{})
	return nil
}

// Close closes the port for good. Connections stay: they belong to whoever accepted them.
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	close(l.back)
	if l.inner == nil {
		return nil
	}
	return l.inner.Close()
}

// conn is an accepted connection that its listener can still reach.
type conn struct {
	net.Conn
	l *Listener
}

// Close closes the connection and forgets it.
func (c *conn) Close() error {
	c.l.mu.Lock()
	delete(c.l.conns, c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// reset ends a connection the hard way.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		if err := t.SetLinger(0); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Close()
			return
		}
	}
	c.Close()
}
