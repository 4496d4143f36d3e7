package concurrency

import (
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// feed tells s of a second in which as many places as it allows were in use, throughput(limit) calls per second ended, and as many were
// refused as say so.
func feed(s Source, now policy.Time, refused bool, throughput func(limit int) float64) policy.Time {
	for end := now.Add(time.Second); now < end; {
		n := s.Limit(now)
		now = now.Add(time.Duration(float64(time.Second) / throughput(n)))
		s.Sample(now, Sample{Took: time.Millisecond, InUse: n, Outcome: policy.Success})
		if refused {
			s.Refused(now)
		}
	}
	return now
}

func TestTwoArm(t *testing.T) {
	proportional := func(n int) float64 { return 20 * float64(n) }
	for _, tt := range []struct {
		name       string
		refused    bool
		throughput func(n int) float64
		least      float64
		most       float64
	}{
		{"grows while it pays", true, proportional, 1000, 1000},
		{"shrinks when it does not", true, func(int) float64 { return 2000 }, 4, 4},
		{"stays when nobody is refused", false, proportional, 100, 100},
		{"finds the bend", true, func(n int) float64 { return 20 * math.Min(float64(n), 60) }, 50, 75},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := mustTwoArm(t, TwoArmOptions{Start: 100, Max: 1000})
			now := t0
			for range 150 {
				now = feed(s, now, tt.refused, tt.throughput)
			}
			if got := s.Snapshot().Places; got < tt.least || got > tt.most {
				t.Errorf("%.1f places, want %v to %v", got, tt.least, tt.most)
			}
		})
	}
}

func TestTwoArmUnsaturated(t *testing.T) {
	s := mustTwoArm(t, TwoArmOptions{Start: 100})
	if n := s.Limit(t0); n != 124 {
		t.Errorf("%d places, want L + 24", n)
	}
	now := feed(s, t0, true, func(int) float64 { return 2000 })
	if !s.Snapshot().Saturated {
		t.Error("not saturated though half is refused")
	}
	for range 5 {
		now = feed(s, now, false, func(int) float64 { return 2000 })
	}
	if g := s.Snapshot(); g.Saturated {
		t.Errorf("%+v, saturated though nobody is refused", g)
	}
}

// Neither results that come too late, nor none, nor a clock that jumps make it stick.
func TestTwoArmBadDays(t *testing.T) {
	s := mustTwoArm(t, TwoArmOptions{Start: 800, Max: 1000})
	now := feed(s, t0, true, func(int) float64 { return 1000 })
	for range 10_000 {
		now = now.Add(time.Millisecond)
		s.Refused(now)
		s.Sample(now, Sample{Took: time.Second, InUse: 100, Outcome: policy.TimedOut})
	}
	if got := s.Snapshot().Places; got > 101 || got < 85 {
		t.Errorf("%.1f places after 10 s without an answer in time, want an eighth of what there were", got)
	}
	s.Sample(now, Sample{Outcome: policy.Ignored})
	now = now.Add(-time.Hour)
	for range 150 {
		now = feed(s, now, true, func(n int) float64 { return 20 * float64(n) })
	}
	if got := s.Snapshot().Places; got != 1000 {
		t.Errorf("%.1f places after the clock went back, want it to go on growing", got)
	}
}

