package policytest

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// driver asks one gate on one goroutine and checks each answer.
type driver struct {
	s    *suite
	r    reporter
	g    policy.Gate
	now  policy.Time
	rnd  *rand.Rand
	src  rand.Source
	held []policy.Permit
}

func (s *suite) drive(r reporter, g policy.Gate, seed uint64) *driver {
	pcg := rand.NewPCG(seed, 7)
	return &driver{s: s, r: r, g: g, now: begin, rnd: rand.New(pcg), src: pcg}
}

// ask asks for a permit and keeps it. It reports whether there is one.
func (d *driver) ask() (policy.Verdict, bool) {
	d.r.Helper()
	c := d.s.caps.Call
	v := d.g.Admit(d.now, d.src, &c)
	d.valid(v)
	if v.Decision.Permits() {
		d.held = append(d.held, v.Permit)
		return v, true
	}
	return v, false
}

// valid checks what holds for every verdict.
func (d *driver) valid(v policy.Verdict) {
	d.r.Helper()
	_, line := d.g.(policy.Line)
	switch {
	case v.Decision > policy.Park:
		d.r.Errorf("decision %d is none of Admit, Probe, Refuse, Wait, Park", v.Decision)
	case v.Decision == policy.Refuse && (v.State == "" || v.Reason == ""):
		d.r.Errorf("a refusal says state %q and reason %q: say both, callers see nothing else", v.State, v.Reason)
	case v.Decision == policy.Refuse && v.At != 0 && v.At < d.now:
		d.r.Errorf("a refusal at %v says to come back at %v, which has passed", d.now, v.At)
	case v.Decision == policy.Wait && v.At < d.now:
		d.r.Errorf("a verdict at %v says to wait until %v, which has passed", d.now, v.At)
	case v.Decision == policy.Park && !line:
		d.r.Errorf("the gate parks a call, but is no policy.Line")
	}
}

// give gives the i-th of the held permits back.
func (d *driver) give(i int, o policy.Outcome) {
	p := d.held[i]
	d.held[i] = d.held[len(d.held)-1]
	d.held = d.held[:len(d.held)-1]
	d.g.Done(d.now, d.src, p, o)
}

// any is some outcome.
func (d *driver) any() policy.Outcome { return policy.Outcome(d.rnd.IntN(int(policy.Overloaded) + 1)) }

// storm is trouble: n calls that fail at once in every way.
func (d *driver) storm(n int) (refused int) {
	for i := range n {
		d.now = d.now.Add(time.Millisecond)
		if _, ok := d.ask(); !ok {
			refused++
			continue
		}
		d.give(len(d.held)-1, []policy.Outcome{policy.Failure, policy.TimedOut, policy.Overloaded}[i%3])
	}
	return refused
}

// settle lets the dependency be well for as long as the gate may take to notice, and checks that it has. All permits
// must be back.
func (d *driver) settle(after string) {
	d.r.Helper()
	pace := d.s.caps.Pace
	step := max(pace, d.s.caps.Recovers/4000)
	for end := d.now.Add(d.s.caps.Recovers); d.now < end; {
		d.now = d.now.Add(step)
		d.success()
	}
	for range 100 {
		d.now = d.now.Add(pace)
		if v, ok := d.success(); !ok {
			d.r.Errorf("%s: %v later a call is still not admitted: decision %d, state %q, %s", after, d.s.caps.Recovers, v.Decision, v.State, v.Reason)
			return
		}
	}
	d.fill(after)
}

// success is a call that goes well, if it is let.
func (d *driver) success() (policy.Verdict, bool) {
	d.r.Helper()
	v, ok := d.ask()
	if v.Decision == policy.Wait {
		d.now = max(d.now, v.At)
	}
	if ok {
		d.give(len(d.held)-1, policy.Success)
	}
	return v, ok
}

