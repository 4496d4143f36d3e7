package stripe

import (
	"sync"
	"testing"
)

func TestCounterLosesNothing(t *testing.T) {
	var c Counter
	fill := func(want int64) {
		t.Helper()
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for range 1000 {
					c.Add(2)
					c.Add(-1)
				}
			})
		}
		wg.Wait()
		if n := c.Load(); n != want {
			t.Errorf("counted %d of %d", n, want)
		}
	}
	fill(16_000)
	c.spreadOut() // as if two had met, which a single processor's never do
	c.spreadOut()
	fill(32_000)
	if n := c.Take(); n != 32_000 || c.Load() != 0 {
		t.Errorf("took %d of 32000 and left %d", n, c.Load())
	}
	fill(16_000)
}

func TestGoroutinesSpread(t *testing.T) {
	var c Choice
	var used [N]int
	var mu sync.Mutex
	var wg sync.WaitGroup
	release := make(chan struct{})
	for range 256 {
		wg.Go(func() {
			i := c.Of(Here())
			<-release // so that no stack is used again
			mu.Lock()
			used[i]++
			mu.Unlock()
		})
	}
	close(release)
	wg.Wait()
	for i, n := range used {
		if n == 256 {
			t.Errorf("all goroutines share place %d", i)
		}
	}
}

// Who meets another gets the next place, and nobody else gets another for it.
func TestWhoMeetsMoves(t *testing.T) {
	var c Choice
	const a, b = Caller(1 << 57), Caller(2 << 57)
	for i := range uint(2 * N) {
		if c.Of(a) != i%N || c.Of(b) != 0 {
			t.Fatalf("after %d meetings a has place %d and b %d, want %d and 0", i, c.Of(a), c.Of(b), i%N)
		}
		c.Met(a)
	}
	for i := range uint(callers) { // none touches another's bits
		who := Caller(i << 57)
		was := c.Of(who)
		c.Met(who)
		if is := c.Of(who); is != (was+1)%N {
			t.Errorf("caller %d moved from %d to %d", i, was, is)
		}
	}
}

func BenchmarkCounter(b *testing.B) {
	var c Counter
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Add(1)
		}
	})
}
