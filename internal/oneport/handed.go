package oneport

import (
	"net"
	"sync"
)

// Handed is a listener for a protocol's server, whose connections have been accepted elsewhere.
type Handed struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	addr  net.Addr
}

var _ net.Listener = (*Handed)(nil)

// NewHanded returns a Handed with the address of the real listener.
func NewHanded(addr net.Addr) *Handed {
	return &Handed{conns: make(chan net.Conn), done: make(chan struct{}), addr: addr}
}

// Hand gives a connection to the server; it is closed if the server has stopped.
func (l *Handed) Hand(c net.Conn) {
	select {
	case l.conns <- c:
	case <-l.done:
		c.Close()
	}
}

// Accept implements net.Listener.
func (l *Handed) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *Handed) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *Handed) Addr() net.Addr { return l.addr }
