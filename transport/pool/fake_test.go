package pool_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"math/rand/v2"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/pool"
)

// fakeDialer makes fakeConns, or fails, as told.
type fakeDialer struct {
	mu    sync.Mutex
	takes time.Duration
	hang  bool          // dials end with their context only
	late  time.Duration // … and that much later, as in a process that stands still, the first time
	err   *status.Error
	at    []time.Time // of all dials
	conns []*fakeConn
}

func (d *fakeDialer) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *fakeDialer) dials() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.at)
}

func (d *fakeDialer) conn(i int) *fakeConn {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conns[i]
}

func (d *fakeDialer) Dial(ctx context.Context, _ string) (transport.Conn, *status.Error) {
	d.mu.Lock()
	d.at = append(d.at, time.Now())
	takes, hang, late := d.takes, d.hang, d.late
	if late > 0 {
		d.late, hang = 0, true
	}
	d.mu.Unlock()
	var due <-chan time.Time
	if !hang {
		due = time.After(takes)
	}
	select {
	case <-due:
	case <-ctx.Done():
		time.Sleep(late)
		return nil, &status.Error{Code: status.DeadlineExceeded, Cause: ctx.Err()}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return nil, d.err
	}
	c := &fakeConn{done: make(chan struct{})}
	d.conns = append(d.conns, c)
	return c, nil
}

// fakeConn is a connection that carries nothing.
type fakeConn struct {
	transport.Conn // the calls; nil, since the pool makes none
	inFlight       atomic.Int64
	worn, drained  atomic.Bool
	once           sync.Once
	done           chan struct{}
}

func (c *fakeConn) Usable() bool          { return !c.worn.Load() }
func (c *fakeConn) InFlight() int         { return int(c.inFlight.Load()) }
func (c *fakeConn) Done() <-chan struct{} { return c.done }

func (c *fakeConn) Close() error {
	c.worn.Store(true)
	c.once.Do(func() { close(c.done) })
	return nil
}

func (c *fakeConn) Drain() {
	c.worn.Store(true)
	c.drained.Store(true)
	if c.inFlight.Load() == 0 {
		_ = c.Close()
	}
}

// end lets the calls of a draining connection end.
func (c *fakeConn) end() {
	c.inFlight.Store(0)
	_ = c.Close()
}

// refused is how a dialer says that nobody listens.
var refused = &status.Error{Code: status.Unavailable, Kind: status.Dial, Fate: status.NotSent, Message: "connection refused"}

const addr = "node:80"

// bubble is a pool over a fake dialer in virtual time.
type bubble struct {
	t *testing.T
	*pool.Pool
	d     *fakeDialer
	start time.Time

	mu     sync.Mutex
	states []string
}

func inBubble(t *testing.T, o pool.Options, f func(t *testing.T, b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{t: t, d: &fakeDialer{takes: 10 * time.Millisecond}, start: time.Now()}
		o.OnState = func(n *pool.Node, up bool, err *status.Error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			s := "down"
			if up {
				s = "up"
			}
			if up != (err == nil) {
				s += "?!"
			}
			b.states = append(b.states, n.Addr()+" "+s)
		}
		if o.Source == nil {
			seed := rand.Uint64()
			t.Log("seed", seed)
			o.Source = rand.NewPCG(seed, 0)
		}
		p, err := pool.New(b.d, o)
		if err != nil {
			t.Fatal(err)
		}
		b.Pool = p
		defer p.Close()
		f(t, b)
	})
}

// get gets within d; 0 = no deadline.
func (b *bubble) get(d time.Duration) (*fakeConn, *status.Error) {
	var deadline policy.Time
	if d > 0 {
		deadline = policy.Now().Add(d)
	}
	c, err := b.Get(b.t.Context(), addr, deadline)
	if err != nil {
		if c != nil || err.Fate != status.NotSent {
			b.t.Fatalf("%v, %v (fate %v)", c, err, err.Fate)
		}
		return nil, err
	}
	return c.(*fakeConn), nil
}

// mustGet gets a connection.
func (b *bubble) mustGet() *fakeConn {
	b.t.Helper()
	c, err := b.get(0)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// elapsed expects that d has passed since the beginning.
func (b *bubble) elapsed(d time.Duration) {
	b.t.Helper()
	if e := time.Since(b.start); e != d {
		b.t.Fatalf("at %v, want %v", e, d)
	}
}

// told expects the states that OnState was told so far.
func (b *bubble) told(want ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.states) != len(want) {
		b.t.Fatalf("told %v, want %v", b.states, want)
	}
	for i := range want {
		if b.states[i] != addr+" "+want[i] {
			b.t.Fatalf("told %v, want %v", b.states, want)
		}
	}
}

// between expects lo ≤ d ≤ hi.
func between(t *testing.T, what string, d, lo, hi time.Duration) {
	t.Helper()
	if d < lo || d > hi {
		t.Fatalf("%s: %v, want %v to %v", what, d, lo, hi)
	}
}
