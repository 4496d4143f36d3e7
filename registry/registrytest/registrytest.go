// Package registrytest is the conformance suite of registry drivers. Every driver runs it against the real thing; what
// a driver cannot do is declared in the Harness and asserted, not skipped.
package registrytest

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/registry"
)

// Harness is one engine, empty and healthy, made for one test.
type Harness struct {
	// Open returns a driver on the engine, as one more process would have. It is called several times; the suite
	// closes what it opens if it is an io.Closer.
	Open func() registry.Driver
	// TTL is a short one the engine can keep, for the test that lets it pass; 0 = 1 s.
	TTL time.Duration
	// Lose makes the engine forget a node behind the back of its owner; nil = that cannot be done from outside.
	Lose func(service, id string)
	// Plant puts an entry into the engine, whatever its value is; nil = that cannot be done from outside.
	Plant func(service, id, value string)
	// Guarded declares that nobody can take the entry of a living process away: Deregister says ErrAlive.
	Guarded bool
	// ReadOnly declares that the driver cannot register nodes; then Present is what it lists.
	ReadOnly bool
	Present  []registry.Node
	// Nameless declares that List knows no names although there are nodes.
	Nameless bool
	// Replaces declares that the engine cannot tell a living node from a dead one of the same ID, so that a second
	// announcement replaces the first instead of failing with ErrTaken.
	Replaces bool
	// Virtual declares that the engine lives within a testing/synctest bubble; the suite then runs in virtual time.
	Virtual bool
}

// Patience is how long the suite waits for what has to happen; the tests wait for conditions and take no longer than
// they need.
const Patience = 20 * time.Second

// Run runs the suite; open makes a new engine for each test and cleans it up with t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	run := func(name string, test func(t *testing.T, h Harness)) {
		t.Run(name, func(t *testing.T) {
			h := open(t)
			if !h.Virtual {
				test(t, h)
				return
			}
			synctest.Test(t, func(t *testing.T) { test(t, open(t)) })
		})
	}
	run("WatchEndsWithItsContext", testWatchEnds)
	run("AnUnknownServiceIsAnsweredAsEmpty", testUnknown)
	if h := open(t); h.ReadOnly {
		run("ReadOnly", testReadOnly)
		return
	}
	run("AnnouncedNodesAreSeenAsTheyAre", testAnnounce)
	run("UpdatesAreSeen", testUpdate)
	run("DeregistrationIsADeparture", testDepart)
	run("ExpiryIsNoDeparture", testExpire)
	run("StrangeNames", testNames)
	run("OneIDTwice", testTwice)
	run("ManyNodes", testMany)
	run("DeregisteredByHand", testDeregister)
	run("GarbageIsRefusedByItself", testGarbage)
	run("RegistryKeepsANodeRegistered", testRegistry)
	run("LossIsMended", testLoss)
	run("ClosedDriver", testClosed)
}

// session is what a test has open.
type session struct {
	*testing.T
	h   Harness
	ctx context.Context
}

func begin(t *testing.T, h Harness) *session {
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return &session{T: t, h: h, ctx: ctx}
}

// open returns a driver that is closed at the end of the test.
func (s *session) open() registry.Driver {
	d := s.h.Open()
	if c, ok := d.(io.Closer); ok {
		s.Cleanup(func() {
			if err := c.Close(); err != nil {
				s.Errorf("close the driver: %v", err)
			}
		})
	}
	return d
}

func (s *session) announcer() registry.Announcer {
	s.Helper()
	a, ok := s.open().(registry.Announcer)
	if !ok {
		s.Fatal("the driver is no Announcer: declare ReadOnly")
	}
	return a
}

func (s *session) announce(a registry.Announcer, n *registry.Node, ttl time.Duration) registry.Lease {
	s.Helper()
	l, err := a.Announce(s.ctx, n, ttl)
	if err != nil {
		s.Fatalf("announce %s of %s: %v", n.ID, n.Service, err)
	}
	return l
}

// watching is a running Watch.
type watching struct {
	s       *session
	updates chan registry.Update
	err     chan error
	cancel  context.CancelFunc
	last    registry.Update
	left    map[string]string
	refused map[string]int
	seen    int
}

func (s *session) watch(d registry.Driver, service string) *watching {
	ctx, cancel := context.WithCancel(s.ctx)
	w := &watching{s: s, updates: make(chan registry.Update, 10_000), err: make(chan error, 1), cancel: cancel, left: map[string]string{}, refused: map[string]int{}}
	go func() {
		w.err <- d.Watch(ctx, service, func(up registry.Update) { w.updates <- up })
	}()
	s.Cleanup(func() {
		if err := w.end(); err == nil {
			s.Error("a watch ended without an error")
		}
	})
	return w
}

// end stops the watch and returns its error.
func (w *watching) end() error {
	w.cancel()
	err := <-w.err
	w.err <- err // for the cleanup
	return err
}

// until waits for an update that fits.
func (w *watching) until(what string, fits func(nodes map[string]*registry.Node) bool) {
	w.s.Helper()
	for {
		if w.seen > 0 && fits(w.nodes()) {
			return
		}
		select {
		case up := <-w.updates:
			w.seen++
			w.last = up
			for _, d := range up.Left {
				w.left[d.ID] = d.Why
			}
			for _, r := range up.Refused {
				w.refused[r.Entry]++
				if r.Err == nil {
					w.s.Errorf("entry %q is refused without a reason", r.Entry)
				}
			}
		case err := <-w.err:
			w.err <- err
			w.s.Fatalf("waiting for %s, the watch ended: %v", what, err)
		case <-w.s.ctx.Done():
			w.s.Fatalf("%s was not seen; last seen: %v", what, w.nodes())
		}
	}
}

func (w *watching) nodes() map[string]*registry.Node {
	m := map[string]*registry.Node{}
	for _, n := range w.last.Nodes {
		m[n.ID] = n
	}
	return m
}

func has(ids ...string) func(map[string]*registry.Node) bool {
	return func(m map[string]*registry.Node) bool {
		for _, id := range ids {
			if m[id] == nil {
				return false
			}
		}
		return len(m) == len(ids)
	}
}

// Full returns a valid node that uses every field.
func Full(service, id string) *registry.Node {
	return &registry.Node{ID: id, Service: service, Version: "v1.2.3-ü", Address: "192.0.2.7:8080",
		Protocols: []string{"hull/1", "grpc"}, Zone: "z1", Region: "north", Weight: 7, Draining: true,
		Labels:  map[string]string{"tier": "gold", "empty": "", "quote": `"<>&\`},
		Methods: []registry.Method{{Name: "a.B/C", Idempotent: true}, {Name: "a.B/D", SideEffectFree: true}},
		Started: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}
}

func plain(service, id string) *registry.Node {
	return &registry.Node{ID: id, Service: service, Address: "192.0.2.7:8080"}
}
