package breaker

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// model is the breaker as one would write it without a care for cost: a list of results, and one thing after the other.
type model struct {
	o         Options // with defaults
	state     State
	gen       int
	since     policy.Time
	until     policy.Time
	results   []result // of this generation
	streak    int
	openings  int
	successes int
	probe     int // number of the one that is out, 0 = none
	probes    int
	lease     policy.Time
	next      policy.Time // when the next probe may go
	floor     policy.Time
}

type result struct {
	bucket       int64
	failed, slow bool
}

type ticket struct {
	admitted bool
	start    policy.Time
	gen      int
	probe    int
}

func (m *model) enter(now policy.Time, s State) {
	m.state, m.since, m.results, m.streak = s, now, nil, 0
	m.gen++
}

func (m *model) pass(now policy.Time, u float64) {
	for {
		switch {
		case m.state == Open && now >= m.until:
			m.successes, m.probe, m.next = 0, 0, 0
			m.enter(m.until, HalfOpen)
		case m.state == HalfOpen && m.probe != 0 && now >= m.lease:
			m.open(m.lease, u)
		case m.state == Ramp && now >= m.until:
			m.state, m.since = Closed, m.until
		default:
			return
		}
	}
}

func (m *model) open(now policy.Time, u float64) {
	d := float64(m.o.Open)
	for range m.openings {
		d = min(2*d, float64(m.o.OpenCap))
	}
	m.openings++
	m.probe = 0
	d = min(d, float64(m.o.OpenCap)/(1+m.o.Jitter))
	m.until = now.Add(time.Duration(d * (1 - m.o.Jitter + 2*m.o.Jitter*u)))
	m.until = max(m.until, min(m.floor, now.Add(m.o.PushbackCap)))
	m.enter(now, Open)
}

func (m *model) admit(now policy.Time, u float64) ticket {
	m.pass(now, u)
	switch m.state {
	case Open, ForcedOpen:
		return ticket{}
	case HalfOpen:
		if m.probe != 0 || now < m.next {
			return ticket{}
		}
		m.probes++
		m.probe, m.lease, m.next = m.probes, now.Add(m.o.ProbeLease), now.Add(m.o.ProbeEvery)
		return ticket{true, now, m.gen, m.probe}
	case Ramp:
		done := 1 - float64(m.until.Sub(now))/float64(m.o.Ramp)
		if u >= 0.1+0.9*max(done, 0) {
			return ticket{}
		}
	}
	return ticket{true, now, m.gen, 0}
}

func (m *model) done(now policy.Time, u float64, t ticket, o policy.Outcome) {
	counts := o == policy.Success || o == policy.Failure || o == policy.TimedOut
	failed := counts && o != policy.Success
	if t.gen != m.gen || m.state == Disabled || m.state == Open || m.state == ForcedOpen {
		return
	}
	if m.state == HalfOpen {
		m.pass(now, u)
		if t.gen != m.gen || t.probe != m.probe {
			return
		}
		m.probe = 0
		switch {
		case failed:
			m.open(now, u)
		case counts:
			m.next = 0
			if m.successes++; m.successes == m.o.Successes {
				m.until = now.Add(m.o.Ramp)
				m.enter(now, Ramp)
				if m.o.Ramp < 0 {
					m.state = Closed
				}
			}
		}
		return
	}
	if !counts {
		return
	}
	bucket := int64(m.o.Window) / int64(m.o.Buckets)
	r := result{int64(now) / bucket, failed, m.o.Slow > 0 && now.Sub(t.start) >= m.o.Slow}
	m.results = append(m.results, r)
	if failed {
		m.streak++
	} else {
		m.streak = 0
	}
	var all, bad, slow float64
	for i, x := range m.results {
		if m.o.LastCalls > 0 && i < len(m.results)-m.o.LastCalls || m.o.LastCalls == 0 && x.bucket <= r.bucket-int64(m.o.Buckets) {
			continue
		}
		all++
		if x.failed {
			bad++
		}
		if x.slow {
			slow++
		}
	}
	if m.state == ForcedClosed {
		return
	}
	enough := all >= float64(m.o.MinCalls)
	if failed && (m.o.Consecutive > 0 && m.streak >= m.o.Consecutive || enough && bad >= m.o.Failures*all) ||
		r.slow && m.o.SlowCalls > 0 && enough && slow >= m.o.SlowCalls*all {
		m.pass(now, u)
		if m.state == Closed && now.Sub(m.since) >= m.o.Window {
			m.openings = 0
		}
		m.open(now, u)
	}
}

func (m *model) hand(now policy.Time, s State) {
	m.openings, m.successes, m.probe, m.floor, m.until, m.next = 0, 0, 0, 0, 0, 0
	m.enter(now, s)
}

