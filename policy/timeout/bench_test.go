package timeout

import (
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

func BenchmarkAttempt(b *testing.B) {
	var to policy.Timeouts = must(b, Options{})
	c := &policy.Call{}
	b.ReportAllocs()
	for b.Loop() {
		to.Attempt(t0, c, time.Second, false)
		to.Done(t0, policy.Ended{Took: ms})
	}
}

func BenchmarkAttemptParallel(b *testing.B) {
	var to policy.Timeouts = must(b, Options{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		c := &policy.Call{}
		for pb.Next() {
			to.Attempt(t0, c, time.Second, false)
			to.Done(t0, policy.Ended{Took: ms})
		}
	})
}

func BenchmarkStep(b *testing.B) {
	to := must(b, Options{})
	now := t0
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Second)
		to.Attempt(now, nil, time.Second, false)
	}
}
