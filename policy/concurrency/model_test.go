package concurrency

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// model is the limiter as one would write it without a care for cost. It knows no roots and no source.
type model struct {
	o       Options
	inUse   int
	line    []waits // in the order they came
	owed    []uint32
	credit  [4]int
	reserve int
	stand   [4][2]stood
}

type waits struct {
	tag          uint32
	class, late  int // 0 is the most important; late: a retry
	since, until policy.Time
}

// stood is when a line was last seen short and long.
type stood struct {
	short, long policy.Time
	dropping    bool
}

func newModel(o Options) *model {
	m := &model{o: o}
	if o.Queue >= 8 {
		m.reserve = max(1, o.Queue/50)
	}
	return m
}

func (m *model) waits(c *policy.Call, now policy.Time, tag uint32) waits {
	w := waits{tag: tag, since: now, class: map[policy.Criticality]int{policy.CriticalPlus: 0, policy.Critical: 1, policy.SheddablePlus: 2, policy.Sheddable: 3}[c.Criticality]}
	if c.PathAttempt > 1 {
		w.late = 1
	}
	if w.until = now.Add(m.o.MaxWait); c.Deadline != 0 && c.Deadline < w.until {
		w.until = c.Deadline
	}
	return w
}

func (m *model) count(f func(waits) bool) (n int) {
	for _, w := range m.line {
		if f(w) {
			n++
		}
	}
	return n
}

// inClass picks the first or last of a class and, if late is not negative, of those that are retries or not; −1 = none.
func (m *model) inClass(class, late int, last bool) int {
	found := -1
	for i, w := range m.line {
		if w.class == class && w.late == late && (found < 0 || last) {
			found = i
		}
	}
	return found
}

// judge is CoDel: a line whose first has waited above Target all through an Interval stands until it was short for 16 of them.
func (m *model) judge(now policy.Time, class, late int) {
	if m.o.Order != CoDel {
		return
	}
	s := &m.stand[class][late]
	if now < s.short {
		s.short = now
	}
	if now < s.long {
		s.long = now
	}
	if i := m.inClass(class, late, false); i >= 0 && now.Sub(m.line[i].since) > m.o.Target {
		s.long = now
		if now.Sub(s.short) > m.o.Interval {
			s.dropping = true
		}
		return
	}
	s.short = now
	if now.Sub(s.long) > 16*m.o.Interval {
		s.dropping = false
	}
}

func (m *model) newestFirst(class, late int) bool {
	return m.o.Order == LIFO || m.stand[class][late].dropping
}

func (m *model) over(now policy.Time, w waits) bool {
	return now >= w.until || m.stand[w.class][w.late].dropping && now.Sub(w.since) >= 2*m.o.Target
}

// victim is who has to make room for a.
func (m *model) victim(a waits) int {
	last := func(class, late int) int { return m.inClass(class, late, !m.newestFirst(class, late)) } // who would be served last
	of := func(class int) int {
		if i := last(class, 1); i >= 0 {
			return i
		}
		return last(class, 0)
	}
	own := m.count(func(w waits) bool { return w.class == a.class })
	poor := a.late == 0 && own < m.reserve
	for class := 3; class >= 0; class-- {
		n := m.count(func(w waits) bool { return w.class == class })
		switch {
		case class == a.class:
			if i := last(class, 1); a.late == 0 && i >= 0 {
				return i
			}
			if !poor {
				return -1
			}
		case n > m.reserve && (class > a.class || poor):
			return of(class)
		}
	}
	return -1
}

func (m *model) full() bool { return len(m.line) >= m.o.Queue }

func (m *model) admit(a waits) policy.Decision {
	switch {
	case m.inUse < m.o.Limit && len(m.line) == 0:
		m.inUse++
		return policy.Admit
	case !m.full() || m.count(func(w waits) bool { return w.class != a.class || w.late != a.late }) > 0:
		return policy.Park // and Join may still refuse
	}
	return policy.Refuse
}

func (m *model) join(now policy.Time, a waits) policy.Decision {
	d := m.admit(a)
	if d != policy.Park {
		return d
	}
	if m.full() {
		v := m.victim(a)
		if v < 0 {
			return policy.Refuse
		}
		m.owed = append(m.owed, m.line[v].tag)
		m.line = slices.Delete(m.line, v, v+1)
	}
	m.judge(now, a.class, a.late)
	if m.stand[a.class][a.late].dropping {
		a.until = min(a.until, now.Add(2*m.o.Target))
	}
	m.line = append(m.line, a)
	return policy.Park
}

func (m *model) leave(tag uint32) bool {
	n := len(m.line) + len(m.owed)
	m.line = slices.DeleteFunc(m.line, func(w waits) bool { return w.tag == tag })
	m.owed = slices.DeleteFunc(m.owed, func(t uint32) bool { return t == tag })
	return len(m.line)+len(m.owed) < n
}

