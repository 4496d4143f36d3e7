package registry

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Belief decides which nodes of one service a Registry believes in. It is pure: now is an argument, and nothing in it starts, waits or
// locks, so that simulations decide by the same code. Programs have no use for it: a Registry has one for each service, and a View shows what comes of it.
// It is not safe for concurrent use. New ones come from NewBelief.
//
// A node the engine lists is present. One that is missing is gone at once if its departure is proved, if it said that
// it was draining, if callers fail to reach it, or if its address now belongs to another node. Otherwise it has merely
// vanished: a few at a time are believed to be gone, but when more than share of the fleet vanish within window, or
// all of it, they are kept as absent until callers fail to reach them, or grace has passed without a success of which it is certain that the
// node meant was the one that answered.
type Belief struct {
	share         float64
	window, grace time.Duration
	// probing says that somebody looks at absent nodes that identify themselves.
	probing bool

	entries map[string]*entry
	absent  int
	failing int
	// answered: an engine's answer has been heard. disk: entries came from the disk and have not been confirmed.
	answered, disk bool

	// Vanishings believed since windowStart, of a fleet of base.
	windowStart time.Time
	base, gone  int

	why   string
	since time.Time
	// twice are IDs that the last answer gave to entries which differ.
	twice []string
}

type entry struct {
	node *Node
	// shown is node, or a copy with Absent set.
	shown *Node
	// absent is when the node vanished, zero while it is present; vouched is the last success after that.
	absent, vouched time.Time
	// probed is when it was last asked who it is.
	probed time.Time
	// failing is when callers last failed to reach it, zero after a success.
	failing time.Time
}

// NewBelief returns a belief in nobody. Of the options TTL, Disbelieve and Grace count, and whether there is a Probe.
func NewBelief(o Options) (*Belief, error) {
	if err := o.normalise(); err != nil {
		return nil, err
	}
	b := newBelief(o)
	return &b, nil
}

func newBelief(o Options) Belief {
	return Belief{share: o.Disbelieve, window: o.TTL, grace: o.Grace, probing: o.Probe != nil, entries: map[string]*entry{}}
}

// adopt takes nodes from the disk, while the engine has not answered.
func (b *Belief) adopt(nodes []*Node) bool {
	if b.answered || len(b.entries) > 0 || len(nodes) == 0 {
		return false
	}
	b.disk = true
	for _, n := range nodes {
		b.entries[n.ID] = &entry{node: n, shown: n}
	}
	return true
}

