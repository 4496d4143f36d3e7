package policytest_test

import (
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/policytest"
	"github.com/hull-go/hull/policy/rate"
	"github.com/hull-go/hull/policy/throttle"
)

// Every gate of Hull passes the suite, in each of its kinds.
func TestGates(t *testing.T) {
	for _, tt := range []struct {
		name string
		new  func() policy.Gate
		caps policytest.Caps
	}{
		{"breaker", func() policy.Gate { return must(breaker.New(breaker.Options{})) },
			policytest.Caps{Recovers: 40 * time.Second, Generations: true}},
		{"breaker, consecutive and slow", func() policy.Gate {
			return must(breaker.New(breaker.Options{Consecutive: 3, Slow: time.Second, SlowCalls: 0.5, OpenCap: 2 * time.Second, PushbackCap: 2 * time.Second, Ramp: -1}))
		}, policytest.Caps{Recovers: 15 * time.Second, Generations: true}},
		{"breaker, the latest calls", func() policy.Gate { return must(breaker.New(breaker.Options{LastCalls: 50})) },
			policytest.Caps{Recovers: 40 * time.Second, Generations: true}},
		{"throttle", func() policy.Gate { return must(throttle.New(throttle.Options{})) },
			policytest.Caps{Recovers: 34 * time.Second}},
		{"rate, token bucket", func() policy.Gate { return must(rate.New(rate.Options{Limit: 200})) },
			policytest.Caps{Recovers: 10 * time.Millisecond}},
		{"rate, leaky bucket with waits", func() policy.Gate {
			return must(rate.New(rate.Options{Limit: 200, Shape: rate.LeakyBucket, MaxWait: 50 * time.Millisecond}))
		}, policytest.Caps{Recovers: 100 * time.Millisecond}},
		{"rate, by key", func() policy.Gate { return must(rate.New(rate.Options{Limit: 200, Key: rate.ByMethod(), Keys: 64})) },
			policytest.Caps{Recovers: 10 * time.Millisecond, Call: policy.Call{Service: "s", Method: "m"}}},
	} {
		t.Run(tt.name, func(t *testing.T) { policytest.TestGate(t, tt.new, tt.caps) })
	}
}

func TestLines(t *testing.T) {
	for _, tt := range []struct {
		name string
		opt  concurrency.Options
		caps policytest.Caps
	}{
		{"FIFO", concurrency.Options{Limit: 3, Queue: 10}, policytest.Caps{Places: 3}},
		{"LIFO", concurrency.Options{Limit: 3, Queue: 10, Order: concurrency.LIFO}, policytest.Caps{Places: 3}},
		{"CoDel", concurrency.Options{Limit: 3, Queue: 10, Order: concurrency.CoDel}, policytest.Caps{Places: 3}},
		{"one place", concurrency.Options{Limit: 1, Queue: 2, Flat: true}, policytest.Caps{Places: 1}},
		{"long line", concurrency.Options{Limit: 2, Queue: 1000, MaxWait: time.Minute}, policytest.Caps{Places: 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			policytest.TestLine(t, func() policy.Line { return must(concurrency.New(tt.opt)) }, tt.caps)
		})
	}
	t.Run("two-arm", func(t *testing.T) {
		policytest.TestLine(t, func() policy.Line {
			src := must(concurrency.NewTwoArm(concurrency.TwoArmOptions{Start: 8, Max: 16}))
			return must(concurrency.New(concurrency.Options{Source: src}))
		}, policytest.Caps{})
	})
	t.Run("AIMD", func(t *testing.T) {
		policytest.TestLine(t, func() policy.Line {
			src := must(concurrency.NewAIMD(concurrency.AIMDOptions{Start: 8, Max: 16}))
			return must(concurrency.New(concurrency.Options{Source: src}))
		}, policytest.Caps{})
	})
}

func TestBulkheadWithoutLine(t *testing.T) {
	policytest.TestGate(t, func() policy.Gate { return must(concurrency.New(concurrency.Options{Limit: 5})) }, policytest.Caps{Places: 5})
}
