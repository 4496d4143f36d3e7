package invariant

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hull-go/hull/policy"
)

// Gauge says what a count is when everything has ended: places, permits, calls in flight, goroutines beyond the baseline. Abandoned
// ones may be up to limit, others must be 0.
func (c *Checker) Gauge(name string, value, limit int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[8]++
	if value < 0 || value > limit {
		c.violated(8, 0, "%s is %d in the end, at most %d may be left", name, value, limit)
	}
}

// Nodes is what a caller makes of a service at one moment.
type Nodes struct {
	Service string
	// Known nodes, Ejected ones, and how many may be.
	Known, Ejected, MaxEjected int
	// FailingOpen: so many are ejected that all are used; Said: a flag says so.
	FailingOpen, Said bool
	// Live is how many nodes run and can be reached, by the account of who started them; -1 = not known.
	Live int
	// Young: live nodes have not had the time yet to become known.
	Young bool
	At    policy.Time
}

// Nodes says what a caller makes of a service.
func (c *Checker) Nodes(n Nodes) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[9]++
	if n.Ejected > n.MaxEjected {
		c.violated(9, n.At, "%d of %d nodes of %s are ejected, %d may be", n.Ejected, n.Known, n.Service, n.MaxEjected)
	}
	if n.Known > 0 && n.Ejected >= n.Known {
		c.violated(9, n.At, "all %d nodes of %s are ejected", n.Known, n.Service)
	}
	if n.FailingOpen && !n.Said {
		c.violated(9, n.At, "all nodes of %s are used, good or bad, and nothing says so", n.Service)
	}
	if n.Live >= 0 {
		c.seen[15]++
		if n.Known == 0 && n.Live > 0 && !n.Young {
			c.violated(15, n.At, "no node of %s is known, and %d live", n.Service, n.Live)
		}
	}
}

// opening is a breaker that opened.
type opening struct {
	key    string
	window time.Duration
	at     policy.Time
}

// BreakerOpened says that the breaker of key opened, for what it saw in the window before.
func (c *Checker) BreakerOpened(key string, window time.Duration, at policy.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened = append(c.opened, opening{key, window, at})
}

// Spell is a time for which something was in a state that must end.
type Spell struct {
	// State is what it was ("open", "ejected", "disbelieving"), Key what was in it, Cause what it came from: a name that Caused
	// was told; "" = it came from nothing that is known.
	State, Key, Cause string
	From, To          policy.Time // To 0 = it has not ended
	// Max is how long the state lasts at most when its cause has gone.
	Max time.Duration
}

// Spell says that something was in a state.
func (c *Checker) Spell(s Spell) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spells = append(c.spells, s)
}

// Caused says from when to when the cause of states was there; to 0 = it still is.
func (c *Checker) Caused(cause string, from, to policy.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.causes[cause] = append(c.causes[cause], span{from, to})
}

// Phase is a time of known load on a service.
type Phase struct {
	Service  string
	From, To policy.Time
	// Capacity is what the service can do a second.
	Capacity float64
}

// Phase says that the service had that capacity all the time. What was offered to it is taken from its calls. Leave out the time that it
// needs to learn its limit.
func (c *Checker) Phase(p Phase) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phases = append(c.phases, p)
}

// Report is what a run came to.
type Report struct {
	// Offered calls, and how they ended.
	Offered int
	Ended   map[Outcome]int
	// Judged is how often each invariant had something to judge, by its number: one that was never judged was not tested.
	Judged [Rules + 1]int
	// Broken counts violations by number; Violations are the first of each.
	Broken     [Rules + 1]int
	Violations []Violation
	// Latest is how long after its deadline the latest call ended, beside what its process stood still, of those that were later than 50 ms; 0 = there were none.
	Latest time.Duration
}

