package hull

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/muxtransport"
)

// handshakeTimeout is how long a connection may take to say what it speaks.
const handshakeTimeout = 5 * time.Second

// idleTimeout is how long an HTTP connection is kept for its next request.
const idleTimeout = 2 * time.Minute

// front accepts the connections of a server's one port and gives each to the protocol that its first bytes name: the
// native one, or HTTP if the server has a handler for it.
type front struct {
	ln   net.Listener
	wire transport.Server
	http *http.Server // nil: native only
	web  *handedListener
	log  *slog.Logger
	wg   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{} // still undecided
}

func newFront(ln net.Listener, wire transport.Server, h http.Handler, log *slog.Logger) *front {
	f := &front{ln: ln, wire: wire, log: log, conns: map[net.Conn]struct{}{}}
	if h != nil {
		f.web = &handedListener{conns: make(chan net.Conn), done: make(chan struct{}), addr: ln.Addr()}
		f.http = &http.Server{Handler: h, ReadHeaderTimeout: handshakeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: 64 << 10,
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	}
	return f
}

// closeGrace is how long the goroutines of connections may take to end when these have been closed: a handler that does not
// listen to its context must not keep the program from ending.
const closeGrace = time.Second

// wait waits for the goroutines of all connections, after serve has returned and everything is closed.
func (f *front) wait() {
	done := make(chan struct{})
	go func() {
		f.wg.Wait()
		close(done)
	}()
	t := time.NewTimer(closeGrace)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		f.log.Warn("a handler does not end, although its connection is closed and its context has ended; not waiting for it")
	}
}

// serve accepts until the listener is closed or fails.
func (f *front) serve() error {
	if f.http != nil {
		f.wg.Add(1)
		go func() {
			defer f.wg.Done()
			_ = f.http.Serve(f.web) // ends with drain or close
		}()
	}
	var pause time.Duration
	for {
		c, err := f.ln.Accept()
		if err != nil {
			f.mu.Lock()
			closed := f.closed
			f.mu.Unlock()
			if closed || errors.Is(err, net.ErrClosed) {
				return nil
			}
			if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Temporary() { //nolint:staticcheck // EMFILE and ECONNABORTED have no other name
				return err
			}
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			f.log.Warn("accepting a connection failed; trying again", "error", err, "in", pause)
			time.Sleep(pause)
			continue
		}
		pause = 0
		f.mu.Lock()
		if f.closed {
			f.mu.Unlock()
			c.Close()
			continue
		}
		f.conns[c] = struct{}{}
		f.mu.Unlock()
		f.wg.Add(1)
		go func() {
			defer f.wg.Done()
			f.route(c)
		}()
	}
}

// route reads the byte that tells the protocol, and hands the connection over with that byte still in it.
func (f *front) route(c net.Conn) {
	defer func() {
		f.mu.Lock()
		delete(f.conns, c)
		f.mu.Unlock()
	}()
	if f.http == nil {
		f.decided(c)
		f.wire.ServeConn(c)
		return
	}
	var first [1]byte
	_ = c.SetReadDeadline(time.Now().Add(handshakeTimeout))
	if _, err := io.ReadFull(c, first[:]); err != nil {
		c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	f.decided(c)
	pc := &prefixed{Conn: c, head: first[:]}
	if first[0] == muxtransport.Magic[0] {
		f.wire.ServeConn(pc)
		return
	}
	f.web.hand(pc)
}

// decided says that a protocol is responsible for the connection from here on.
func (f *front) decided(c net.Conn) {
	f.mu.Lock()
	delete(f.conns, c)
	f.mu.Unlock()
}

// drain stops accepting and lets what is under way finish until ctx ends.
func (f *front) drain(ctx context.Context) error {
	f.stopAccepting()
	if f.http == nil {
		return f.wire.Drain(ctx)
	}
	web := make(chan error, 1)
	go func() { web <- f.http.Shutdown(ctx) }() // a page that is never done must not hold up the calls
	err := f.wire.Drain(ctx)
	return errors.Join(err, <-web)
}

// close ends everything at once.
func (f *front) close() {
	f.stopAccepting()
	if f.http != nil {
		f.http.Close()
	}
	f.wire.Close()
}

func (f *front) stopAccepting() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.ln.Close()
	for c := range f.conns {
		c.Close()
	}
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

// handedListener gives an http.Server the connections that turned out to be its own.
type handedListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	addr  net.Addr
}

func (l *handedListener) hand(c net.Conn) {
	select {
	case l.conns <- c:
	case <-l.done:
		c.Close()
	}
}

// Accept implements net.Listener.
func (l *handedListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *handedListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *handedListener) Addr() net.Addr { return l.addr }
