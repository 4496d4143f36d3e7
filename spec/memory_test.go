package spec

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/hull-go/hull/policy"
)

// methodsHeap is what the heap holds more after n methods were made and called a few times.
func methodsHeap(t testing.TB, n, calls int) (bytes int64) {
	book := mustBook(t, doc)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range n {
		m := mustMethod(t, book, "greeter", fmt.Sprint("greeter.Greeter/M", i))
		for range calls {
			if _, err := policy.Do(t.Context(), m.Unary, func(context.Context) (int, error) { return 0, nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	runtime.GC()
	runtime.GC() // pools are emptied by the second
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(book)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

// TestMethodsAreSmall: a method that is called now and then takes a few KiB. With whole histograms for each it was 17 KiB.
func TestMethodsAreSmall(t *testing.T) {
	const n = 2000
	for calls, most := range map[int]int64{0: 4096, 3: 5120} {
		b := methodsHeap(t, n, calls) / n
		t.Logf("%d B for a method called %d times", b, calls)
		if b > most {
			t.Errorf("%d B for a method called %d times, want at most %d", b, calls, most)
		}
	}
}

// BenchmarkMethodsHeap shows what ten thousand methods take that are called now and then.
func BenchmarkMethodsHeap(b *testing.B) {
	for b.Loop() {
		b.ReportMetric(float64(methodsHeap(b, MaxMethods, 3))/1e6, "MB")
	}
}