// Err returns nil if nothing was broken, or an error that lists what was.
func (r *Report) Err() error {
	if len(r.Violations) == 0 {
		return nil
	}
	var b strings.Builder
	for n, k := range r.Broken {
		if k > 0 {
			fmt.Fprintf(&b, "invariant %d was broken %d times\n", n, k)
		}
	}
	for _, v := range r.Violations {
		b.WriteString(v.String() + "\n")
	}
	return fmt.Errorf("%s", strings.TrimSuffix(b.String(), "\n"))
}

// Untested returns the invariants of those that had nothing to judge.
func (r *Report) Untested(of ...Rule) (left []Rule) {
	for _, n := range of {
		if r.Judged[n] == 0 {
			left = append(left, n)
		}
	}
	return left
}

// Report judges what can only be judged in the end, at now, and returns everything.
func (c *Checker) Report(now policy.Time) *Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tally.clone()
	r := c.report(&t, now)
	for _, call := range c.open {
		t.violated(1, 0, "call %d to %s has not ended", call.ID, call.Service)
	}
	return r.of(&t)
}

// Look returns what is known by now of a run that goes on: calls under way and states that last are nothing yet. It forgets what Options.Keep says.
func (c *Checker) Look(now policy.Time) *Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.o.Keep > 0 {
		c.forget(now.Add(-c.o.Keep), now)
	}
	t := c.tally.clone()
	return c.report(&t, now).of(&t)
}

func (t *tally) clone() tally {
	k := *t
	for n := range k.told {
		k.told[n] = slices.Clone(k.told[n])
	}
	return k
}

// of completes a report with what t says.
func (r *Report) of(t *tally) *Report {
	r.Judged, r.Broken, r.Latest = t.seen, t.broken, t.latest
	for _, v := range t.told {
		r.Violations = append(r.Violations, v...)
	}
	return r
}

// report judges into t what depends on what is told later.
func (c *Checker) report(t *tally, now policy.Time) *Report {
	r := &Report{Ended: maps.Clone(c.ended), Offered: len(c.open)}
	for _, n := range c.ended {
		r.Offered += n
	}
	for i := range c.late {
		c.judgeLate(t, &c.late[i])
	}
	for service, n := range c.attempts {
		t.seen[5]++
		if most := 1.1*float64(c.roots) + float64(c.o.Burst); c.roots > 0 && float64(n) > most {
			t.violated(5, 0, "%d attempts at %s for %d root calls and a burst of %d: %.2f each", n, service, c.roots, c.o.Burst, float64(n)/float64(c.roots))
		}
	}
	for i := range c.opened {
		c.judgeOpening(t, &c.opened[i])
	}
	for i := range c.spells {
		c.judgeSpell(t, &c.spells[i], now)
	}
	for _, p := range c.phases {
		c.judgePhase(t, p)
	}
	return r
}

// forget judges for good, and drops, what was over before a time. Calls that began before it and have not ended are kept.
func (c *Checker) forget(before, now policy.Time) {
	old := func(at policy.Time) bool { return at < before }
	c.late = slices.DeleteFunc(c.late, func(l late) bool {
		if old(l.at) {
			c.judgeLate(&c.tally, &l)
		}
		return old(l.at)
	})
	c.opened = slices.DeleteFunc(c.opened, func(o opening) bool {
		if old(o.at) {
			c.judgeOpening(&c.tally, &o)
		}
		return old(o.at)
	})
	c.spells = slices.DeleteFunc(c.spells, func(s Spell) bool {
		gone := s.To != 0 && old(s.To)
		if gone {
			c.judgeSpell(&c.tally, &s, now)
		}
		return gone
	})
	c.phases = slices.DeleteFunc(c.phases, func(p Phase) bool {
		if old(p.From) { // while its calls are known
			c.judgePhase(&c.tally, p)
		}
		return old(p.From)
	})
	maps.DeleteFunc(c.done, func(_ uint64, at policy.Time) bool { return old(at) })
	maps.DeleteFunc(c.neverSent, func(_ uint64, at policy.Time) bool { return old(at) })
	maps.DeleteFunc(c.starts, func(_ uint64, b begun) bool { return old(b.at) })
	maps.DeleteFunc(c.keys, func(_ string, b begun) bool { return old(b.at) })
	c.ends = slices.DeleteFunc(c.ends, func(e end) bool { return old(e.at) })
	for key, all := range c.failures {
		c.failures[key] = slices.DeleteFunc(all, old)
	}
	for _, spans := range []map[string][]span{c.stalls, c.causes} {
		for key, all := range spans {
			spans[key] = slices.DeleteFunc(all, func(s span) bool { return s.to != 0 && old(s.to) })
		}
	}
}

