package rate

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hull-go/hull/internal/stripe"
	"github.com/hull-go/hull/policy"
)

// admitOn is Admit on the i-th processor. What that one's lease has not is asked for as on the processor that runs the test.
func (l *Limiter) admitOn(i int, now policy.Time) policy.Verdict {
	p, s := l.pace.Load(), &l.leases.Load()[i]
	n, _, ok := s.take(now, p)
	if !ok {
		n, ok = l.renew(now, p, s)
	}
	if ok {
		return policy.Verdict{Permit: permit(p, now, n, uint32(i+1))}
	}
	return l.Admit(now, nil, nil)
}

// Random calls on random processors, some of which do not happen after all, against one bucket that is charged with those that do: never do
// more go than Burst and what has come back, and nobody waits or is refused whom a bucket with a lease less for each processor lets go.
func TestLeasesAgainstOneBucket(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	runs, lent, refused := uint64(interleavings/20), 0, 0
	for run := range runs {
		rnd := rand.New(rand.NewPCG(seed, run))
		o := Options{Limit: 1, Per: time.Duration(10 + rnd.IntN(20)), Burst: leasePart*leaseLeast + rnd.IntN(1000), MaxWait: time.Duration(rnd.IntN(2) * 50)}
		l := must(t, o)
		l.makeLeases()
		space, held := int64(o.Per), stripe.N*int(l.pace.Load().lease/int64(o.Per))
		charged := int64(0) // when the bucket would be full again
		conforms := func(now policy.Time, burst int) bool {
			return max(charged, int64(now))-int64(burst-1)*space <= int64(now)
		}
		now := t0
		burst, pause := o.Burst, 1+rnd.IntN(4*int(space))
		for step := range 3000 {
			if rnd.IntN(4) == 0 {
				now += policy.Time(rnd.IntN(pause))
			}
			if rnd.IntN(3000) == 0 {
				now += policy.Time(rnd.IntN(o.Burst) * int(space))
			}
			if v := l.admitOn(rnd.IntN(stripe.N), now); v.Decision == policy.Admit {
				if rnd.IntN(10) == 0 { // a later gate refuses
					l.Done(now, nil, v.Permit, policy.Ignored)
					continue
				}
				if v.Permit.Slot > 0 {
					lent++
				}
				if !conforms(now, burst) {
					t.Fatalf("seed %d run %d step %d, %+v: one too many goes", seed, run, step, o)
				}
				charged = max(charged, int64(now)) + space
			} else {
				refused++
				if v.Decision == policy.Wait {
					l.Done(now, nil, v.Permit, policy.Ignored)
				}
				if conforms(now, burst-held) {
					t.Fatalf("seed %d run %d step %d, %+v: decision %d, although there is room for %d", seed, run, step, o, v.Decision, held)
				}
				if n := l.Left(now, nil); n > 0 {
					t.Fatalf("seed %d run %d step %d, %+v: decision %d, although %d are left", seed, run, step, o, v.Decision, n)
				}
			}
		}
	}
	t.Logf("%d calls by leases and %d not let go in %d runs", lent, refused, runs)
	if lent == 0 || refused == 0 {
		t.Error("nothing was tried")
	}
}

// Burst calls go at once, from leases or not, and after a pause again.
func TestLeasesHoldNothingBack(t *testing.T) {
	l := must(t, Options{Limit: 1_000_000, Burst: 2000})
	l.makeLeases()
	for now := t0; now < at(10*time.Second); now = now.Add(time.Second) {
		for i := range 2000 {
			if v := l.admitOn(i%stripe.N, now); v.Decision != policy.Admit {
				t.Fatalf("call %d: %+v", i, v)
			}
			if n := l.Left(now, nil); n != 1999-i {
				t.Fatalf("%d left after %d of 2000", n, i+1)
			}
		}
		if v := l.admitOn(0, now); v.Decision != policy.Refuse {
			t.Fatalf("one more: %+v", v)
		}
	}
}

// A change of the limit gives back what leases hold, and callers that still have the old pace in their hands get nothing by it.
func TestSetLimitEndsLeases(t *testing.T) {
	l := must(t, Options{Limit: 1_000_000, Burst: 2000})
	l.makeLeases()
	for i := range stripe.N {
		l.admitOn(i, t0)
	}
	if err := l.SetLimit(t0, 2_000_000, 4000); err != nil {
		t.Fatal(err)
	}
	for i := range 4000 - stripe.N {
		if v := l.admitOn(i%stripe.N, t0); v.Decision != policy.Admit {
			t.Fatalf("call %d: %+v", i, v)
		}
	}
	if v := l.admitOn(0, t0); v.Decision != policy.Refuse {
		t.Fatalf("one more: %+v", v)
	}
	old := l.pace.Load()
	if err := l.SetLimit(at(time.Hour), 100, 10); err != nil {
		t.Fatal(err)
	}
	l.renew(at(time.Hour), old, &l.leases.Load()[0])
	if n, _, ok := l.leases.Load()[0].take(at(time.Hour), l.pace.Load()); ok {
		t.Errorf("a lease of the old pace is good for %d", n)
	}
}

// What a lease gave and gets back is given again; a clock that goes back does not make leases stick.
func TestLeasesBadDays(t *testing.T) {
	l := must(t, Options{Limit: 1_000_000, Burst: 2000})
	l.makeLeases()
	for i := range 5000 {
		v := l.admitOn(i%stripe.N, t0)
		if v.Decision != policy.Admit {
			t.Fatalf("call %d: %+v", i, v)
		}
		l.Done(t0, nil, v.Permit, policy.Ignored)
	}
	for range 2000 {
		l.admitOn(1, t0)
	}
	earlier := t0.Add(-time.Hour)
	if v := l.admitOn(1, earlier); v.Decision != policy.Refuse {
		t.Fatalf("%+v", v)
	}
	earlier = earlier.Add(time.Second)
	for i := range 2000 {
		if v := l.admitOn(i%stripe.N, earlier); v.Decision != policy.Admit {
			t.Fatalf("call %d after the clock went back: %+v", i, v)
		}
	}
}

// Many at once get as many as there are, whoever gets them.
func TestLeasesInParallel(t *testing.T) {
	const burst = 20_000
	l := must(t, Options{Limit: 1_000_000, Burst: burst})
	l.makeLeases()
	var went atomic.Int64
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range burst {
				v := l.Admit(t0, nil, nil)
				if v.Decision != policy.Admit {
					continue
				}
				if g == 0 && i%512 == 0 { // few enough to be remembered
					l.Done(t0, nil, v.Permit, policy.Ignored)
					continue
				}
				went.Add(1)
			}
		})
	}
	wg.Wait()
	for l.Admit(t0, nil, nil).Decision == policy.Admit {
		went.Add(1)
	}
	if n := went.Load(); n != burst {
		t.Errorf("%d went, want %d", n, burst)
	}
}

// Where few calls may go, and on one processor, nothing is lent.
func TestLeasesOnlyWhereProcessorsMeet(t *testing.T) {
	l := must(t, Options{Limit: 1000, Burst: 100})
	l.met(l.pace.Load())
	if l.leases.Load() != nil {
		t.Error("leases for a burst of 100")
	}
	l = must(t, Options{Limit: 1_000_000})
	for range 100 {
		l.Admit(t0, nil, nil)
	}
	if l.leases.Load() != nil {
		t.Error("leases for one processor")
	}
}
