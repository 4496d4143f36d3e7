package concurrency

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// model is the limiter as one would write it without a care for cost.
type model struct {
	o     Options
	inUse int
	line  []waits
}

type waits struct {
	tag   uint32
	until policy.Time
}

func (m *model) patience(now, deadline policy.Time) policy.Time {
	if at := now.Add(m.o.MaxWait); deadline == 0 || at < deadline {
		return at
	}
	return deadline
}

func (m *model) admit() policy.Decision {
	switch {
	case m.inUse < m.o.Limit && len(m.line) == 0:
		m.inUse++
		return policy.Admit
	case len(m.line) < m.o.Queue:
		return policy.Park
	}
	return policy.Refuse
}

func (m *model) join(now, deadline policy.Time, tag uint32) policy.Decision {
	d := m.admit()
	if d == policy.Park {
		m.line = append(m.line, waits{tag, m.patience(now, deadline)})
	}
	return d
}

func (m *model) leave(tag uint32) bool {
	n := len(m.line)
	m.line = slices.DeleteFunc(m.line, func(w waits) bool { return w.tag == tag })
	return len(m.line) < n
}

func (m *model) next(now policy.Time) (uint32, policy.Decision, bool) {
	if len(m.line) == 0 {
		return 0, 0, false
	}
	pick := 0
	if m.o.Order == LIFO {
		pick = len(m.line) - 1
	}
	d := policy.Refuse
	switch {
	case now >= m.line[0].until:
		pick = 0
	case now >= m.line[pick].until:
	case m.inUse < m.o.Limit:
		m.inUse++
		d = policy.Admit
	default:
		return 0, 0, false
	}
	tag := m.line[pick].tag
	m.line = slices.Delete(m.line, pick, pick+1)
	return tag, d, true
}

// Random interleavings of everything, in any order, give the same answers as the model.
func TestAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for run := range uint64(20_000) {
		rnd := rand.New(rand.NewPCG(seed, run))
		o := Options{Limit: 1 + rnd.IntN(4), Queue: rnd.IntN(5), MaxWait: time.Duration(1 + rnd.IntN(20)), Order: Order(rnd.IntN(2))}
		l, m := must(t, o), &model{o: o}
		tickets := map[uint32]policy.Ticket{}
		now, tag := t0, uint32(0)
		for step := range 100 {
			now = now.Add(time.Duration(rnd.IntN(3)))
			c := &policy.Call{}
			if rnd.IntN(4) == 0 {
				c.Deadline = now.Add(time.Duration(rnd.IntN(10)))
			}
			var got, want any
			type next struct {
				tag uint32
				d   policy.Decision
				ok  bool
			}
			switch rnd.IntN(6) {
			case 0, 1:
				got, want = l.Admit(now, nil, c).Decision, m.admit()
			case 2:
				tag++
				ticket, v := l.Join(now, nil, c, policy.Waiting{Tag: tag})
				tickets[tag] = ticket
				if v.Decision != policy.Park {
					delete(tickets, tag)
				}
				got, want = v.Decision, m.join(now, c.Deadline, tag)
			case 3:
				if m.inUse > 0 {
					l.Done(now, nil, policy.Permit{}, policy.Success)
					m.inUse--
				}
			case 4:
				if tag > 0 {
					who := 1 + rnd.Uint32N(tag)
					got, want = l.Leave(now, tickets[who]), m.leave(who)
				}
			case 5:
				w, v, ok := l.Next(now, nil)
				tag, d, mok := m.next(now)
				got, want = next{w.Tag, v.Decision, ok}, next{tag, d, mok}
			}
			if got != want {
				t.Fatalf("seed %d run %d step %d: limiter says %v, model %v", seed, run, step, got, want)
			}
			if s := l.Snapshot(); s.InUse != m.inUse || s.Waiting != len(m.line) {
				t.Fatalf("seed %d run %d step %d: limiter has %+v, model %d in use and %d waiting", seed, run, step, s, m.inUse, len(m.line))
			}
		}
	}
}