// judgeLate judges invariant 2 of a call that ended after its deadline.
func (c *Checker) judgeLate(t *tally, l *late) {
	over := l.by - c.stalled(l.Process, l.At, l.at)
	if t.latest = max(t.latest, over); over > c.o.Grace {
		t.violated(2, l.at, "call %d to %s ended %v after its deadline", l.ID, l.Service, l.by)
	}
}

// judgeOpening judges invariant 10.
func (c *Checker) judgeOpening(t *tally, o *opening) {
	t.seen[10]++
	if !slices.ContainsFunc(c.failures[o.key], func(at policy.Time) bool { return at <= o.at && o.at.Sub(at) <= o.window }) {
		t.violated(10, o.at, "the breaker of %s opened, and no call of it had failed in the %v before", o.key, o.window)
	}
}

// judgeSpell judges invariant 11.
func (c *Checker) judgeSpell(t *tally, s *Spell, now policy.Time) {
	t.seen[11]++
	until := s.To
	if until == 0 {
		until = now
	}
	gone := s.From // a state without a cause has had it since it began
	for _, cause := range c.causes[s.Cause] {
		if cause.from > until {
			continue
		}
		if cause.to == 0 {
			return
		}
		gone = max(gone, cause.to)
	}
	if over := until.Sub(gone) - s.Max; over > c.o.Recovery {
		t.violated(11, until, "%s has been %s for %v after its cause had ended (%s); %v is the most", s.Key, s.State, until.Sub(gone), s.Cause, s.Max)
	}
}

// judgePhase judges invariants 12 and 13.
func (c *Checker) judgePhase(t *tally, p Phase) {
	type count struct{ offered, served, shed int }
	var all count
	var classes [4]count
	for i := range c.ends {
		e := &c.ends[i]
		if e.service != p.Service || e.began < p.From || e.began >= p.To {
			continue
		}
		for _, n := range []*count{&all, &classes[rank(e.criticality)]} {
			n.offered++
			if e.good {
				n.served++
			}
			if e.shed {
				n.shed++
			}
		}
	}
	seconds := p.To.Sub(p.From).Seconds()
	if seconds <= 0 || all.offered == 0 {
		return
	}
	t.seen[12]++
	capacity := p.Capacity * seconds
	switch load := float64(all.offered) / capacity; {
	case load >= 1 && float64(all.served) < 0.9*capacity:
		t.violated(12, p.From, "%s served %d of the %.0f calls that it could have in %.1f s at %.2f of its capacity", p.Service, all.served, capacity, seconds, load)
	case load <= 0.8 && float64(all.shed) > 0.01*float64(all.offered):
		t.violated(12, p.From, "%s shed %d of %d calls at %.2f of its capacity", p.Service, all.shed, all.offered, load)
	}
	t.seen[13]++
	for i, n := range classes {
		if float64(n.shed) <= c.o.Reserve*float64(n.offered) {
			continue
		}
		for j, lower := range classes[i+1:] {
			if float64(lower.served) > c.o.Reserve*capacity+1 {
				t.violated(13, p.From, "%s shed %d of %d %s calls and served %d %s ones", p.Service, n.shed, n.offered, byRank[i], lower.served, byRank[i+1+j])
			}
		}
	}
}

// byRank are the classes, the most important first.
var byRank = [4]policy.Criticality{policy.CriticalPlus, policy.Critical, policy.SheddablePlus, policy.Sheddable}

func rank(c policy.Criticality) int { return slices.Index(byRank[:], c) }