func (m *model) notBefore(now policy.Time, d time.Duration) {
	m.floor = max(m.floor, now.Add(min(d, m.o.PushbackCap)))
	if m.state == Open && now < m.until {
		m.until = max(m.until, min(m.floor, m.since.Add(m.o.PushbackCap)))
	}
}

// Random interleavings of calls, late results, repeated results and hands on the levers give the same answers as the model.
func TestAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for run := range uint64(interleavings) {
		rnd := rand.New(rand.NewPCG(seed, run))
		compare(t, rnd, seed, run)
		if t.Failed() {
			return
		}
	}
}

func compare(t *testing.T, rnd *rand.Rand, seed, run uint64) {
	t.Helper()
	o := Options{
		Window: 8 * time.Second, Buckets: 1 + rnd.IntN(12), MinCalls: 1 + rnd.IntN(6), Failures: 0.25 + rnd.Float64()/2,
		Consecutive: rnd.IntN(2) * 4, Jitter: float64(rnd.IntN(3)-1) / 4, Successes: 1 + rnd.IntN(3),
		Ramp: time.Duration(rnd.IntN(3)-1) * 700 * time.Millisecond, OpenCap: 5 * time.Second, PushbackCap: time.Duration(rnd.IntN(2)) * 8 * time.Second,
	}
	if rnd.IntN(2) == 0 {
		o.Slow, o.SlowCalls = time.Second, float64(rnd.IntN(2))*0.6
	}
	if rnd.IntN(2) == 0 {
		o.LastCalls = o.MinCalls + rnd.IntN(10)
	}
	// Buckets whose length has an exact inverse, so that model and breaker agree on their borders.
	o.Window = time.Duration(o.Buckets) * (1 << 29)
	b := must(t, o)
	if b.last != nil && run%2 == 1 {
		b.last.save() // as if processors had met
	}
	full, err := o.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	m := &model{o: full}
	type pair struct {
		p policy.Permit
		t ticket
	}
	var under []pair
	now := t0
	outcomes := []policy.Outcome{policy.Success, policy.Success, policy.Success, policy.Failure, policy.TimedOut, policy.Ignored, policy.Overloaded}
	bias := rnd.IntN(3)
	for step := range 120 {
		now = now.Add(time.Duration(rnd.ExpFloat64() * float64(150*time.Millisecond)))
		if rnd.IntN(60) == 0 {
			now = now.Add(time.Duration(rnd.IntN(12)) * time.Second)
		}
		src := steady(rnd.Uint64())
		u := uniform(src)
		switch k := rnd.IntN(100); {
		case k < 48:
			v, w := b.Admit(now, src, nil), m.admit(now, u)
			if v.Decision.Admits() != w.admitted || (v.Decision == policy.Probe) != (w.probe != 0) {
				t.Errorf("seed %d run %d step %d: breaker says %+v, model %+v in %v", seed, run, step, v, w, m.state)
				return
			}
			if w.admitted {
				under = append(under, pair{v.Permit, w})
			} else if v.State == "" || v.Reason == "" {
				t.Errorf("seed %d run %d step %d: a refusal without explanation: %+v", seed, run, step, v)
			}
		case k < 95:
			if len(under) == 0 {
				continue
			}
			i := rnd.IntN(len(under))
			p := under[i]
			if rnd.IntN(20) != 0 { // else it comes back once more, or never
				under[i] = under[len(under)-1]
				under = under[:len(under)-1]
			}
			o := outcomes[rnd.IntN(len(outcomes))]
			if bias > 0 && rnd.IntN(3) < bias {
				o = policy.Failure
			}
			b.Done(now, src, p.p, o)
			m.done(now, u, p.t, o)
		case k < 98:
			d := time.Duration(rnd.IntN(9)) * time.Second
			if d > 0 {
				b.Pushback(now, d)
				m.notBefore(now, d)
			}
		case rnd.IntN(4) != 0:
			b.Events(now, 0) // reading changes nothing
		default:
			switch s := []State{Closed, ForcedOpen, ForcedClosed, Disabled}[rnd.IntN(4)]; s {
			case Closed:
				b.Reset(now)
				m.hand(now, s)
			case ForcedOpen:
				b.ForceOpen(now)
				m.hand(now, s)
			case ForcedClosed:
				b.ForceClosed(now)
				m.hand(now, s)
			default:
				b.Disable(now)
				m.hand(now, s)
			}
		}
		if s := b.Snapshot(now).State; s != shown(m, now) {
			t.Errorf("seed %d run %d step %d: breaker is %v, model %v", seed, run, step, s, shown(m, now))
			return
		}
	}
}

func shown(m *model, now policy.Time) State {
	switch {
	case m.state == Open && now >= m.until:
		return HalfOpen
	case m.state == Ramp && now >= m.until:
		return Closed
	}
	return m.state
}
