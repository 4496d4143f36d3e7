package breaker

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// A probe whose call never returns must not keep the breaker half-open for good (resilience4j #544, #903, #935; gobreaker after
// a Goexit).
func TestALostProbeIsTakenBack(t *testing.T) {
	b := opened(t, plain)
	now := at(time.Second)
	lost := b.Admit(now, mid, nil)
	if lost.Decision != policy.Probe {
		t.Fatalf("%+v, want a probe", lost)
	}
	now = now.Add(5 * time.Second)
	if v := b.Admit(now, mid, nil); v.Decision != policy.Refuse || v.State != "open" {
		t.Fatalf("after the lease: %+v, want open again", v)
	}
	now = now.Add(2 * time.Second)
	if v := b.Admit(now, mid, nil); v.Decision != policy.Probe {
		t.Fatalf("after the second opening: %+v, want a probe", v)
	}
	// The lost one comes back after all: neither its success nor its failure is anybody's business.
	b.Done(now, mid, lost.Permit, policy.Failure)
	b.Done(now, mid, lost.Permit, policy.Success)
	if s := b.Snapshot(now); s.State != HalfOpen || !s.ProbeOut || s.Probes != 0 {
		t.Errorf("a late probe changed %+v", s)
	}
}

// A breaker that nobody asked for a while has nothing to make up for: the call that comes is a probe at once.
func TestALostProbeOfLongAgoDelaysNobody(t *testing.T) {
	b := opened(t, plain)
	b.Admit(at(time.Second), mid, nil)
	if v := b.Admit(at(time.Hour), mid, nil); v.Decision != policy.Probe {
		t.Errorf("an hour later: %+v, want a probe", v)
	}
}

// A cancelled probe gives its lease back and counts nothing, and the next one goes at the usual rate.
func TestACancelledProbe(t *testing.T) {
	for _, o := range []policy.Outcome{policy.Ignored, policy.Overloaded} {
		b := opened(t, plain)
		now := at(time.Second)
		call(b, now, o)
		if s := b.Snapshot(now); s.State != HalfOpen || s.ProbeOut || s.Probes != 0 || s.Until != now.Add(time.Second) {
			t.Errorf("%v: %+v", o, s)
		}
		if call(b, now.Add(time.Second-1), policy.Success) {
			t.Errorf("%v: another probe within a second", o)
		}
		if !call(b, now.Add(time.Second), policy.Success) {
			t.Errorf("%v: no other probe after a second", o)
		}
	}
}

// Results from before a change of state count for nothing after it (hystrix-go, failsafe-go and resilience4j count them).
func TestLateResultsAreHarmless(t *testing.T) {
	b := must(t, plain)
	var early []policy.Permit
	for range 100 {
		early = append(early, b.Admit(t0, mid, nil).Permit)
	}
	calls(b, t0, 20, policy.Failure)
	for _, p := range early[:50] {
		b.Done(t0, mid, p, policy.Success) // a late success must not close it
	}
	wantState(t, b, t0, Open)
	now := at(time.Second)
	probe := b.Admit(now, mid, nil).Permit
	for _, p := range early[50:75] {
		b.Done(now, mid, p, policy.Success)
	}
	if s := b.Snapshot(now); s.State != HalfOpen || !s.ProbeOut || s.Probes != 0 {
		t.Fatalf("late results changed %+v", s)
	}
	b.Done(now, mid, probe, policy.Success)
	calls(b, now, 2, policy.Success)
	for _, p := range early[75:] {
		b.Done(now, mid, p, policy.Failure) // nor a late failure open it again
	}
	if s := b.Snapshot(now); s.State != Closed || s.Calls != 0 {
		t.Errorf("late results changed %+v", s)
	}
}

// The same permit given back twice, as a careless caller does.
func TestAProbeCountsOnce(t *testing.T) {
	b := opened(t, plain)
	now := at(time.Second)
	p := b.Admit(now, mid, nil).Permit
	for range 10 {
		b.Done(now, mid, p, policy.Success)
	}
	if s := b.Snapshot(now); s.Probes != 1 {
		t.Errorf("one probe counts %d times", s.Probes)
	}
}

// The clock of a process that was stopped jumps ahead.
func TestAClockThatJumps(t *testing.T) {
	b := opened(t, plain)
	far := at(1000 * time.Hour)
	calls(b, far, 3, policy.Success)
	wantState(t, b, far, Closed)
	calls(b, t0, 20, policy.Failure) // and somebody has an old reading
	if v := b.Admit(far, mid, nil); v.Decision == policy.Refuse && v.At > far.Add(30*time.Second) {
		t.Errorf("refuses until %v", v.At.Sub(far))
	}
}

// Four callers share one clock, and the clock says whether calls fail, so that
// what happens does not depend on how the callers are scheduled.
func TestParallel(t *testing.T) {
	b := must(t, Options{Open: time.Millisecond, ProbeEvery: time.Millisecond, Ramp: time.Millisecond, MinCalls: 5})
	var step atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5_000 {
				n := step.Add(1)
				now := t0.Add(time.Duration(n) * 50 * time.Microsecond)
				v := b.Admit(now, mid, nil)
				if v.Decision.Admits() {
					b.Holds(now, v.Permit)
					o := policy.Success
					if n/2_000%2 == 0 {
						o = policy.Failure
					}
					b.Done(now, mid, v.Permit, o)
				}
				if n%100 == 0 {
					b.Snapshot(now)
					b.Events(now, 0)
					b.Pushback(now, time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
	now := at(time.Hour)
	if ev := b.Events(now, 0); len(ev) < 3 {
		t.Errorf("nothing happened: %+v", ev)
	}
	// Whatever happened, it recovers.
	for range 200 {
		now = now.Add(time.Second)
		call(b, now, policy.Success)
	}
	wantState(t, b, now, Closed)
}