// Update takes an engine's answer and reports whether anything changed.
func (b *Belief) Update(now time.Time, up Update) bool {
	changed := !b.answered
	b.answered = true
	if b.disk {
		// An answer replaces what the disk remembered; only silence is doubted.
		if len(up.Nodes) > 0 {
			clear(b.entries)
		}
		b.disk, changed = false, true
	}
	if now.Sub(b.windowStart) >= b.window {
		b.windowStart, b.base, b.gone = now, len(b.entries), 0
	}
	b.base = max(b.base, len(b.entries))

	b.twice = nil
	listed := make(map[string]*Node, len(up.Nodes))
	var addresses map[string]bool
	for _, n := range slices.Backward(up.Nodes) { // of two with one ID the last counts
		if last := listed[n.ID]; last != nil {
			if len(b.twice) < maxReports && !last.Equal(n) {
				b.twice = append(b.twice, n.ID)
			}
			continue
		}
		listed[n.ID] = n
		e := b.entries[n.ID]
		if e == nil {
			b.entries[n.ID] = &entry{node: n, shown: n}
			changed = true
			continue
		}
		if !e.absent.IsZero() {
			e.absent, e.vouched = time.Time{}, time.Time{}
			b.absent--
			e.node, e.shown, changed = n, n, true
		} else if !e.node.Equal(n) {
			e.node, e.shown, changed = n, n, true
		}
	}
	for _, d := range up.Left {
		if listed[d.ID] == nil && b.remove(d.ID) {
			changed = true
		}
	}
	if len(listed) == len(b.entries) {
		b.calm()
		return changed
	}

	var vanished []*entry
	for id, e := range b.entries {
		if listed[id] != nil {
			continue
		}
		if addresses == nil {
			addresses = make(map[string]bool, len(up.Nodes))
			for _, n := range up.Nodes {
				addresses[n.Address] = true
			}
		}
		recent := !e.failing.IsZero() && now.Sub(e.failing) < b.window
		switch {
		case e.node.Draining, recent, addresses[e.node.Address]:
			b.remove(id)
			changed = true
		case e.absent.IsZero():
			vanished = append(vanished, e)
		}
	}
	missing := b.absent + len(vanished)
	doubt := len(listed) == 0 || float64(b.gone+missing) > b.share*float64(b.base)
	for _, e := range vanished {
		changed = true
		if !doubt {
			b.remove(e.node.ID)
			b.gone++
			continue
		}
		c := *e.node
		c.Absent = true
		e.shown, e.absent, e.vouched = &c, now, now
		b.absent++
	}
	if doubt && len(vanished) > 0 {
		b.why = fmt.Sprintf("%d of %d nodes vanished from the registry at once", b.gone+missing, b.base)
		if len(listed) == 0 {
			b.why = fmt.Sprintf("the registry lists none of %d nodes any more", b.base)
		}
		if b.since.IsZero() {
			b.since = now
		}
	}
	b.calm()
	return changed
}

// Report takes what a caller has seen of a node, and reports whether anything changed.
func (b *Belief) Report(now time.Time, id string, healthy bool) bool {
	e := b.entries[id]
	if e == nil {
		return false
	}
	if healthy {
		if !e.failing.IsZero() {
			e.failing = time.Time{}
			b.failing--
		}
		if !e.absent.IsZero() {
			e.vouched = now
		}
		return false
	}
	if !e.absent.IsZero() {
		b.remove(id)
		b.calm()
		return true
	}
	if e.failing.IsZero() {
		b.failing++
	}
	e.failing = now
	return false
}

// Expire lets go of absent nodes nobody vouches for, and reports whether there were any.
func (b *Belief) Expire(now time.Time) bool {
	if b.absent == 0 {
		return false
	}
	changed := false
	for id, e := range b.entries {
		if !e.absent.IsZero() && !now.Before(b.end(e)) {
			changed = b.remove(id)
		}
	}
	b.calm()
	return changed
}

// Deadline is when Expire should be called next; zero = never.
func (b *Belief) Deadline() time.Time {
	var t time.Time
	if b.absent == 0 {
		return t
	}
	for _, e := range b.entries {
		if e.absent.IsZero() {
			continue
		}
		if end := b.end(e); t.IsZero() || end.Before(t) {
			t = end
		}
	}
	return t
}

// end is when an absent node goes if nobody vouches for it any more. One that is asked who it is, and does not answer,
// need not be given as long as one of which nothing is heard.
func (b *Belief) end(e *entry) time.Time {
	if b.probing && e.node.Identifies {
		return e.vouched.Add(min(b.grace, silence))
	}
	return e.vouched.Add(b.grace)
}

func (b *Belief) remove(id string) bool {
	e := b.entries[id]
	if e == nil {
		return false
	}
	if !e.absent.IsZero() {
		b.absent--
	}
	if !e.failing.IsZero() {
		b.failing--
	}
	delete(b.entries, id)
	return true
}

func (b *Belief) calm() {
	if b.absent == 0 {
		b.why, b.since = "", time.Time{}
	}
}

// Nodes returns what is shown to callers, sorted by ID.
func (b *Belief) Nodes() []*Node {
	out := make([]*Node, 0, len(b.entries))
	for _, e := range b.entries {
		out = append(out, e.shown)
	}
	slices.SortFunc(out, func(a, c *Node) int { return strings.Compare(a.ID, c.ID) })
	return out
}
