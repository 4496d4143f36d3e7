package engine

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/registry"
)

const (
	// callEvery is the pace of calls, callPatience what bounds one, and each wait, on a busy machine.
	callEvery    = 5 * time.Millisecond
	callPatience = time.Minute
)

// Fault befalls an engine for a while. End may be nil.
type Fault struct {
	Name       string
	Begin, End func()
	// Hold is how long it lasts.
	Hold time.Duration
}

// Calls lets faults befall an engine one after another while a client makes 200 calls a second to three servers that know
// each other through it, and wants every one of them answered. After each fault another server starts, and has to be found. open
// returns a driver as one more process would have it, with registrations of that ttl.
func Calls(t *testing.T, ttl time.Duration, open func() registry.Driver, faults ...Fault) {
	t.Helper()
	w := &callers{t: t, ttl: ttl, open: open}
	for i := range 3 {
		w.serve(fmt.Sprintf("n%d", i))
	}
	c, err := hull.NewClient(hull.WithRegistry(w.registry()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	view := c.Registry().Open("greeter")
	defer view.Close()
	for i := range 3 {
		w.until(view, fmt.Sprintf("n%d", i))
	}
	end := w.load(c)
	for _, f := range faults {
		f.Begin()
		timer := time.NewTimer(f.Hold)
		<-timer.C
		began := time.Now()
		if f.End != nil {
			f.End()
		}
		ready := time.Since(began)
		late := fmt.Sprintf("late-%d", w.count)
		stop := w.serve(late)
		w.until(view, late)
		t.Logf("%s: the engine took %v to return, a new node was found %v later", f.Name, ready.Round(time.Millisecond), (time.Since(began) - ready).Round(time.Millisecond))
		for i := range 3 {
			w.until(view, fmt.Sprintf("n%d", i))
		}
		stop()
	}
	calls, failed := end()
	for i, err := range failed {
		if i < 5 {
			t.Errorf("a call failed: %v", err)
		}
	}
	t.Logf("%d calls, %d failed", calls, len(failed))
}

type callers struct {
	t     *testing.T
	ttl   time.Duration
	open  func() registry.Driver
	count int
}

func (w *callers) registry() *registry.Registry {
	w.t.Helper()
	r, err := registry.New(w.open(), registry.Options{TTL: w.ttl, Interval: w.ttl / 4})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = r.Close() }) // the engine may be gone by now
	return r
}

type greeting struct{ Name string }

// serve starts a server and returns when it serves; it need not be registered yet.
func (w *callers) serve(id string) (stop func()) {
	w.t.Helper()
	w.count++
	s, err := hull.NewServer("greeter", hull.WithRegistry(w.registry()), hull.NodeID(id))
	if err != nil {
		w.t.Fatal(err)
	}
	hull.Handle(s, "greeter.Greeter/Hello", func(_ context.Context, in *greeting) (*greeting, error) { return in, nil }, hull.Idempotent())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("node %s: %v", id, err)
		}
	})
	w.t.Cleanup(stop)
	select {
	case <-s.Ready():
	case <-time.After(callPatience):
		w.t.Fatalf("node %s does not get ready", id)
	}
	return stop
}

// until waits for a node that the engine lists.
func (w *callers) until(v *registry.View, id string) {
	w.t.Helper()
	late := time.After(callPatience)
	for {
		changed := v.Changed()
		s := v.Snapshot()
		if n := s.Node(id); n != nil && !n.Absent && !s.Stale {
			return
		}
		select {
		case <-changed:
		case <-late:
			w.t.Fatalf("node %s is not found: %d nodes, stale %v: %s", id, len(s.Nodes), s.Stale, s.Why)
		}
	}
}

// load calls until the function it returns is called, which waits for what is under way.
func (w *callers) load(c *hull.Client) (end func() (calls int, failed []error)) {
	var (
		mu   sync.Mutex
		n    int
		errs []error
		wg   sync.WaitGroup
	)
	stop := make(chan struct{})
	began := time.Now()
	call := func() {
		ctx, cancel := context.WithTimeout(context.Background(), callPatience)
		defer cancel()
		_, err := hull.Call[greeting](ctx, c.To("greeter"), "greeter.Greeter/Hello", &greeting{Name: "Ada"})
		mu.Lock()
		defer mu.Unlock()
		if n++; err != nil {
			errs = append(errs, err)
		}
	}
	wg.Go(func() {
		tick := time.NewTicker(callEvery)
		defer tick.Stop()
		for started := 0; ; {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			for ; started < int(time.Since(began)/callEvery); started++ { // a busy machine loses ticks
				wg.Go(call)
			}
		}
	})
	halt := sync.OnceFunc(func() { close(stop); wg.Wait() })
	w.t.Cleanup(halt)
	return func() (int, []error) {
		halt()
		return n, errs
	}
}
