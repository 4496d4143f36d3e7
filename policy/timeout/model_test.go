package timeout

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hull-go/hull/internal/quantile"
	"github.com/hull-go/hull/policy"
)

// model is timeouts as their package comment says it: a list of attempts, and once per step a look at all of them.
type model struct {
	o       Options // complete
	samples []sample
	timeout float64
	fair    float64
	base    float64 // by the latest quantile that was known
	next    policy.Time
	learned bool
	few     float64 // by the slowest attempt, while there are few
	silent  bool    // nobody has answered yet

	dark, vain   policy.Time // until then too many are cut off, and it is in vain to wait for longer
	reach        time.Duration
	heard, seeks policy.Time

	seen, cut, late, tight int // since the last step
	lately                 time.Duration
	stepped                policy.Time

	least time.Duration
	look  policy.Time
}

// sample is an attempt: how long it took, by the value that stands for it in the estimator.
type sample struct {
	slice int64
	took  time.Duration
	end   fate
	bad   bool // what ended it was a failure
}

type fate int

const (
	seen  fate = iota
	given      // up, for the caller's reasons
	never
)

// latencies are what attempts take here, and the values that stand for them.
type latency struct{ took, stands time.Duration }

func latencies(t *testing.T) []latency {
	t.Helper()
	var all []latency
	for d := 300 * time.Microsecond; d < 90*time.Second; d = d * 5 / 3 {
		q, err := quantile.New(quantile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		q.Observe(t0, d)
		v, _, _ := q.Quantile(t0, 0.5)
		all = append(all, latency{d, v})
	}
	return all
}

func (m *model) slice(now policy.Time) int64 {
	return int64(now) / (int64(m.o.Window) / quantile.DefaultSlices)
}

// quantile is the estimator of Kaplan and Meier over the list. The second result is false if the quantile lies among those whose
// end nobody knows.
func (m *model) quantile(now policy.Time, q float64) (time.Duration, bool) {
	return quantileOf(m.recent(now), q)
}

// recent is what the window has.
func (m *model) recent(now policy.Time) (in []sample) {
	for _, s := range m.samples {
		if s.slice > m.slice(now)-quantile.DefaultSlices {
			in = append(in, s)
		}
	}
	return in
}

func quantileOf(in []sample, q float64) (time.Duration, bool) {
	var values []time.Duration
	for _, s := range in {
		values = append(values, s.took)
	}
	slices.Sort(values)
	left := 1.0
	for _, v := range slices.Compact(values) {
		risk, ends := 0, 0
		for _, s := range in {
			if s.end == never || s.took >= v {
				risk++
			}
			if s.end == seen && s.took == v {
				ends++
			}
		}
		if ends > 0 {
			if left *= 1 - float64(ends)/float64(risk); left <= 1-q+1e-9 {
				return v, true
			}
		}
	}
	return 0, len(in) == 0
}

func (m *model) count(now policy.Time) int { return len(m.recent(now)) }

// atLeast is within what time one attempt in a hundred has ended well.
func (m *model) atLeast(now policy.Time) time.Duration {
	if now < m.look {
		return m.least
	}
	m.look, m.least = now.Add(m.o.Window/100), 0
	in, good := m.recent(now), 0
	for i := range in {
		switch {
		case in[i].bad:
			in[i].end = never
		case in[i].end == seen:
			good++
		}
	}
	if d, known := quantileOf(in, 0.01); known && good > 0 && 10*good >= m.o.MinSamples {
		m.least = d - d/16
	}
	return m.least
}

// longest is what the slowest took that ended.
func (m *model) longest(now policy.Time) (d time.Duration) {
	for _, s := range m.samples {
		if s.end == seen && s.slice > m.slice(now)-quantile.DefaultSlices {
			d = max(d, s.took)
		}
	}
	return d
}

func (m *model) within(d float64) float64 { return min(max(d, float64(m.o.Min)), float64(m.o.Max)) }

func (m *model) step(now policy.Time) {
	if now < m.next {
		return
	}
	m.next = now.Add(m.o.Window / 10)
	enough := m.count(now) >= m.o.MinSamples
	if p90, known := m.quantile(now, 0.9); enough && known {
		m.fair = float64(p90)
	}
	if m.o.Fixed > 0 {
		return
	}
	q, known := m.quantile(now, m.o.Quantile)
	seen, cut, late, lately := float64(m.seen), float64(m.cut), float64(m.late), m.lately
	m.seen, m.cut, m.late, m.tight, m.lately = 0, 0, 0, 0, 0
	gone := min(max(int64(now.Sub(m.stepped)/(m.o.Window/10)), 1), 10) // steps that nobody took
	m.stepped = now
	if cut > 1 && cut > (1-m.o.Quantile)*seen { // the quantile lies among those that were cut off
		if p90, known := m.quantile(now, 0.9); known && enough && !m.learned {
			m.base = min(m.base, math.Trunc(m.within(float64(p90))))
		}
		m.dark = now.Add(m.o.Window / 2)
		if 10*late >= cut || 2*m.timeout <= 8*m.base {
			m.timeout = m.within(2 * m.timeout)
			return
		}
		m.vain = now.Add(m.o.Window / 2)
		m.timeout = math.Trunc(m.within(max(min(m.timeout, 8*m.base), m.timeout*(1-m.o.Fall))))
		return
	}
	if !enough || known {
		m.dark, m.vain = 0, 0
	}
	switch {
	case enough && known:
		m.base = m.within(m.o.Factor * float64(q))
		m.few = m.base
		least := 0.0
		if m.learned {
			least = m.timeout * (1 - m.o.Fall)
		}
		m.timeout = m.within(max(m.o.Factor*float64(q), least))
		m.learned = true
	case !enough:
		d := m.longest(now)
		if d == 0 {
			d = lately
		}
		if d > 0 {
			m.few = m.within(m.o.Factor * float64(d))
		}
		if least := max(float64(m.o.Cold), m.few); m.timeout > least || !m.learned {
			m.timeout = m.within(max(least, m.timeout*math.Pow(1-m.o.Fall, float64(gone))))
		}
	}
	m.timeout = math.Trunc(m.timeout)
	m.base = math.Trunc(m.base)
}

func (m *model) attempt(now policy.Time, left time.Duration, last bool) time.Duration {
	m.step(now)
	d := time.Duration(m.timeout)
	if m.o.Fixed > 0 {
		return d
	}
	if last || left == 0 {
		switch {
		case !last:
			return d
		case left == 0:
			return max(d, m.o.NoDeadline)
		}
		return max(d, left)
	}
	if m.silent {
		d = max(d, min(left/3, m.o.Max))
	}
	part := time.Duration(float64(left) * m.o.Share)
	if d > part && part < max(m.o.Min, time.Duration(m.fair)) {
		return max(d, left)
	}
	return min(d, part)
}

// enough is for the last attempt of a call that had another of d.
func (m *model) enough(now policy.Time, d, left time.Duration) time.Duration {
	most := max(d, time.Duration(m.timeout))
	if now >= m.vain {
		most = max(2*d, m.o.NoDeadline)
	}
	if now < m.heard {
		most = max(most, time.Duration(m.o.Factor*float64(m.reach)))
	}
	if now >= m.dark || left <= most {
		return 0
	}
	if now >= m.seeks {
		m.seeks = now.Add(left / 4)
		return 0
	}
	return most
}

func (m *model) ended(now policy.Time, cl policy.Class, l latency) {
	s := sample{slice: m.slice(now), took: l.stands}
	d := time.Duration(m.timeout)
	switch cl {
	case policy.ClassOK, policy.ClassCaller, policy.ClassAborted, policy.ClassInternal, policy.ClassUnavailable, policy.ClassDownstream:
		m.seen++
		m.lately = max(m.lately, l.took)
		s.bad = cl == policy.ClassInternal || cl == policy.ClassUnavailable || cl == policy.ClassDownstream
		if l.took > time.Duration(m.base) && l.took > d/2 {
			m.late++
		}
		if l.took > time.Duration(m.base) && l.took > d {
			m.reach, m.heard = l.took, now.Add(max(m.o.Window, 4*l.took))
		}
		if m.silent = false; !m.learned && m.o.Fixed == 0 && m.o.Factor*float64(l.took) > m.timeout {
			if m.tight++; 2*m.tight >= m.seen-m.cut {
				m.next = now // it is about to be too short
			}
		}
	case policy.ClassTimeout, policy.ClassDeadlineLate:
		if s.end = given; l.took >= d-d/16 {
			s.end = never
			m.seen++
			m.cut++
			if !m.learned && m.o.Fixed == 0 && m.cut >= 4 && m.cut >= m.seen-m.cut {
				m.next = now // nothing is known, and this is not enough
			}
		}
	case policy.ClassDeadlineSoon, policy.ClassCancelled, policy.ClassLoser:
		s.end = given
	default:
		return // it never reached a handler
	}
	m.samples = append(m.samples, s)
}

// Attempts that begin and end in random order get the timeouts of the model.
func TestAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	src := rand.NewPCG(0, 0)
	rnd := rand.New(src)
	all := latencies(t)
	for run := range uint64(interleavings) {
		src.Seed(seed, run)
		o := Options{Min: 10 * ms, Window: 5 * time.Second, MinSamples: 1 + rnd.IntN(8), Quantile: 0.5 + rnd.Float64()/2.1,
			Factor: 1 + rnd.Float64(), Fall: 0.1 + rnd.Float64()/2, Cold: time.Duration(10+rnd.IntN(2000)) * ms}
		even := rnd.IntN(2) == 0
		if even {
			o.Cold = 0
		}
		if rnd.IntN(8) == 0 {
			o.Fixed = 50 * ms
		}
		to := must(t, o)
		o.Cold, o.NoDeadline = to.opt.Cold, to.opt.NoDeadline
		m := &model{o: to.opt, timeout: float64(o.Cold), fair: float64(o.Min), base: float64(o.Cold), silent: even && o.Fixed == 0}
		if o.Fixed > 0 {
			m.timeout, m.base = float64(o.Fixed), float64(o.Fixed)
		}
		classes := []policy.Class{policy.ClassOK, policy.ClassOK, policy.ClassTimeout, policy.Class(rnd.IntN(24)), policy.Class(rnd.IntN(24))}
		usual, many := rnd.IntN(len(all)-6), rnd.IntN(4) == 0
		now := t0
		for step := range 40 {
			if rnd.IntN(2) == 0 {
				now = now.Add(time.Duration(rnd.ExpFloat64() * float64(400*ms)))
				if rnd.IntN(20) == 0 { // nobody calls for a while
					now = now.Add(time.Duration(rnd.IntN(10_000)) * ms)
				}
			}
			switch rnd.IntN(4) {
			case 0:
				left, last := time.Duration(rnd.IntN(3))*time.Duration(rnd.IntN(1000))*ms, rnd.IntN(2) == 0
				if got, want := to.Attempt(now, nil, left, last), m.attempt(now, left, last); got != want {
					t.Fatalf("seed %d run %d step %d, %+v: %v for an attempt with %v left, last %v; the model says %v", seed, run, step, o, got, left, last, want)
				}
			case 1:
				if d, left := time.Duration(1+rnd.IntN(1000))*ms, time.Duration(rnd.IntN(20_000))*ms; rnd.IntN(2) == 0 {
					if got, want := to.Enough(now, d, left), m.enough(now, d, left); got != want {
						t.Fatalf("seed %d run %d step %d, %+v: %v for the last of a call after one of %v, with %v left; the model says %v", seed, run, step, o, got, d, left, want)
					}
				}
				if got, want := to.Least(now), m.atLeast(now); got != want {
					t.Fatalf("seed %d run %d step %d, %+v: an attempt takes %v at least; the model says %v", seed, run, step, o, got, want)
				}
				d := time.Duration(rnd.IntN(400)) * ms
				m.step(now)
				if got, want := to.Fair(now, d), float64(d) >= min(m.timeout, m.fair); got != want {
					t.Fatalf("seed %d run %d step %d, %+v: %v is fair: %v, the model says %v", seed, run, step, o, d, got, want)
				}
			default:
				cl, l := classes[rnd.IntN(len(classes))], all[usual+rnd.IntN(6)]
				if cl == policy.ClassTimeout && rnd.IntN(2) == 0 { // cut off by the timeout, as a rule
					l = all[len(all)-1]
				}
				n := 1
				if many {
					n += max(0, rnd.IntN(40)-25)
				}
				for range n {
					to.Done(now, policy.Ended{Class: cl, Took: l.took})
					m.ended(now, cl, l)
				}
			}
		}
	}
}