// fill takes all the places that there should be, and gives them back.
func (d *driver) fill(after string) {
	d.r.Helper()
	n := d.s.caps.Places
	if n == 0 {
		return
	}
	for i := range n {
		if _, ok := d.ask(); !ok {
			d.r.Errorf("%s: only %d of %d places are left", after, i, n)
			break
		}
	}
	if _, ok := d.ask(); ok {
		d.r.Errorf("%s: more than %d permits are out", after, n)
	}
	for len(d.held) > 0 {
		d.give(0, policy.Success)
	}
}

// verdicts asks in every situation that chance makes.
func (s *suite) verdicts(_ *testing.T, r reporter) {
	for seed := range uint64(20) {
		d := s.drive(r, s.new(), seed)
		worst := d.rnd.IntN(3)
		for range 1000 {
			switch d.rnd.IntN(4) {
			case 0:
				d.now = d.now.Add(time.Duration(d.rnd.ExpFloat64() * float64([]time.Duration{time.Microsecond, time.Millisecond, time.Second}[d.rnd.IntN(3)])))
			case 1:
				if len(d.held) > 0 {
					o := d.any()
					if worst == 0 {
						o = policy.Failure
					}
					d.give(d.rnd.IntN(len(d.held)), o)
				}
			default:
				if len(d.held) < 100 {
					d.ask()
				}
			}
			if s.caps.Places > 0 && len(d.held) > s.caps.Places {
				r.Errorf("%d permits are out, there are only %d places", len(d.held), s.caps.Places)
				return
			}
		}
		for len(d.held) > 0 {
			d.give(0, d.any())
		}
		d.settle("after random traffic")
	}
}

// recovers: no state lasts longer than its cause.
func (s *suite) recovers(_ *testing.T, r reporter) {
	d := s.drive(r, s.new(), 1)
	d.settle("new")
	for range 5 {
		d.storm(500)
		d.settle("after a storm of failures")
	}
	for range 500 { // failures all the time, at an easy pace, through every state there is
		d.now = d.now.Add(max(s.caps.Pace, s.caps.Recovers/100))
		if _, ok := d.ask(); ok {
			d.give(len(d.held)-1, policy.Failure)
		}
	}
	d.settle("after a long outage")
	for range 1000 { // the calls of callers that give up say nothing, and their permits come back
		d.now = d.now.Add(s.caps.Pace)
		if _, ok := d.ask(); !ok {
			r.Errorf("a call is refused although nothing but cancelled calls came before")
			break
		}
		d.give(len(d.held)-1, policy.Ignored)
	}
	d.settle("after cancelled calls")
}

// generations compares two gates that have seen the same, apart from late results on one of them.
func (s *suite) generations(_ *testing.T, r reporter) {
	if !s.caps.Generations {
		return
	}
	if s.caps.Places > 0 {
		r.Errorf("caps: Generations together with Places: permits for places count whenever they come back")
		return
	}
	for _, o := range []policy.Outcome{policy.Ignored, policy.Success, policy.Failure, policy.TimedOut, policy.Overloaded} {
		plain, told := s.drive(r, s.new(), 3), s.drive(r, s.new(), 3)
		both := []*driver{plain, told}
		for _, d := range both {
			for range 50 {
				d.now = d.now.Add(s.caps.Pace)
				d.ask()
			}
			if d.storm(500) == 0 {
				r.Errorf("caps: Generations, but the gate refuses nothing when everything fails: it has one state only")
				return
			}
		}
		told.now = told.now.Add(time.Millisecond)
		for len(told.held) > 0 {
			told.give(0, o)
		}
		plain.held, plain.now = nil, told.now
		for end := plain.now.Add(s.caps.Recovers); plain.now < end; {
			var v [2]policy.Verdict
			for i, d := range both {
				d.now = d.now.Add(max(s.caps.Pace, s.caps.Recovers/1000))
				v[i], _ = d.success()
			}
			if v[0].Decision != v[1].Decision || v[0].State != v[1].State {
				r.Errorf("results (%v) of permits of an older state change what the gate does: %+v without them, %+v with them", o, v[0], v[1])
				break
			}
		}
	}
}

