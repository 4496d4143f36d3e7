package sim

import (
	"slices"
	"time"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/status"
)

// belief is what one caller makes of what the registry says of a service: the decision is package registry's own, as programs have it. Nobody probes; calls
// vouch for the nodes that they reach.
type belief struct{ *registry.Belief }

func newBelief() (b belief, err error) {
	b.Belief, err = registry.NewBelief(registry.Options{})
	return b, err
}

// clock is a time as package registry wants it.
func clock(t policy.Time) time.Time { return time.Unix(0, int64(t)) }

// hear takes what the registry says now. A caller that doubts nothing takes it as it is.
func (t *target) hear(l *Lab, said []*registry.Node) {
	if t.belief.Belief == nil {
		t.take(l, said)
		return
	}
	if t.belief.Update(clock(l.Now()), registry.Update{Nodes: said}) {
		t.take(l, t.belief.Nodes())
	}
	t.expires(l)
}

// forget is what a caller does that does not keep what it knows.
func (t *target) forget(l *Lab) {
	if t.belief.Belief != nil {
		var err error
		if t.belief, err = newBelief(); err != nil {
			panic(err) // the first one was made in the same way
		}
	}
	t.take(l, nil)
}

// take gives the balancer the nodes that are believed in.
func (t *target) take(l *Lab, nodes []*registry.Node) {
	before := t.picker.Nodes()
	t.picker.Update(l.Now(), &registry.Service{Name: t.service.Name, Nodes: nodes})
	for _, n := range t.picker.Nodes() {
		if !slices.Contains(before, n) { // somebody is new, which is news to breakers
			t.book.Nudge(l.Now(), t.service.Name)
			return
		}
	}
}

// expires looks again when absent nodes may be given up.
func (t *target) expires(l *Lab) {
	at := t.belief.Deadline()
	if at.IsZero() || l.Elapsed() > l.last {
		return
	}
	b := t.belief
	l.After(max(at.Sub(clock(l.Now())), 0), func() {
		if t.belief != b { // it was forgotten meanwhile
			return
		}
		if b.Expire(clock(l.Now())) {
			t.take(l, b.Nodes())
		}
		t.expires(l)
	})
}

// sees tells what came of an attempt, if somebody waits for it: a node that nobody answers at is gone, and one that the registry has lost and that answers is there.
func (t *target) sees(l *Lab, n *balance.Node, err error) {
	if t.belief.Belief == nil {
		return
	}
	here := true
	if e := status.From(err); e != nil {
		if e.Kind != status.Dial && e.Fate != status.Processed {
			return
		}
		here = e.Kind != status.Dial
	}
	if t.belief.Report(clock(l.Now()), n.ID(), here) {
		t.take(l, t.belief.Nodes())
	}
}
