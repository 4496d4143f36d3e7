package engine

import (
	"context"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/registry"
)

const (
	// patience bounds each wait on a busy machine.
	patience = 2 * time.Minute
	// foundWithin is how soon after an engine's return a new node has to be found.
	foundWithin = 5 * time.Second
)

// Subject is a registry's server in the hands of the suites. What it has no function for does not befall it.
type Subject struct {
	// URL is where programs find it, and FromURL makes a driver of that.
	URL     string
	FromURL func(*url.URL) (registry.Driver, error)
	// TTL is that of registrations.
	TTL time.Duration

	Kill, Start     func()
	Freeze, Thaw    func()
	Cut, Mend       func() // without a word to anyone
	Wipe            func() // returns when it serves again
	Revoke, Restore func() // the programs' credentials
	// Slow delays what passes in each direction, by Delay in the suites.
	Slow  func(time.Duration)
	Delay time.Duration
}

// Fault befalls an engine for a while. Begin and End may be nil.
type Fault struct {
	Name       string
	Begin, End func()
	// Hold is how long it lasts.
	Hold time.Duration
}

// Faults are all that can befall the subject, each until all registrations are over.
func (s Subject) Faults() []Fault {
	long := s.TTL + s.TTL/2
	var all []Fault
	add := func(name string, hold time.Duration, begin, end func()) {
		if begin != nil {
			all = append(all, Fault{Name: name, Begin: begin, End: end, Hold: hold})
		}
	}
	add("credentials revoked", long, s.Revoke, s.Restore)
	if s.Slow != nil {
		add("slow", s.TTL, func() { s.Slow(s.Delay) }, func() { s.Slow(0) })
	}
	if s.Kill != nil {
		add("restarted at once", 0, func() { s.Kill(); s.Start() }, nil)
	}
	add("killed", long, s.Kill, s.Start)
	add("frozen until all leases are over", long, s.Freeze, s.Thaw)
	add("cut off silently", long, s.Cut, s.Mend)
	add("wiped empty", 0, s.Wipe, nil)
	return all
}

// driver returns one as a program of its own would have it.
func (s Subject) driver(t testing.TB) registry.Driver {
	t.Helper()
	u, err := registry.ParseURL(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.FromURL(u)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// registry returns one as a program of its own would have it.
func (s Subject) registry(t testing.TB) *registry.Registry {
	t.Helper()
	r, err := registry.New(s.driver(t), registry.Options{TTL: s.TTL, Interval: s.TTL / 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() }) // the engine may be gone by now
	return r
}

// program starts a node as a process of its own, and returns when it serves; it need not be registered yet.
func (s Subject) program(t testing.TB, id, listen string) (p *Process, addr string) {
	t.Helper()
	p = Self(t, programRole, func() []string { return []string{s.URL, id, listen, s.TTL.String()} })
	return p, p.Start()
}

// until waits for a snapshot that fits.
func until(t testing.TB, v *registry.View, what string, fits func(*registry.Service) bool) {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		changed := v.Changed()
		s := v.Snapshot()
		if fits(s) {
			return
		}
		select {
		case <-changed:
		case <-late.C:
			t.Fatalf("%s: not seen; last seen %d nodes, stale %v: %s", what, len(s.Nodes), s.Stale, s.Why)
		}
	}
}

// listed fits a snapshot in which the engine lists a node.
func listed(id string) func(*registry.Service) bool {
	return func(s *registry.Service) bool {
		n := s.Node(id)
		return n != nil && !n.Absent && !s.Stale
	}
}

// stalls measures how long this machine stands still, which is no engine's fault, until the test ends.
func stalls(t testing.TB) (total func() time.Duration) {
	const every = 5 * time.Millisecond
	var (
		mu  sync.Mutex
		sum time.Duration
	)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			now := time.Now()
			if gap := now.Sub(last); gap > 2*every {
				mu.Lock()
				sum += gap - every
				mu.Unlock()
			}
			last = now
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return sum
	}
}