// late: whatever old permits do, they do not stick, also if they come back one by one through all the states.
func (s *suite) late(_ *testing.T, r reporter) {
	for seed := range uint64(20) {
		d := s.drive(r, s.new(), seed)
		var old []policy.Permit
		for range 30 {
			d.now = d.now.Add(s.caps.Pace)
			d.ask()
		}
		old, d.held = d.held, nil
		for len(old) > 0 {
			d.storm(d.rnd.IntN(50))
			d.now = d.now.Add(time.Duration(d.rnd.Float64() * float64(s.caps.Recovers) / 10))
			d.g.Done(d.now, d.src, old[0], d.any())
			old = old[1:]
		}
		d.settle("after late results")
	}
}

// jumps: a machine sleeps, a process is stopped.
func (s *suite) jumps(_ *testing.T, r reporter) {
	d := s.drive(r, s.new(), 1)
	for _, jump := range []time.Duration{time.Second, time.Minute, time.Hour, 30 * 24 * time.Hour, 10 * 365 * 24 * time.Hour} {
		for _, troubled := range []bool{false, true} {
			if troubled {
				d.storm(300)
			}
			for range 20 {
				d.now = d.now.Add(s.caps.Pace)
				d.ask()
			}
			d.now = d.now.Add(jump)
			d.ask()
			for len(d.held) > 0 {
				d.give(0, policy.Success)
			}
			d.settle("after the clock jumped by " + jump.String())
		}
	}
}

// places: as many as there are, again and again, whatever the results.
func (s *suite) places(_ *testing.T, r reporter) {
	if s.caps.Places == 0 {
		return
	}
	d := s.drive(r, s.new(), 1)
	for range 100 {
		d.fill("taken and given back in turn")
		d.now = d.now.Add(s.caps.Pace)
	}
}

// allocations: neither admitting nor refusing costs any.
func (s *suite) allocations(_ *testing.T, r reporter) {
	d := s.drive(r, s.new(), 1)
	c := &s.caps.Call
	for _, o := range []policy.Outcome{policy.Success, policy.Failure} {
		admitted := 0
		n := testing.AllocsPerRun(2000, func() {
			d.now = d.now.Add(s.caps.Pace)
			v := d.g.Admit(d.now, d.src, c)
			if v.Decision.Permits() {
				admitted++
				d.g.Done(d.now, d.src, v.Permit, o)
			}
		})
		if n != 0 {
			r.Errorf("%.0f allocations for each Admit and Done with %v", n, o)
		}
		if admitted == 0 {
			r.Errorf("none of 2000 calls was admitted")
		}
	}
}

// parallel lets the race detector look, and counts.
func (s *suite) parallel(_ *testing.T, r reporter) {
	const workers, rounds = 8, 3000
	g := s.new()
	var clock, out, most atomic.Int64
	clock.Store(int64(begin))
	var wg sync.WaitGroup
	for i := range uint64(workers) {
		wg.Go(func() {
			src := rand.NewPCG(i, 9)
			rnd := rand.New(src)
			var held []policy.Permit
			give := func() {
				out.Add(-1)
				g.Done(policy.Time(clock.Load()), src, held[0], policy.Outcome(rnd.IntN(int(policy.Overloaded)+1)))
				held = held[1:]
			}
			for range rounds {
				now := policy.Time(clock.Add(int64(rnd.IntN(200)) * int64(time.Microsecond)))
				c := s.caps.Call
				if v := g.Admit(now, src, &c); v.Decision.Permits() {
					held = append(held, v.Permit)
					n := out.Add(1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}
				}
				if len(held) > rnd.IntN(4) {
					give()
				}
				if rnd.IntN(16) == 0 {
					runtime.Gosched()
				}
			}
			for len(held) > 0 {
				give()
			}
		})
	}
	wg.Wait()
	if n := s.caps.Places; n > 0 && most.Load() > int64(n) {
		r.Errorf("%d permits were out at once, there are only %d places", most.Load(), n)
	}
	d := s.drive(r, g, 1)
	d.now = policy.Time(clock.Load())
	d.settle("after parallel load")
}
