package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy forwards TCP connections to a server whose address may change. It is closed with the test.
type Proxy struct {
	l  net.Listener
	wg sync.WaitGroup

	mu     sync.Mutex
	to     string // empty = connections are reset
	slow   time.Duration
	cut    chan struct{} // open while nothing passes; nil = it does
	conns  map[net.Conn]struct{}
	closed bool
}

// NewProxy returns a proxy that resets every connection until it is told where to forward them.
func NewProxy(t testing.TB) *Proxy {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{l: l, conns: map[net.Conn]struct{}{}}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.l.Addr().String() }

// Forward sends new connections to addr from now on; empty = resets them.
func (p *Proxy) Forward(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = addr
}

// Reset resets all connections.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		reset(c)
	}
}

// Slow delays what passes by d, in each direction.
func (p *Proxy) Slow(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slow = d
}

// Cut lets nothing pass, without a word to anyone: what has been accepted hangs.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut == nil {
		p.cut = make(chan struct{})
	}
}

// Mend undoes Cut; what has been held back passes.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut != nil {
		close(p.cut)
		p.cut = nil
	}
}

func (p *Proxy) close() {
	p.Mend()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.l.Close()
	p.Reset()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(c) })
	}
}

func (p *Proxy) serve(c net.Conn) {
	if !p.keep(c) {
		return
	}
	defer p.drop(c)
	to := p.pass()
	if to == "" {
		reset(c)
		return
	}
	s, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", to)
	if err != nil {
		reset(c)
		return
	}
	if !p.keep(s) {
		return
	}
	defer p.drop(s)
	var both sync.WaitGroup
	both.Go(func() { p.copy(s, c) })
	both.Go(func() { p.copy(c, s) })
	both.Wait()
}

// pass waits while nothing may pass, and returns where connections go.
func (p *Proxy) pass() string {
	for {
		p.mu.Lock()
		cut, to := p.cut, p.to
		p.mu.Unlock()
		if cut == nil {
			return to
		}
		<-cut
	}
}

func (p *Proxy) copy(to, from net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		p.mu.Lock()
		slow := p.slow
		p.mu.Unlock()
		if slow > 0 {
			<-time.After(slow)
		}
		p.pass()
		if n > 0 {
			if _, werr := to.Write(b[:n]); err == nil {
				err = werr
			}
		}
		if errors.Is(err, io.EOF) { // whoever ends in good order may have said why: a reset would overtake that
			if c, ok := to.(*net.TCPConn); ok {
				_ = c.CloseWrite()
			}
			return
		}
		if err != nil {
			reset(to)
			reset(from)
			return
		}
	}
}

func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		reset(c)
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) drop(c net.Conn) {
	reset(c)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// reset ends a connection as the kernel does for a process that died.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
