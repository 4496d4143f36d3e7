package hedge

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hull-go/hull/internal/quantile"
	"github.com/hull-go/hull/policy"
)

// model is hedging as its package comment says it: an account of extra attempts and, once per step, the quantile of what was
// seen. The estimator of quantiles has models of its own.
type model struct {
	o       Options // complete
	sample  *quantile.Estimator
	delay   time.Duration
	next    policy.Time
	account float64
	begun   int64
	denied  int64
}

func (m *model) step(now policy.Time) {
	if m.o.Delay != 0 || now < m.next {
		return
	}
	m.next = now.Add(m.o.Window / 10)
	if d, unknown, n := m.sample.Quantile(now, m.o.Quantile); n >= m.o.MinSamples && !unknown {
		m.delay = max(d, m.o.Min)
	}
}

// ask is asked when n attempts of a call have begun.
func (m *model) ask(now policy.Time, n int) (time.Duration, bool) {
	m.step(now)
	if n == 1 {
		m.account = min(m.account+m.o.Extra, float64(m.o.Burst))
	} else {
		m.account--
		m.begun++
	}
	if n > m.o.Hedges || m.delay == 0 {
		return 0, false
	}
	if m.account < 1 {
		m.denied++
		return 0, false
	}
	return m.delay, true
}

func (m *model) ended(now policy.Time, cl policy.Class, took time.Duration) {
	if m.o.Delay != 0 {
		return
	}
	switch cl {
	case policy.ClassOK, policy.ClassCaller, policy.ClassAborted, policy.ClassInternal, policy.ClassUnavailable, policy.ClassDownstream:
		m.sample.Observe(now, took)
	case policy.ClassTimeout, policy.ClassDeadlineLate, policy.ClassDeadlineSoon, policy.ClassCancelled, policy.ClassLoser:
		m.sample.AtLeast(now, took)
	}
}

// Calls whose attempts begin and end in random order get the delays and the account of the model.
func TestAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	src := rand.NewPCG(0, 0)
	rnd := rand.New(src)
	for run := range uint64(interleavings) {
		src.Seed(seed, run)
		o := Options{Quantile: 0.5 + rnd.Float64()/2.1, Min: ms, MinSamples: 1 + rnd.IntN(8), Window: 5 * time.Second,
			Hedges: 1 + rnd.IntN(3), Extra: float64(1+rnd.IntN(16)) / 16, Burst: 1 + rnd.IntN(4)}
		if rnd.IntN(4) == 0 {
			o.Delay = 7 * ms
		}
		h := must(t, o)
		q, err := quantile.New(quantile.Options{Window: o.Window})
		if err != nil {
			t.Fatal(err)
		}
		m := &model{o: o, sample: q, delay: o.Delay}
		var under []int // attempts of each call
		now := t0
		for step := range 40 {
			now = now.Add(time.Duration(rnd.ExpFloat64() * float64(200*ms)))
			switch k := rnd.IntN(10); {
			case k < 3 || len(under) == 0:
				under = append(under, 0)
				fallthrough
			case k < 6: // another attempt of some call begins
				i := rnd.IntN(len(under))
				if k < 3 || len(under) == 1 {
					i = len(under) - 1
				}
				under[i]++
				d, ok := h.Delay(now, nil, under[i])
				wantD, want := m.ask(now, under[i])
				if d != wantD || ok != want {
					t.Fatalf("seed %d run %d step %d, %+v: attempt %d gets %v, %v; the model says %v, %v", seed, run, step, o, under[i], d, ok, wantD, want)
				}
			default:
				cl, took := policy.Class(rnd.IntN(24)), time.Duration(rnd.ExpFloat64()*float64(20*ms))
				h.Done(now, policy.Ended{Class: cl, Took: took})
				m.ended(now, cl, took)
				i := rnd.IntN(len(under))
				under[i] = under[len(under)-1]
				under = under[:len(under)-1]
			}
			if rnd.IntN(8) == 0 {
				m.step(now)
				if s := h.Snapshot(now); s.Delay != m.delay || s.Account != m.account || s.Begun != m.begun || s.Denied != m.denied {
					t.Fatalf("seed %d run %d step %d, %+v: %+v; the model has %v, %v, %d, %d", seed, run, step, o, s, m.delay, m.account, m.begun, m.denied)
				}
			}
		}
	}
}
