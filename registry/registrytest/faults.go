package registrytest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/registry"
)

// faultPatience bounds each wait of a fault's test, which is for the engine and for busy machines; what it takes is
// logged.
const faultPatience = 90 * time.Second

// Fault is something that befalls a real engine.
type Fault struct {
	// Begin makes it happen, End undoes it; either may be nil.
	Begin, End func()
	// Noticed declares that the engine does not answer meanwhile and that watchers must notice, without anything
	// changing: the snapshot turns stale.
	Noticed bool
	// Hold is how long it lasts; if Noticed, from then on.
	Hold time.Duration
	// Refuses declares that nobody can connect meanwhile; then Err is looked for in what a new program is told.
	Refuses bool
	Err     string
}

// RunFaults holds a driver to what a Registry promises whatever befalls its engine: the nodes of living processes never
// leave the snapshots of those who watch, and never turn empty; a program that starts meanwhile works as soon as the
// engine does; and a short while after the end everything is as it was. begin makes an engine, empty and healthy, with
// what can befall it. TTL in its harness is that of the registrations; 0 = 4 s.
func RunFaults(t *testing.T, begin func(t *testing.T) (Harness, Fault)) {
	h, f := begin(t)
	if h.TTL == 0 {
		h.TTL = 4 * time.Second
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*faultPatience)
	defer cancel()
	w := &faulty{T: t, h: h, ctx: ctx}
	var ids []string
	for i := range 3 {
		ids = append(ids, fmt.Sprintf("n%d", i))
		w.register(w.open(), ids[i])
	}
	view := w.open().Open("greeter")
	w.until(view, "the nodes before the fault", whole(ids...))
	unhurt := w.guard(view, ids...)

	began := time.Now()
	if f.Begin != nil {
		f.Begin()
	}
	if f.Noticed {
		w.until(view, "that the engine does not answer", func(s *registry.Service) bool { return s.Stale })
		t.Logf("noticed after %v", time.Since(began).Round(10*time.Millisecond))
	}
	late, lateView := w.open(), (*registry.View)(nil)
	if f.Refuses {
		// A program that starts now is not held up, and is told.
		g := w.register(late, "late")
		lateView = late.Open("greeter")
		if err := g.Err(); err == nil {
			t.Error("a registration succeeded while nobody can connect")
		}
		ask, cancel := context.WithTimeout(ctx, faultPatience)
		_, err := late.Lookup(ask, "greeter")
		cancel()
		w.says(err, f.Err)
	}
	w.pass(f.Hold)
	end := time.Now()
	if f.End != nil {
		f.End()
	}
	if !f.Refuses {
		w.register(late, "late")
		lateView = late.Open("greeter")
	}
	ids = append(ids, "late")
	w.until(view, "the new node, by who watched before", func(s *registry.Service) bool { return s.Node("late") != nil })
	t.Logf("a new node was found %v after its end", time.Since(end).Round(10*time.Millisecond))
	w.until(lateView, "all nodes, by who came later", whole(ids...))
	w.until(view, "all nodes, without a doubt", whole(ids...))
	t.Logf("all was well %v after its end", time.Since(end).Round(10*time.Millisecond))
	unhurt()
}

// faulty is what a fault's test has open.
type faulty struct {
	*testing.T
	h     Harness
	ctx   context.Context
	nodes int
}

func (w *faulty) open() *registry.Registry {
	w.Helper()
	r, err := registry.New(w.h.Open(), registry.Options{TTL: w.h.TTL, Interval: w.h.TTL / 4})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = r.Close() }) // the engine may be gone by now
	return r
}

func (w *faulty) register(r *registry.Registry, id string) *registry.Registration {
	w.Helper()
	n := plain("greeter", id)
	w.nodes++
	n.Address = fmt.Sprintf("192.0.2.%d:8080", w.nodes) // who has another's address takes its place
	g, err := r.Register(w.ctx, *n)
	if err != nil {
		w.Fatal(err)
	}
	return g
}

// until waits for a snapshot that fits.
func (w *faulty) until(v *registry.View, what string, fits func(*registry.Service) bool) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, faultPatience)
	defer cancel()
	for {
		changed := v.Changed()
		if fits(v.Snapshot()) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			s := v.Snapshot()
			w.Fatalf("%s: not seen; last seen %d nodes (%d of them doubtful), stale %v: %s", what, len(s.Nodes), s.Disbelieved, s.Stale, s.Why)
		}
	}
}

// whole fits a snapshot of these nodes that nothing is wrong with.
func whole(ids ...string) func(*registry.Service) bool {
	return func(s *registry.Service) bool {
		for _, id := range ids {
			if s.Node(id) == nil {
				return false
			}
		}
		return len(s.Nodes) == len(ids) && !s.Stale && s.Disbelieved == 0
	}
}

// guard fails the test if a node is ever missing from v's snapshots, until the function it returns is called.
func (w *faulty) guard(v *registry.View, ids ...string) (end func()) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			changed := v.Changed()
			s := v.Snapshot()
			for _, id := range ids {
				if s.Node(id) == nil {
					w.Errorf("node %s is missing although it lives: %d nodes, stale %v, %s", id, len(s.Nodes), s.Stale, s.Why)
					return
				}
			}
			select {
			case <-changed:
			case <-stop:
				return
			}
		}
	})
	end = sync.OnceFunc(func() { close(stop); wg.Wait() })
	w.Cleanup(end)
	return end
}

// says asserts that a new program is told why it finds nothing.
func (w *faulty) says(err error, what string) {
	w.Helper()
	if err == nil {
		w.Error("a lookup succeeded while nobody can connect")
		return
	}
	if what != "" && !strings.Contains(err.Error(), what) {
		w.Errorf("a new program is told: %v; want it to say %q", err, what)
	}
}

// pass lets time go by.
func (w *faulty) pass(d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-w.ctx.Done():
	}
}