func (m *model) next(now policy.Time) (uint32, policy.Decision, bool) {
	take := func(i int, d policy.Decision) (uint32, policy.Decision, bool) {
		tag := m.line[i].tag
		m.line = slices.Delete(m.line, i, i+1)
		return tag, d, true
	}
	if len(m.owed) > 0 {
		tag := m.owed[0]
		m.owed = m.owed[1:]
		return tag, policy.Refuse, true
	}
	for class := range 4 {
		for late := range 2 {
			if i := m.inClass(class, late, false); i >= 0 {
				if m.judge(now, class, late); m.over(now, m.line[i]) {
					return take(i, policy.Refuse)
				}
			}
		}
	}
	if len(m.line) == 0 {
		return 0, 0, false
	}
	var present []int
	for class := range 4 {
		if m.count(func(w waits) bool { return w.class == class }) > 0 {
			present = append(present, class)
		}
	}
	class := present[0]
	for _, k := range present[1:] {
		if m.credit[k] >= 50 {
			class = k
			break
		}
	}
	i := m.inClass(class, 0, m.newestFirst(class, 0))
	if i < 0 {
		i = m.inClass(class, 1, m.newestFirst(class, 1))
	}
	if m.newestFirst(class, m.line[i].late) && m.over(now, m.line[i]) {
		return take(i, policy.Refuse)
	}
	if m.inUse >= m.o.Limit {
		return 0, 0, false
	}
	m.inUse++
	for _, k := range present[1:] {
		m.credit[k] = min(m.credit[k]+1, 50)
		if k == class {
			m.credit[k] = max(m.credit[k]-50, 0)
		}
	}
	return take(i, policy.Admit)
}

// force makes desks as if processors had met, that keep more than they otherwise would.
func (l *Limiter) force() {
	l.keepShift = 0
	l.makeDesks()
}

// Random interleavings of everything, in any order, with places left at desks or not, give the same answers as the model: all orders, classes and retries, work that ends at
// any time or never, waiters that leave at any time or never, and a clock that jumps both ways.
func TestAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	runs := 100_000
	dropped, displaced, lent := 0, 0, 0
	if quick || testing.Short() {
		runs = 5_000
	}
	for run := range uint64(runs) {
		rnd := rand.New(rand.NewPCG(seed, run))
		o := Options{Limit: 1 + rnd.IntN(4), Queue: rnd.IntN(12), MaxWait: time.Duration(1 + rnd.IntN(40)), Order: FIFO + Order(rnd.IntN(3)),
			Target: time.Duration(1 + rnd.IntN(5)), Interval: time.Duration(1 + rnd.IntN(15))}
		if run%4 == 0 { // long enough for reserves
			o.Queue = 50 + rnd.IntN(60)
		}
		stuck := rnd.IntN(2) // places that are never given back
		classes := 1 + rnd.IntN(4)
		l, m := must(t, o), newModel(o)
		if run%2 == 1 {
			l.force()
		}
		tickets := map[uint32]policy.Ticket{}
		now, tag := t0, uint32(0)
		for step := range 100 {
			now = now.Add(time.Duration(rnd.IntN(3)))
			if rnd.IntN(200) == 0 {
				now = now.Add(time.Duration(rnd.IntN(2000) - 1000))
			}
			c := &policy.Call{Criticality: policy.Criticality(rnd.IntN(classes)), PathAttempt: rnd.IntN(3)}
			if rnd.IntN(4) == 0 {
				c.Deadline = now.Add(time.Duration(rnd.IntN(10)))
			}
			var got, want any
			type next struct {
				tag uint32
				d   policy.Decision
				ok  bool
			}
			switch rnd.IntN(9) {
			case 0:
				got, want = l.Admit(now, nil, c).Decision, m.admit(m.waits(c, now, 0))
			case 1, 2, 3:
				tag++
				ticket, v := l.Join(now, nil, c, policy.Waiting{Tag: tag})
				tickets[tag] = ticket
				if v.Decision != policy.Park {
					delete(tickets, tag)
				}
				got, want = v.Decision, m.join(now, m.waits(c, now, tag))
			case 4:
				if m.inUse > stuck {
					l.Done(now, nil, policy.Permit{Slot: rnd.Uint32()}, policy.Success)
					m.inUse--
				}
				if l.lends.Load()%2 != 0 {
					lent++
				}
			case 8:
				if run%8 == 1 { // the limit changes under way
					o.Limit = 1 + rnd.IntN(6)
					m.o.Limit = o.Limit
					l.setCaps(o.Limit)
					l.recall()
				}
			case 5:
				if tag > 0 {
					who := 1 + rnd.Uint32N(tag)
					got, want = l.Leave(now, tickets[who]), m.leave(who)
				}
			case 6, 7:
				w, v, ok := l.Next(now, nil)
				tag, d, mok := m.next(now)
				got, want = next{w.Tag, v.Decision, ok}, next{tag, d, mok}
			}
			if got != want {
				t.Fatalf("seed %d run %d step %d, %+v: limiter says %v, model %v", seed, run, step, o, got, want)
			}
			displaced += len(m.owed)
			for c := range m.stand {
				if m.stand[c][0].dropping {
					dropped++
				}
			}
			if s := l.Snapshot(); s.InUse != m.inUse || s.Waiting != len(m.line) {
				t.Fatalf("seed %d run %d step %d: limiter has %+v, model %d in use and %d waiting", seed, run, step, s, m.inUse, len(m.line))
			}
		}
	}
	if dropped < runs/10 || displaced < runs/10 || lent < runs/10 {
		t.Errorf("%d lines that stood, %d waiters displaced and %d times places at desks in %d runs: too few to say much", dropped, displaced, lent, runs)
	}
}
