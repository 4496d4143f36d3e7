package rolling

import (
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const ms = time.Millisecond

func TestNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sum, most := NewNumber(), NewNumber()
		for i := range 25 {
			sum.Increment(1)
			sum.Increment(0)
			sum.Increment(0.5)
			most.UpdateMax(float64(100 - i))
			most.UpdateMax(1)
			now, n := time.Now(), min(i+1, 10)
			if got := sum.Sum(now); got != 1.5*float64(n) {
				t.Errorf("second %d: sum %v", i, got)
			}
			if got := sum.Avg(now); got != 1.5*float64(n)/10 {
				t.Errorf("second %d: average %v", i, got)
			}
			if got, want := most.Max(now), float64(100-max(i-9, 0)); got != want {
				t.Errorf("second %d: max %v, want %v", i, got, want)
			}
			if len(sum.Buckets) > 10 || len(most.Buckets) > 10 {
				t.Errorf("second %d: %d buckets are kept", i, len(sum.Buckets))
			}
			time.Sleep(time.Second)
		}
		time.Sleep(9 * time.Second)
		if sum.Sum(time.Now()) != 0 || most.Max(time.Now()) != 0 {
			t.Error("ten seconds later something is left")
		}
	})
}

// TestNumberBuckets: the buckets can be looked at, by Unix second.
func TestNumberBuckets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNumber()
		n.Increment(3)
		n.Mutex.RLock()
		defer n.Mutex.RUnlock()
		for s, b := range n.Buckets {
			if d := time.Now().Unix() - s; b.Value != 3 || d < -1 || d > 1 {
				t.Errorf("%v, %d s off", b.Value, d)
			}
		}
	})
}

func TestTiming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewTiming()
		if r.Mean() != 0 || r.Percentile(50) != 0 || len(r.SortedDurations()) != 0 {
			t.Error("an empty one knows something")
		}
		time.Sleep(fresh)
		for _, n := range []int{40, 10, 20, 30} {
			r.Add(time.Duration(n) * ms)
		}
		if got := r.SortedDurations(); !slices.Equal(got, []time.Duration{10 * ms, 20 * ms, 30 * ms, 40 * ms}) {
			t.Error(got)
		}
		for p, want := range map[float64]uint32{-1: 10, 0: 10, 25: 10, 26: 20, 50: 20, 75: 30, 99.5: 40, 100: 40, 1000: 40} {
			if got := r.Percentile(p); got != want {
				t.Errorf("percentile %v is %d, want %d", p, got, want)
			}
		}
		if got := r.Mean(); got != 25 {
			t.Errorf("mean %d", got)
		}
		r.Add(time.Second)
		if got := r.Percentile(100); got != 40 {
			t.Errorf("%d: the answer does not serve for a second", got)
		}
		time.Sleep(fresh)
		if got := r.Percentile(100); got != 1000 {
			t.Errorf("%d a second later", got)
		}
		time.Sleep(time.Minute)
		if got := r.Mean(); got != 0 {
			t.Errorf("%d a minute later", got)
		}
	})
}

func TestOrdinal(t *testing.T) {
	for _, tt := range []struct {
		n    int
		p    float64
		want int
	}{{1, 0, 1}, {2, 0, 1}, {2, 50, 1}, {2, 51, 2}, {5, 30, 2}, {5, 40, 2}, {5, 50, 3}, {11, 25, 3}, {11, 50, 6}, {11, 75, 9}, {11, 100, 11}} {
		if got := ordinal(tt.n, tt.p); got != tt.want {
			t.Errorf("rank of %v%% of %d is %d, want %d", tt.p, tt.n, got, tt.want)
		}
	}
}

// TestDurationsAreBounded: hystrix-go keeps all of a minute. The sample is an even one.
func TestDurationsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewTiming()
		for range 90 {
			for d := range 2000 {
				r.Add(time.Duration(d) * ms)
			}
			time.Sleep(time.Second)
		}
		if n := len(r.SortedDurations()); n > 60*kept || n < 59*kept {
			t.Errorf("%d durations are kept", n)
		}
		if len(r.Buckets) > 60 {
			t.Errorf("%d seconds are kept", len(r.Buckets))
		}
		// The standard error of the mean is 577/√5900 = 7.5.
		if mean := r.Mean(); math.Abs(float64(mean)-1000) > 50 {
			t.Errorf("mean %d, want 1000", mean)
		}
	})
}

// TestMeanOfLongDurations: hystrix-go's overflows at 4.29 s.
func TestMeanOfLongDurations(t *testing.T) {
	r := NewTiming()
	r.Add(time.Minute)
	r.Add(2 * time.Minute)
	if got := r.Mean(); got != 90_000 {
		t.Errorf("%d", got)
	}
}

// TestParallel: nothing is lost, and the race detector is content.
func TestParallel(t *testing.T) {
	n, r := NewNumber(), NewTiming()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 1000 {
				n.Increment(1)
				n.UpdateMax(0)
				r.Add(time.Duration(i))
				n.Sum(time.Now())
				r.Percentile(50)
			}
		})
	}
	wg.Wait()
	if got := n.Sum(time.Now()); got != 4000 {
		t.Errorf("%v, want 4000", got)
	}
}

func BenchmarkNumberIncrement(b *testing.B) {
	n := NewNumber()
	b.ReportAllocs()
	for b.Loop() {
		n.Increment(1)
	}
}

func BenchmarkTimingAdd(b *testing.B) {
	r := NewTiming()
	b.ReportAllocs()
	for b.Loop() {
		r.Add(ms)
	}
}
