// Package transporttest is the suite that every transport passes. It knows a transport through a Harness and checks what
// package transport promises: answers and errors arrive whole, deadlines and cancellation travel, what is said about the
// fate of a failed call is true, limits hold, and nothing is left behind.
package transporttest

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// DialFunc opens a network connection to an address.
type DialFunc func(ctx context.Context, addr string) (net.Conn, error)

// Limits are what the suite asks a transport to be set to. Zeros ask for the transport's defaults.
type Limits struct {
	MaxMessage, MaxHeader, MaxCalls int
}

// Harness makes the transport under test.
type Harness struct {
	// NewServer returns a server that passes calls to h.
	NewServer func(h transport.Handler, l Limits) (transport.Server, error)
	// NewDialer returns a dialer that opens its network connections with dial.
	NewDialer func(dial DialFunc, l Limits) (transport.Dialer, error)
	// Listen opens a listener and says how to reach it; nil = TCP on the loopback interface.
	Listen func(t *testing.T) (net.Listener, DialFunc)
	// Virtual runs each test in a synctest bubble, which also finds goroutines that are left behind. Listen must then make
	// connections in memory.
	Virtual bool
	// NoStreams declares that the transport carries unary calls only; Open must then fail with Unimplemented.
	NoStreams bool
	// Unordered declares that metadata keeps its order among the values of one key only.
	Unordered bool
	// CallsWait declares that calls above the server's limit wait for a place, within their deadline, instead of being refused.
	CallsWait bool
	// NoGoAway declares that a server cannot tell its callers that it goes away: calls that come later find it gone.
	NoGoAway bool
	// Replaces declares that a Conn replaces network connections that have ended: it is gone only when it can make no other.
	Replaces bool
	// Widens declares that a Conn may make a network connection more when one has as many calls as the server allows on each.
	Widens bool
}

// Run runs the suite, each case as a subtest.
func Run(t *testing.T, h Harness) {
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			run := func(t *testing.T) {
				w := newWorld(t, h, c.limits)
				defer w.stop()
				c.run(t, w)
			}
			if h.Virtual {
				synctest.Test(t, run)
			} else {
				run(t)
			}
		})
	}
	t.Run("streams", func(t *testing.T) { runStreams(t, h) })
}

// testCase is one property, proved against a fresh server.
type testCase struct {
	name   string
	limits Limits
	run    func(t *testing.T, w *world)
}

// world is a server, a dialer that reaches it, and what is needed to disturb them.
type world struct {
	t       *testing.T
	h       *handler
	server  transport.Server
	dialer  transport.Dialer
	addr    string
	ln      net.Listener
	virtual bool
	can     Harness // what the transport declares
	serving sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn // both ends
	calls []transport.Conn
}

func newWorld(t *testing.T, h Harness, l Limits) *world {
	t.Helper()
	w := &world{t: t, h: newHandler(), virtual: h.Virtual, can: h}
	var dial DialFunc
	if h.Listen != nil {
		w.ln, dial = h.Listen(t)
	} else {
		ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		w.ln = ln
		dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	w.addr = w.ln.Addr().String()
	var err error
	if w.server, err = h.NewServer(w.h, l); err != nil {
		t.Fatal(err)
	}
	if w.dialer, err = h.NewDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := dial(ctx, addr)
		if err == nil {
			w.keep(c)
		}
		return c, err
	}, l); err != nil {
		t.Fatal(err)
	}
	w.serving.Go(func() {
		for {
			c, err := w.ln.Accept()
			if err != nil {
				return
			}
			w.keep(c)
			w.serving.Go(func() { w.server.ServeConn(c) })
		}
	})
	return w
}

func (w *world) keep(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns = append(w.conns, c)
}

// connections is how many network connections there are, of which each has two ends if the server has accepted it.
func (w *world) connections() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return (len(w.conns) + 1) / 2
}

// cut ends all network connections without a goodbye from either side.
func (w *world) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // so that closing resets
		}
		c.Close()
	}
	w.conns = nil
}

// stop ends everything and waits for what the suite itself started.
func (w *world) stop() {
	w.h.release()
	for _, c := range w.calls {
		c.Close()
		<-c.Done()
	}
	w.server.Close()
	w.ln.Close()
	w.serving.Wait()
	w.h.running.Wait()
}

// dial opens a connection of the transport.
func (w *world) dial() transport.Conn {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := w.dialer.Dial(ctx, w.addr)
	if err != nil {
		w.t.Fatalf("dial: %v", err)
	}
	w.calls = append(w.calls, c)
	return c
}

// request is a call of the suite's handler with a payload of bytes.
func request(method, payload string) *transport.Request {
	b := []byte(payload)
	return &transport.Request{Method: "test.Suite/" + method, Codec: codec.Bytes{}, Message: &b, PathAttempt: 1,
		Deadline: policy.Now().Add(20 * time.Second)}
}

// call makes a call and returns the answer.
func call(ctx context.Context, c transport.Conn, req *transport.Request) (string, *transport.Reply, *status.Error) {
	var b []byte
	rep := &transport.Reply{Message: &b}
	err := c.Call(ctx, req, rep)
	return string(b), rep, err
}

// expect checks what is known about a failed call.
func expect(t *testing.T, err *status.Error, code status.Code, kind status.Kind, fate status.Fate) {
	t.Helper()
	if err == nil {
		t.Fatalf("the call succeeded, want %v (%v, %v)", code, kind, fate)
	}
	if err.Code != code || err.Kind != kind || err.Fate != fate {
		t.Fatalf("got %v (%v, %v), want %v (%v, %v): %v", err.Code, err.Kind, err.Fate, code, kind, fate, err)
	}
}

// untilDeadline makes calls whose handler waits for its context, each with more time than the one before, until the handler
// of one has run, and returns how that call ended. On a machine that stands still a deadline may pass before the handler
// starts, which shows nothing.
func (w *world) untilDeadline(makeCall func(left time.Duration) *status.Error) *status.Error {
	left := 100 * time.Millisecond
	for ; left < time.Minute; left *= 4 {
		if err := makeCall(left); w.h.ran("Wait") > 0 || w.virtual {
			return err
		}
	}
	w.t.Fatalf("with %v to go no handler has started", left/4)
	return nil
}

// expectDeadline checks the error of a call whose handler waits for its context: the caller's clock may notice first, or
// the handler's answer arrive. A caller that was itself held up may say so, where time is real.
func (w *world) expectDeadline(err *status.Error) {
	w.t.Helper()
	kind, fate := status.Timeout, status.Maybe
	if err != nil && err.Kind == status.Answered {
		kind, fate = status.Answered, status.Processed
	} else if err != nil && err.Kind == status.Stalled && !w.virtual {
		kind = status.Stalled
	}
	expect(w.t, err, status.DeadlineExceeded, kind, fate)
}
