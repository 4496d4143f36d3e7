package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/status"
)

// callEvery is the pace of calls.
const callEvery = 5 * time.Millisecond

// Calls lets faults befall an engine one after another while a client makes 200 calls a second to three servers that know
// each other through it, and wants every one of them answered. After each fault another server starts, and has to be found
// within five seconds, those apart in which the machine stood still.
func Calls(t *testing.T, s Subject, faults ...Fault) {
	t.Helper()
	w := begin(t, s)
	for i := range 3 {
		w.serve(fmt.Sprintf("n%d", i))
	}
	for i := range 3 {
		w.until(fmt.Sprintf("n%d", i))
	}
	stalled := w.stalled
	end := w.load()
	for i, f := range faults {
		if f.Begin != nil {
			f.Begin()
		}
		w.hold(f)
		began := time.Now()
		if f.End != nil {
			f.End()
		}
		ready, before := time.Now(), stalled()
		late := fmt.Sprintf("late-%d", i)
		stop := w.serve(late)
		w.until(late)
		took, stood := time.Since(ready), stalled()-before
		t.Logf("%s: the engine took %v to return, a new node was found %v later (of which the machine stood still for %v)", f.Name,
			ready.Sub(began).Round(time.Millisecond), took.Round(time.Millisecond), stood.Round(time.Millisecond))
		if took > foundWithin+stood {
			t.Errorf("%s: a new node was found %v after the engine's return, want at most %v", f.Name, took.Round(time.Millisecond), foundWithin)
		}
		for i := range 3 {
			w.until(fmt.Sprintf("n%d", i))
		}
		stop()
	}
	end()
}

// callers are a client and servers.
type callers struct {
	*testing.T
	s      Subject
	client *hull.Client
	view   *registry.View
	// stalled is for how long the machine stood still so far.
	stalled func() time.Duration
}

func begin(t *testing.T, s Subject) *callers {
	t.Helper()
	c, err := hull.NewClient(hull.WithRegistry(s.registry(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	v := c.Registry().Open(service)
	t.Cleanup(func() { _ = v.Close() })
	return &callers{T: t, s: s, client: c, view: v, stalled: stalls(t)}
}

// serve starts a server of the service and returns when it serves; it need not be registered yet.
func (w *callers) serve(id string) (stop func()) {
	w.Helper()
	return w.serveAs(service, id, "127.0.0.1:0", nil)
}

func (w *callers) serveAs(name, id, addr string, called func()) (stop func()) {
	w.Helper()
	s, err := newServer(name, w.s.registry(w), id, addr, called)
	if err != nil {
		w.Fatal(err)
	}
	return w.run(s, id)
}

// run runs a server and returns when it serves.
func (w *callers) run(s *hull.Server, id string) (stop func()) {
	w.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("node %s: %v", id, err)
		}
	})
	w.Cleanup(stop)
	select {
	case <-s.Ready():
	case <-time.After(patience):
		w.Fatalf("node %s does not get ready", id)
	}
	return stop
}

// until waits for a node that the engine lists.
func (w *callers) until(id string) {
	w.Helper()
	until(w, w.view, "node "+id, listed(id))
}

// load calls until the function it returns is called, which waits for what is under way and wants that nothing has failed. A call whose
// attempts got no answer in time while the machine stood still is no engine's fault, and is not counted.
func (w *callers) load() (end func()) {
	return w.loadWith(func(ctx context.Context, c *hull.Client) error {
		_, err := hull.Call[greeting](ctx, c.To(service), method, &greeting{Name: "Ada"})
		return err
	})
}

// loadWith is load with a call of one's own.
func (w *callers) loadWith(one func(context.Context, *hull.Client) error) (end func()) {
	var (
		mu      sync.Mutex
		n       int
		excused int
		errs    []error
		wg      sync.WaitGroup
	)
	stop := make(chan struct{})
	began := time.Now()
	call := func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		before := w.stalled()
		err := one(ctx, w.client)
		mu.Lock()
		defer mu.Unlock()
		n++
		switch {
		case err == nil:
		case status.CodeOf(err) == status.DeadlineExceeded && (stood(err) || w.stalled() > before):
			excused++
		default:
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
	w.Cleanup(halt)
	return func() {
		w.Helper()
		halt()
		for i, err := range errs {
			if i < 5 {
				w.Errorf("a call failed: %v", err)
			}
		}
		w.Logf("%d calls, %d failed, %d got no answer while the machine stood still", n, len(errs), excused)
	}
}

// stood reports whether a call's last attempt got no answer in time while this process stood still, as the client saw it.
func stood(err error) bool {
	e, ok := errors.AsType[*status.Error](err)
	return ok && e.Kind == status.Stalled
}

// hold lets a fault's time go by, and logs when the client notices that the engine does not answer.
func (w *callers) hold(f Fault) {
	began, over := time.Now(), time.After(f.Hold)
	for noticed := false; ; {
		changed := w.view.Changed()
		if !noticed && w.view.Snapshot().Stale {
			noticed = true
			w.Logf("%s: noticed after %v", f.Name, time.Since(began).Round(10*time.Millisecond))
		}
		select {
		case <-changed:
		case <-over:
			return
		}
	}
}

// pass lets time go by.
func pass(d time.Duration) { <-time.After(d) }
