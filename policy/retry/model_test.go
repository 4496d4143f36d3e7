package retry

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// model is retries and their budget as one would write them without a care for cost: what may be repeated is a list of classes, what
// was in flight a list of readings.
type model struct {
	o                Options
	b                BudgetOptions
	tokens, capacity int64
	peaks            []reading
}

type reading struct {
	part int64
	n    int
}

// Who may be repeated, as the outcome table of the design says it.
var (
	anyCall    = []policy.Class{policy.ClassNoMethod, policy.ClassDraining, policy.ClassUnsent}
	anyOnce    = []policy.Class{policy.ClassShed, policy.ClassHandshake}
	idempotent = []policy.Class{policy.ClassUnavailable, policy.ClassOverloaded, policy.ClassReset, policy.ClassTimeout, policy.ClassProtocol, policy.ClassStalled}
	optIn      = []policy.Class{policy.ClassInternal}
)

func in(cl policy.Class, list []policy.Class) bool {
	for _, c := range list {
		if c == cl {
			return true
		}
	}
	return false
}

func (m *model) again(u float64, c policy.Call, n int, cl policy.Class, fate status.Fate, pushback time.Duration) (time.Duration, bool) {
	sent := fate != status.NotSent
	if !in(cl, anyCall) && !in(cl, anyOnce) && !in(cl, idempotent) && !in(cl, optIn) {
		return 0, false
	}
	if n >= m.o.Attempts || pushback < 0 {
		return 0, false
	}
	if sent && c.PathAttempt > 1 {
		return 0, false
	}
	if in(cl, anyOnce) && n > 1 {
		return 0, false
	}
	if sent && (in(cl, idempotent) || in(cl, optIn)) && !c.Idempotent {
		return 0, false
	}
	if sent && in(cl, optIn) && !m.o.RetryInternal {
		return 0, false
	}
	if !sent && pushback == 0 {
		return 0, true
	}
	scale := m.o.Base
	for range n - 1 {
		scale = min(2*scale, m.o.Cap)
	}
	switch m.o.Backoff {
	case FullJitter:
		scale = time.Duration(u * float64(scale+1))
	case Constant:
		scale = m.o.Base
	case Immediate:
		scale = 0
	case Decorrelated:
		scale = m.o.Base
		for range n { // the draws of one answer are all u here
			scale = min(m.o.Cap, m.o.Base+time.Duration(u*float64(3*scale-m.o.Base+1)))
		}
	}
	return pushback + scale, true
}

// look sets the capacity by what was in flight within the window.
func (m *model) look(now policy.Time) {
	part := int64(now) / (int64(m.b.Window) / 10)
	most := 0
	for _, r := range m.peaks {
		if r.part > part-10 {
			most = max(most, r.n)
		}
	}
	to := max(int64(m.b.Capacity), int64(m.b.PerPeak*most))
	if to != m.capacity {
		m.tokens = int64(float64(m.tokens) / float64(m.capacity) * float64(to))
		m.capacity = to
	}
}

func (m *model) peak(now policy.Time, n int) {
	m.peaks = append(m.peaks, reading{int64(now) / (int64(m.b.Window) / 10), n})
	m.look(now)
}

func (m *model) spend(now policy.Time, n int) bool {
	if n <= 0 {
		return true
	}
	m.look(now)
	if int64(n) > m.tokens {
		return false
	}
	m.tokens -= int64(n)
	return true
}

func (m *model) earn(n int) { m.tokens = min(m.tokens+int64(n), m.capacity) }

// Calls that fail and succeed in random order are repeated, wait and are paid for as the model says.
func TestAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	src := rand.NewPCG(0, 0)
	rnd := rand.New(src)
	for run := range uint64(interleavings) {
		src.Seed(seed, run)
		o := Options{Attempts: 1 + rnd.IntN(5), Backoff: Backoff(rnd.IntN(int(numBackoffs))), Base: time.Duration(1 + rnd.IntN(50)), RetryInternal: rnd.IntN(2) == 0}
		o.Cap = o.Base * time.Duration(1+rnd.IntN(8))
		bo := BudgetOptions{Capacity: 10 + rnd.IntN(60), PerPeak: 1 + rnd.IntN(20), Window: 10 * time.Second}
		r, b := must(t, o), budget(t, bo)
		m := &model{o: o, b: bo, tokens: int64(bo.Capacity), capacity: int64(bo.Capacity)}
		type call struct {
			policy.Call
			n int
		}
		var under []*call
		now := t0
		for step := range 40 {
			now = now.Add(time.Duration(rnd.ExpFloat64() * float64(400*time.Millisecond)))
			if rnd.IntN(3) == 0 || len(under) == 0 { // another call begins
				under = append(under, &call{policy.Call{Idempotent: rnd.IntN(2) == 0, PathAttempt: rnd.IntN(4)}, 1})
				b.Peak(now, len(under))
				m.peak(now, len(under))
				continue
			}
			i := rnd.IntN(len(under))
			c := under[i]
			cl := policy.Class(rnd.IntN(24))
			if rnd.IntN(4) == 0 {
				cl = policy.ClassOK
			}
			goesOn := false
			if cl == policy.ClassOK {
				if c.n == 1 {
					b.Earn(now, 1)
					m.earn(1)
				}
			} else {
				draw := rnd.Uint64()
				fate := []status.Fate{status.Maybe, status.Processed, status.NotSent}[rnd.IntN(3)]
				pushback := time.Duration(max(rnd.IntN(8)-4, -1))
				wait, ok, why := r.Again(now, steady(draw), &c.Call, c.n, cl, fate, pushback)
				wantWait, want := m.again(float64(draw>>11)/(1<<53), c.Call, c.n, cl, fate, pushback)
				if ok != want || ok && wait != wantWait || ok != (why == "") {
					t.Fatalf("seed %d run %d step %d, %+v: %v after attempt %d, fate %v, pushback %v, of %+v: %v, %v %q; the model says %v, %v",
						seed, run, step, o, cl, c.n, fate, pushback, c.Call, wait, ok, why, wantWait, want)
				}
				if ok {
					cost := cl.Counts().Cost
					paid := b.Spend(now, policy.Critical, cost)
					if want := m.spend(now, cost); paid != want {
						t.Fatalf("seed %d run %d step %d, %+v: paid %v, the model says %v", seed, run, step, bo, paid, want)
					}
					goesOn = paid
				}
			}
			c.n++
			if !goesOn {
				under[i] = under[len(under)-1]
				under = under[:len(under)-1]
			}
			if rnd.IntN(3) == 0 {
				m.look(now)
				if s := b.Snapshot(now); s.Tokens != m.tokens || s.Capacity != m.capacity {
					t.Fatalf("seed %d run %d step %d, %+v: %d of %d tokens, the model has %d of %d", seed, run, step, bo, s.Tokens, s.Capacity, m.tokens, m.capacity)
				}
			}
		}
	}
}
