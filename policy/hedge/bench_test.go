package hedge

import (
	"testing"

	"github.com/hull-go/hull/policy"
)

func BenchmarkDelay(b *testing.B) {
	var h policy.Hedging = must(b, Options{})
	c := &policy.Call{}
	b.ReportAllocs()
	for b.Loop() {
		h.Delay(t0, c, 1)
		h.Done(t0, policy.Ended{Took: ms})
	}
}

func BenchmarkDelayParallel(b *testing.B) {
	var h policy.Hedging = must(b, Options{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		c := &policy.Call{}
		for pb.Next() {
			h.Delay(t0, c, 1)
			h.Done(t0, policy.Ended{Took: ms})
		}
	})
}
