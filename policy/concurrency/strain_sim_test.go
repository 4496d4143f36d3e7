package concurrency

import (
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// shares plays a world for 20 s and returns the share of the calls that were served, of those that began from 5 s to 15 s, for each class.
func shares(w *world) (critical, sheddable float64) {
	w.until(20 * time.Second)
	share := func(class policy.Criticality) float64 {
		n, served := 0, 0
		for _, r := range w.done {
			if r.class == class && r.began >= at(5*time.Second) && r.began < at(15*time.Second) {
				n++
				if r.served {
					served++
				}
			}
		}
		return float64(served) / float64(max(n, 1))
	}
	return share(policy.Critical), share(policy.Sheddable)
}

// A client whose deadlines nobody could keep takes no places from those who have time: it asks 5 times a second, they 40 at once each second and
// 60 a second in between.
func TestStrainOfOneClient(t *testing.T) {
	for seed := range uint64(20) {
		for _, start := range []int{80, 320} {
			source := mustTwoArm(t, TwoArmOptions{Start: start})
			w := newWorld(seed, must(t, Options{Source: source}))
			w.cores, w.work, w.dep = 1, 5*time.Millisecond, 0
			patient := func(class policy.Criticality, d time.Duration) func() policy.Call {
				return func() policy.Call {
					w.patient = d
					return policy.Call{Criticality: class}
				}
			}
			rate := func(r float64) func() float64 {
				return func() float64 {
					if w.now >= at(15*time.Second) {
						return 0
					}
					return r
				}
			}
			w.arrive(rate(60), patient(policy.Critical, 5*time.Second))
			w.arrive(rate(5), patient(policy.Sheddable, 12*time.Millisecond))
			for i := range 15 {
				w.after(time.Duration(i)*time.Second, func() {
					for range 40 {
						w.offer(patient(policy.Critical, 5*time.Second)())
					}
				})
			}
			if got, _ := shares(w); got < 0.999 {
				t.Errorf("seed %d, start %d: %.1f %% of those who have time were served, want all; %+v", seed, start, 100*got, source.Snapshot())
			}
		}
	}
}

// slower is a world whose dependency goes from 15 ms to top within ramp, and stays there; it has nothing else to do.
func slower(t *testing.T, seed uint64, start int, rate float64, ramp, top time.Duration) *world {
	w := newWorld(seed, must(t, Options{Source: mustTwoArm(t, TwoArmOptions{Start: start})}))
	const fast, steps = 15 * time.Millisecond, 100
	w.cores, w.work, w.dep, w.patient = 10_000, time.Microsecond, time.Millisecond, 100*time.Millisecond
	w.extra = fast
	for i := 1; i <= steps; i++ {
		part := func(d time.Duration) time.Duration { return d / steps * time.Duration(i) }
		w.after(5*time.Second+part(ramp), func() { w.extra = fast + part(top-fast) })
	}
	w.arrive(func() float64 {
		if w.now >= at(15*time.Second) {
			return 0
		}
		return rate
	}, func() policy.Call { return policy.Call{Criticality: policy.Critical} })
	return w
}

// A dependency that gets slower looks like a service that has too much to do: attempts take longer in step with the places that are taken. Taking
// places away does not help then, and they are given back. Without that 75 to 95 % are served.
func TestStrainIsNotADependency(t *testing.T) {
	for _, start := range []int{80, 160} {
		for _, rate := range []float64{200, 400, 1000} {
			for _, top := range []time.Duration{75 * time.Millisecond, 85 * time.Millisecond} {
				mean, least := 0.0, 1.0
				const seeds = 5
				for seed := range uint64(seeds) {
					got, _ := shares(slower(t, seed, start, rate, 300*time.Millisecond, top))
					mean += got / seeds
					least = min(least, got)
				}
				t.Logf("start %d, %v a second, to %v: %.2f %% served, least %.2f %%", start, rate, top, 100*mean, 100*least)
				if mean < 0.95 || least < 0.9 {
					t.Errorf("start %d, %v a second, to %v: %.1f %% served, least %.1f %%; all would have been in time", start, rate, top, 100*mean, 100*least)
				}
			}
		}
	}
}

// What really has too much to do is relieved of it, and that is not mistaken for a dependency.
func TestStrainStays(t *testing.T) {
	for _, start := range []int{80, 160} {
		const seeds = 20
		mean, mistakes := 0.0, 0
		for seed := range uint64(seeds) {
			source := mustTwoArm(t, TwoArmOptions{Start: start})
			w := newWorld(seed, must(t, Options{Source: source}))
			w.patient = 100 * time.Millisecond
			w.arrive(func() float64 {
				if w.now >= at(5*time.Second) {
					return 1.4 * w.capacity()
				}
				return 0.5 * w.capacity()
			}, plain)
			w.until(8 * time.Second)
			mean += w.completed(5*time.Second, 8*time.Second) / w.capacity() / seeds
			if source.rest > 0 {
				mistakes++
			}
		}
		t.Logf("start %d: %.3f of the capacity, %d mistakes", start, mean, mistakes)
		if mean < 0.55 || mistakes > 1 {
			t.Errorf("start %d: %.2f of the capacity, want 0.55; mistaken for a dependency with %d seeds of %d, want 1 at most", start, mean, mistakes, seeds)
		}
	}
}
