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
	var used [N]int
	var mu sync.Mutex
	var wg sync.WaitGroup
	release := make(chan struct{})
	for range 256 {
		wg.Go(func() {
			i := Index()
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

func BenchmarkCounter(b *testing.B) {
	var c Counter
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Add(1)
		}
	})
}
