package window

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

const second = int64(time.Second)

func TestEventsLeaveTheWindow(t *testing.T) {
	r := New(10*second, 10, 2)
	start := 1_700_000_000 * second
	r.Add(start, 1, 0)
	r.Add(start+second/2, 1, 1)
	r.Add(start+5*second, 1, 0)
	for _, tt := range []struct {
		at   int64
		want [Kinds]int64
	}{
		{start, [Kinds]int64{1, 1}},
		{start + 5*second, [Kinds]int64{2, 1}},
		{start + 9*second, [Kinds]int64{2, 1}},
		{start + 11*second, [Kinds]int64{1, 0}},
		{start + 16*second, [Kinds]int64{}},
		{start + 1_000_000*second, [Kinds]int64{}},
	} {
		if got := r.Sum(tt.at, 1); got != tt.want {
			t.Errorf("%d s later: %v, want %v", (tt.at-start)/second, got, tt.want)
		}
	}
}

func TestGenerationsDoNotMix(t *testing.T) {
	r := New(10*second, 10, 1)
	now := 100 * second
	for range 5 {
		r.Add(now, 1, 0)
	}
	r.Add(now, 2, 0)
	if got := r.Sum(now, 2)[0]; got != 1 {
		t.Errorf("generation 2 has %d events, want 1", got)
	}
	if got := r.Sum(now, 1)[0]; got != 0 {
		t.Errorf("generation 1 has %d events after its bucket was taken over, want 0", got)
	}
}

func TestAgainstList(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for _, n := range []int{1, 2, 3, 10, 16} {
		length := second * int64(n)
		r := New(length, n, 2)
		type event struct {
			bucket int64
			kind   int
		}
		var list []event
		now := 1_000 * second
		for range 5_000 {
			now += rnd.Int64N(second)
			e := event{now / second, rnd.IntN(2)}
			list = append(list, e)
			r.Add(now, 7, e.kind)
			var want [Kinds]int64
			for i := len(list) - 1; i >= 0 && list[i].bucket > now/second-int64(n); i-- {
				want[list[i].kind]++
			}
			if got := r.Sum(now, 7); got != want {
				t.Fatalf("%d buckets, at %d: %v, want %v", n, now, got, want)
			}
		}
	}
}

func TestParallelLosesNothing(t *testing.T) {
	r := New(10*second, 10, 1)
	fill := func(want int64) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 10_000 {
					r.Add(5*second, 1, 0)
				}
			})
		}
		wg.Wait()
		if got := r.Sum(5*second, 1)[0]; got != want {
			t.Errorf("%d events, want %d", got, want)
		}
	}
	fill(40_000)
	r.spreadOut() // as if they had met in a cell, which a single processor's never do
	fill(80_000)
	r.spreadOut() // and two noticed it
	fill(120_000)
	if got := r.Sum(5*second, 2)[0]; got != 0 {
		t.Errorf("%d events of another generation", got)
	}
	if got := r.Sum(16*second, 1)[0]; got != 0 {
		t.Errorf("%d events when the window had passed", got)
	}
}

func BenchmarkAdd(b *testing.B) {
	r := New(10*second, 10, 2)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.Add(1_700_000_000*second, 1, 0)
		}
	})
}

func BenchmarkSum(b *testing.B) {
	r := New(10*second, 10, 2)
	b.ReportAllocs()
	for b.Loop() {
		r.Sum(1_700_000_000*second, 1)
	}
}
