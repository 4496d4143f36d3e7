package rate

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// model is a bucket of tokens as one would write it without a care for cost, tokens counted in the time they take to come.
type model struct {
	space, full, maxWait int64
	credit               int64 // below 0: promised ahead
	last                 policy.Time
	holes                []int64
}

func newModel(l *Limiter) *model {
	p := l.pace.Load()
	full := int64(p.burst) * p.space
	return &model{space: p.space, full: full, maxWait: p.maxWait, credit: full, last: t0}
}

// whenFull is when the bucket is full again: what the limiter calls tat.
func (m *model) whenFull() int64 { return int64(m.last) + m.full - m.credit }

// fill lets time pass.
func (m *model) fill(now policy.Time) {
	m.credit = min(m.full, m.credit+int64(now-m.last))
	m.last = now
	m.holes = slices.DeleteFunc(m.holes, func(n int64) bool { return n < int64(now) })
}

// goesAt is when a call with nominal time n goes.
func (m *model) goesAt(n int64) int64 { return max(n-(m.full-m.space), int64(m.last)) }

// ask returns the decision, the nominal time if it goes, and when it goes or should come back.
func (m *model) ask(now policy.Time) (d policy.Decision, n, when int64) {
	m.fill(now)
	if m.credit < m.space && len(m.holes) > 0 {
		if n := slices.Min(m.holes); m.goesAt(n) <= int64(now)+m.maxWait {
			m.holes = slices.Delete(m.holes, slices.Index(m.holes, n), slices.Index(m.holes, n)+1)
			if m.goesAt(n) > int64(now) {
				d = policy.Wait
			}
			return d, n, m.goesAt(n)
		}
	}
	n = m.whenFull()
	wait := max(0, m.space-m.credit)
	switch {
	case wait > m.maxWait:
		return policy.Refuse, 0, int64(now) + wait - m.maxWait
	case wait > 0:
		d = policy.Wait
	}
	m.credit -= m.space
	return d, n, int64(now) + wait
}

func (m *model) giveBack(now policy.Time, n int64) {
	m.fill(now)
	switch {
	case m.whenFull() == n+m.space:
		m.credit += m.space
	case n >= int64(now):
		m.holes = append(m.holes, n)
	}
}

type grant struct {
	key        uint64
	permit     policy.Permit
	n          int64
	asked, at_ policy.Time
}

// Random arrivals, waits given up and refusals further on get the same answers as the model, and however they mix, no more
// than Burst + Δ/T calls of a key go within any Δ.
func TestAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for run := range uint64(interleavings) {
		rnd := rand.New(rand.NewPCG(seed, run))
		o := Options{Limit: 1, Per: time.Duration(1 + rnd.IntN(20)), Burst: 1 + rnd.IntN(4), MaxWait: time.Duration(rnd.IntN(60)), Keys: 16}
		if o.Per < 10 {
			o.Per = 10 // the shortest space
		}
		keys := uint64(1)
		if rnd.IntN(2) == 0 {
			o.Key, keys = ByHash(), 3
		}
		l := must(t, o)
		models := map[uint64]*model{}
		var open []grant
		went := map[uint64][]policy.Time{}
		now := t0
		settle := func(i int) grant {
			g := open[i]
			open = slices.Delete(open, i, i+1)
			return g
		}
		for step := range 60 {
			if rnd.IntN(3) > 0 {
				now += policy.Time(rnd.IntN(25))
			}
			if rnd.IntN(3) == 0 && len(open) > 0 { // one is given back, or has gone
				g := settle(rnd.IntN(len(open)))
				l.Done(now, nil, g.permit, policy.Ignored)
				if now < g.at_ || now == g.asked {
					models[g.key].giveBack(now, g.n)
				} else {
					went[g.key] = append(went[g.key], g.at_)
				}
				continue
			}
			key := 1 + rnd.Uint64N(keys)
			m := models[key]
			if m == nil {
				m = newModel(l)
				models[key] = m
			}
			v := l.Admit(now, nil, &policy.Call{Hash: key})
			d, n, when := m.ask(now)
			if v.Decision != d || d != policy.Admit && v.At != policy.Time(when) {
				t.Fatalf("seed %d run %d step %d, %+v: limiter says %d at %v, model %d at %v", seed, run, step, o,
					v.Decision, v.At.Sub(now), d, policy.Time(when).Sub(now))
			}
			if d != policy.Refuse {
				open = append(open, grant{key, v.Permit, n, now, max(now, policy.Time(when))})
			}
		}
		for len(open) > 0 {
			g := settle(0)
			went[g.key] = append(went[g.key], g.at_)
		}
		for key, times := range went {
			slices.Sort(times)
			for i := range times {
				for j := i; j < len(times); j++ {
					if most := o.Burst + int(times[j].Sub(times[i])/o.Per); j-i+1 > most {
						t.Fatalf("seed %d run %d, %+v: %d calls of key %d go within %v, want at most %d", seed, run, o, j-i+1, key, times[j].Sub(times[i]), most)
					}
				}
			}
		}
	}
}
