package concurrency

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What the limit makes of services, in simulation. The numbers in arms.go and the default of Elasticity were chosen with the tuning
// seeds, so only the others can judge them; both are printed.
const (
	tuningSeeds, judgeSeeds = 1000, 2_000_000 // the first of each
)

// sample runs f for n seeds from the first on and returns what it yields in rising order.
func sample(first, n int, f func(seed uint64) float64) []float64 {
	out := make([]float64, n)
	next := make(chan int)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range next {
				out[i] = f(uint64(first + i))
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	slices.Sort(out)
	return out
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// judge samples f with both sets of seeds and prints them. It returns the figures of the seeds that judge.
func judge(t *testing.T, seeds int, f func(seed uint64) float64) []float64 {
	t.Helper()
	if quick || testing.Short() {
		seeds = min(seeds, 3)
	}
	tuned, got := sample(tuningSeeds, max(seeds/2, 1), f), sample(judgeSeeds, seeds, f)
	t.Logf("%3d seeds to judge: least %.3f, mean %.3f, most %.3f", seeds, got[0], mean(got), got[seeds-1])
	t.Logf("%3d seeds to tune:  least %.3f, mean %.3f, most %.3f", len(tuned), tuned[0], mean(tuned), tuned[len(tuned)-1])
	return got
}

// A service changes after 30 s. 20 s later at least 90 % of the capacity there is then is served, over 10 s.
func TestTwoArmFollows(t *testing.T) {
	for _, tt := range []struct {
		name   string
		cores  int
		load   float64 // times the capacity before
		least  float64
		change func(w *world)
	}{
		{"2× load", 4, 2, 0.9, func(*world) {}},
		{"dependency +200ms", 4, 2, 0.9, func(w *world) { w.extra += 200 * time.Millisecond }},
		{"dependency +200ms, 16 cores", 16, 2, 0.9, func(w *world) { w.extra += 200 * time.Millisecond }},
		{"service 3× slower", 4, 2, 0.9, func(w *world) { w.work *= 3 }},
		// With L about 80 when it happens, a climb by mistake makes answers late for a second or two.
		{"service 3× slower at 1.2× load", 4, 1.2, 0.75, func(w *world) { w.work *= 3 }},
		{"dependency back to quick", 4, 2, 0.9, func(w *world) { w.dep = 5 * time.Millisecond }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := judge(t, changeSeeds, func(seed uint64) float64 {
				w := newWorld(seed, must(t, Options{Source: mustTwoArm(t, TwoArmOptions{Start: 20 * tt.cores})}))
				w.cores = tt.cores
				load := tt.load * w.capacity()
				w.arrive(func() float64 { return load }, plain)
				w.until(30 * time.Second)
				tt.change(w)
				w.until(62 * time.Second)
				return w.figures(50*time.Second, 60*time.Second, nil).goodput / w.capacity()
			})
			if got[0] < tt.least || mean(got) < 0.95 {
				t.Errorf("least share of capacity %.3f, mean %.3f; want %v and 0.95", got[0], mean(got), tt.least)
			}
		})
	}
}

// changeSeeds is over how many seeds the changes of a service run, which take a minute each.
const changeSeeds = 30

// The dependency does not answer in time for 30 s, then does again.
func TestTwoArmAfterAHang(t *testing.T) {
	got := judge(t, changeSeeds, func(seed uint64) float64 {
		w := newWorld(seed, must(t, Options{Source: mustTwoArm(t, TwoArmOptions{Start: 80})}))
		load := 1.5 * w.capacity()
		w.arrive(func() float64 { return load }, plain)
		w.until(20 * time.Second)
		w.extra = 3 * time.Second
		w.until(50 * time.Second)
		w.extra = 0
		w.until(82 * time.Second)
		return w.figures(70*time.Second, 80*time.Second, nil).goodput / w.capacity()
	})
	if got[0] < 0.9 {
		t.Errorf("least share of capacity %.3f 20 s later, want 0.9", got[0])
	}
}

// Where a call takes a second or more there is little to learn from in a second, and the limit begins far too low. It grows all the same.
func TestTwoArmGrowsForSlowServices(t *testing.T) {
	crowd := func(busy int) time.Duration { return time.Second + time.Duration(busy)*10*time.Millisecond }
	for _, tt := range []struct {
		name     string
		set      func(w *world)
		load     float64 // per second
		from, to time.Duration
		want     float64 // served per second
		least    float64 // of that
	}{
		{"64 cores, 1 s each", func(w *world) { w.cores, w.work = 64, time.Second }, 128, 40 * time.Second, 70 * time.Second, 64, 0.85},
		{"dependency of 1 s", func(w *world) { w.extra = time.Second }, 800, 40 * time.Second, 60 * time.Second, 400, 0.9},
		{"dependency of 3 s", func(w *world) { w.extra = 3 * time.Second }, 800, 70 * time.Second, 90 * time.Second, 400, 0.9},
		// It takes 1 s and 10 ms more for each call it has, up to 180 before answers come too late. With these it serves 64 a second.
		{"in each other's way, 40/s", func(w *world) { w.crowd, w.patient = crowd, 3*time.Second }, 40, 45 * time.Second, 60 * time.Second, 40, 0.6},
		{"in each other's way, 80/s", func(w *world) { w.crowd, w.patient = crowd, 3*time.Second }, 80, 60 * time.Second, 90 * time.Second, 60, 0.5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := judge(t, changeSeeds, func(seed uint64) float64 {
				w := newWorld(seed, must(t, Options{Source: mustTwoArm(t, TwoArmOptions{Start: 40})}))
				w.patient = 15 * time.Second
				if tt.set(w); w.crowd != nil {
					w.l = must(t, Options{Source: mustTwoArm(t, TwoArmOptions{Start: 20})})
					w.dep = 200 * time.Millisecond
				}
				w.arrive(func() float64 { return tt.load }, plain)
				w.until(tt.to + 5*time.Second)
				return w.completed(tt.from, tt.to) / tt.want
			})
			if got[0] < tt.least {
				t.Errorf("least share %.3f of %v/s, want %v", got[0], tt.want, tt.least)
			}
		})
	}
}

