package memnet

import (
	"net"
	"sync"
)

// listener is a net.Listener of one host and port.
type listener struct {
	h    *Host
	port int
	addr addr

	// Under Network.mu.
	cond    sync.Cond
	backlog []*Conn
	closed  bool
}

// Accept waits for a connection.
func (l *listener) Accept() (net.Conn, error) {
	n := l.h.n
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		if l.closed {
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
		}
		if !l.h.frozen && len(l.backlog) > 0 {
			c := l.backlog[0]
			l.backlog = l.backlog[:copy(l.backlog, l.backlog[1:])]
			n.wakeLocked()
			return c, nil
		}
		l.cond.Wait()
	}
}

// Close stops listening. Connections that nobody has accepted are reset.
func (l *listener) Close() error {
	n := l.h.n
	n.mu.Lock()
	if l.closed {
		n.mu.Unlock()
		return &net.OpError{Op: "close", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
	}
	l.closed = true
	delete(l.h.listeners, l.port)
	waiting := l.backlog
	l.backlog = nil
	l.cond.Broadcast()
	n.wakeLocked()
	n.mu.Unlock()
	for _, c := range waiting {
		c.reset()
		_ = c.Close()
	}
	return nil
}

// Addr returns "host:port".
func (l *listener) Addr() net.Addr { return l.addr }