func TestAIMD(t *testing.T) {
	a, err := NewAIMD(AIMDOptions{Start: 10, Slow: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	good := Sample{Took: time.Millisecond, InUse: 10, Outcome: policy.Success}
	for range 11 {
		a.Sample(t0, good)
	}
	if n := a.Limit(t0); n != 11 {
		t.Errorf("%d after a full round, want one more", n)
	}
	a.Sample(t0, Sample{Took: time.Millisecond, InUse: 5, Outcome: policy.Success}) // the limit did not matter
	slow := Sample{Took: 60 * time.Millisecond, InUse: 11, Outcome: policy.Success}
	a.Sample(t0, slow)
	cut := a.Limit(t0)
	if cut != 9 {
		t.Errorf("%d after a slow answer, want a tenth less", cut)
	}
	a.Sample(at(10*time.Millisecond), slow) // began before the cut
	if n := a.Limit(t0); n != cut {
		t.Errorf("%d, cut twice for one overload", n)
	}
	for i := range 100 {
		a.Sample(at(time.Duration(i)*time.Second), Sample{Took: time.Millisecond, Outcome: policy.TimedOut})
	}
	if n := a.Limit(t0); n != 4 {
		t.Errorf("%d, want the floor", n)
	}
	for range 100_000 {
		a.Sample(t0, Sample{Took: time.Millisecond, InUse: 1 << 16, Outcome: policy.Success})
	}
	if n := a.Limit(t0); n < 300 || n > 10_000 {
		t.Errorf("%d", n)
	}
}

func TestAdaptiveDefaults(t *testing.T) {
	l := must(t, Options{Source: mustTwoArm(t, TwoArmOptions{Start: 100})})
	s := l.Snapshot()
	if s.Limit != 124 || s.Queue != 496 {
		t.Errorf("%+v, want 4 seats for each place", s)
	}
	for range s.Limit {
		admit(t, l, t0, policy.Admit)
	}
	c := &policy.Call{Deadline: at(60 * time.Millisecond)}
	if v := l.Admit(t0, nil, c); v.Decision != policy.Park || v.At != at(30*time.Millisecond) {
		t.Errorf("%+v, want half of what is left", v)
	}
	c.Deadline = at(time.Hour)
	if v := l.Admit(t0, nil, c); v.At != at(100*time.Millisecond) {
		t.Errorf("%+v, want 100ms", v)
	}
	if s := must(t, Options{Source: mustTwoArm(t, TwoArmOptions{Start: 5000})}).Snapshot(); s.Queue != 1000 {
		t.Errorf("%+v, want 1000 seats at most", s)
	}
	none := must(t, Options{Source: mustTwoArm(t, TwoArmOptions{Start: 1, Min: 1}), NoQueue: true})
	for range none.Snapshot().Limit {
		admit(t, none, t0, policy.Admit)
	}
	admit(t, none, t0, policy.Refuse)
}

func TestWrongSources(t *testing.T) {
	for _, o := range []TwoArmOptions{{Min: -1}, {Max: -1}, {Start: -1}, {Min: 10, Max: 5}, {Start: 3}, {Max: 1 << 20}, {Elasticity: 2}, {Elasticity: math.NaN()}} {
		if _, err := NewTwoArm(o); err == nil || !strings.HasPrefix(err.Error(), "concurrency: two-arm: ") {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, o := range []AIMDOptions{{Min: -1}, {Backoff: 1}, {Backoff: math.NaN()}, {Slow: -1}} {
		if _, err := NewAIMD(o); err == nil || !strings.HasPrefix(err.Error(), "concurrency: aimd: ") {
			t.Errorf("%+v: %v", o, err)
		}
	}
	src := mustTwoArm(t, TwoArmOptions{})
	for _, o := range []Options{{Limit: 3, Source: src}, {Queue: 1, NoQueue: true}, {Share: 2}, {Share: math.NaN()}, {Target: -1}, {Interval: -1}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v is no error", o)
		}
	}
}

// A place more lets who waits in at once; a place less takes none away.
func TestSetLimit(t *testing.T) {
	l := must(t, Options{Limit: 1, Queue: 3})
	admit(t, l, t0, policy.Admit)
	told := make(person, 2)
	for range 2 {
		l.Join(t0, nil, nil, policy.Waiting{Waiter: told})
	}
	if err := l.SetLimit(t0, 2); err != nil {
		t.Fatal(err)
	}
	if s := l.Snapshot(); len(told) != 1 || s.InUse != 2 || s.Waiting != 1 {
		t.Errorf("%d told, %+v", len(told), s)
	}
	if err := l.SetLimit(t0, 1); err != nil {
		t.Fatal(err)
	}
	l.Done(t0, nil, policy.Permit{}, policy.Success)
	next(t, l, t0, 0, 0) // one in use, one place
	l.Done(t0, nil, policy.Permit{}, policy.Success)
	if _, v, ok := l.Next(t0, nil); !ok || v.Decision != policy.Admit {
		t.Errorf("%+v", v)
	}
	if err := l.SetLimit(t0, 0); err == nil {
		t.Error("no places is no error")
	}
	if err := must(t, Options{Source: mustTwoArm(t, TwoArmOptions{})}).SetLimit(t0, 5); err == nil {
		t.Error("a source's limit can be set")
	}
}

func TestAdaptiveAllocatesNothing(t *testing.T) {
	l := must(t, Options{Source: mustTwoArm(t, TwoArmOptions{Start: 1, Min: 1, Max: 1})})
	c := &policy.Call{Criticality: policy.Sheddable, Hash: 5, Deadline: at(time.Hour)}
	now := t0
	for l.Admit(now, nil, c).Decision == policy.Admit {
	}
	if n := testing.AllocsPerRun(10_000, func() {
		now = now.Add(time.Millisecond)
		l.Admit(now, nil, c)
		l.Join(now, nil, c, policy.Waiting{})
		l.Done(now, nil, policy.Permit{Start: now}, policy.Success)
		for ok := true; ok; {
			_, _, ok = l.Next(now, nil)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Many of all classes take, wait, give up, are displaced and give back while the limit moves: nobody is forgotten, nothing left.
func TestParallelClasses(t *testing.T) {
	src := &moving{}
	src.n.Store(3)
	l := must(t, Options{Source: src, Queue: 10, MaxWait: time.Hour, Order: CoDel})
	var served, refused atomic.Int64
	clock := atomic.Int64{}
	tick := func() policy.Time { return t0.Add(time.Duration(clock.Add(1)) * 50 * time.Microsecond) }
	release := func() {
		for {
			w, v, ok := l.Next(tick(), nil)
			if !ok {
				return
			}
			w.Waiter.Granted(w.Tag, v)
		}
	}
	// One place is taken until somebody is refused, so that this does not hang on who runs when.
	held := l.Admit(tick(), nil, &policy.Call{})
	var wg sync.WaitGroup
	for g := range uint64(16) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(g, 7))
			for range 2000 {
				c := &policy.Call{Criticality: policy.Criticality(rnd.IntN(4)), PathAttempt: rnd.IntN(3), Hash: rnd.Uint64N(100)}
				v := l.Admit(tick(), nil, c)
				if v.Decision == policy.Park {
					me := make(person, 1)
					var ticket policy.Ticket
					if ticket, v = l.Join(tick(), nil, c, policy.Waiting{Waiter: me}); v.Decision == policy.Park {
						if rnd.IntN(4) == 0 {
							runtime.Gosched()
							if l.Leave(tick(), ticket) {
								continue
							}
						}
						v = <-me
					}
				}
				if v.Decision != policy.Admit {
					refused.Add(1)
					continue
				}
				served.Add(1)
				runtime.Gosched()
				l.Done(tick(), nil, v.Permit, policy.Success)
				release()
			}
		})
	}
	for refused.Load() == 0 {
		release()
		runtime.Gosched()
	}
	l.Done(tick(), nil, held.Permit, policy.Success)
	release()
	wg.Wait()
	release()
	if s := l.Snapshot(); s.InUse != 0 || s.Waiting != 0 || l.owed.Load() != 0 || served.Load() == 0 || refused.Load() == 0 {
		t.Errorf("in the end %+v, %d owed, %d served, %d refused", s, l.owed.Load(), served.Load(), refused.Load())
	}
}

// moving is a source that changes its mind at each sample, between 1 and 5.
type moving struct{ n atomic.Int64 }

func (m *moving) Limit(policy.Time) int      { return int(1 + m.n.Load()%5) }
func (m *moving) Sample(policy.Time, Sample) { m.n.Add(1) }
func (m *moving) Refused(policy.Time)        {}