// A load that a service can bear is not shed: from the start, and after an overload taught the limit to be small.
func TestTwoArmShedsNothingAt80Percent(t *testing.T) {
	for _, tt := range []struct {
		name  string
		first float64 // load of the first 30 s, times capacity
		cores int
	}{
		{"from the start", 0.8, 4},
		{"from the start, one core", 0.8, 1},
		{"after overload, one core", 2, 1},
		{"after overload, two cores", 2, 2},
		{"after overload, four cores", 2, 4},
		{"after overload, 16 cores", 2, 16},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var learned atomic.Int64 // the largest share of a seed, in millionths, from 6 s after the overload on
			got := judge(t, changeSeeds, func(seed uint64) float64 {
				w := newWorld(seed, must(t, Options{Source: mustTwoArm(t, TwoArmOptions{Start: 20 * tt.cores})}))
				w.cores = tt.cores
				w.arrive(func() float64 {
					if w.now < at(30*time.Second) {
						return tt.first * w.capacity()
					}
					return 0.8 * w.capacity()
				}, plain)
				w.until(62 * time.Second)
				shed := int64(1e6 * w.figures(36*time.Second, 61*time.Second, nil).shed)
				for v := learned.Load(); v < shed && !learned.CompareAndSwap(v, shed); v = learned.Load() {
				}
				return w.figures(31*time.Second, 61*time.Second, nil).shed
			})
			if n := learned.Load(); n > 10_000 {
				t.Errorf("with some seed %d of a million were shed at 0.8 × load once the overload was forgotten, want at most 1 %%", n)
			}
			// What an overload taught is unlearned within seconds, in which a single core sheds what comes in a rush.
			if most := got[len(got)-1]; mean(got) > 0.01 || most > 0.02 {
				t.Errorf("%.4f shed at 0.8 × load, up to %.4f; want at most 0.01, and 0.02 with any seed", mean(got), most)
			}
		})
	}
}
