package main

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/hedge"
	"github.com/hull-go/hull/policy/rate"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/policy/throttle"
	"github.com/hull-go/hull/policy/timeout"
	"github.com/hull-go/hull/status"
)

// step is how much time passes between two calls of those that are given the time.
const step policy.Time = 100

// watch is the time that the goroutines of a bench are given. Each counts for itself, and now and then those behind catch up: clocks of
// one machine do not differ by as much as loops come to.
type watch struct{ latest atomic.Int64 }

func (w *watch) next(now policy.Time, i int) policy.Time {
	if i%1024 == 0 {
		now = w.together(now)
	}
	return now + step
}

func (w *watch) together(now policy.Time) policy.Time {
	for {
		latest := w.latest.Load()
		if latest >= int64(now) || w.latest.CompareAndSwap(latest, int64(now)) {
			return max(now, policy.Time(latest))
		}
	}
}

// perSecond is a rate that no bench reaches.
const perSecond = 1e8

// hullGates returns Hull's policies one by one, called as pipelines call them: through an interface, with the time.
func hullGates() []bench {
	gate := func(group string, build func() (policy.Gate, error)) bench {
		return bench{Group: group, Name: "hull", Hull: true, Given: true, Setup: func() (body, error) {
			g, err := build()
			var w watch
			return func(n int) error {
				rnd, c, now := rand.NewPCG(1, 2), &policy.Call{}, policy.Now()
				for i := range n {
					now = w.next(now, i)
					v := g.Admit(now, rnd, c)
					if v.Decision != policy.Admit {
						return refused(v.Reason)
					}
					g.Done(now, rnd, v.Permit, policy.Success)
				}
				return nil
			}, err
		}}
	}
	return []bench{
		gate("breaker", func() (policy.Gate, error) { return breaker.New(breaker.Options{}) }),
		gate("breaker by count", func() (policy.Gate, error) { return breaker.New(breaker.Options{LastCalls: 100}) }),
		{Group: "retry decision after a failure", Name: "hull", Hull: true, Given: true, Setup: func() (body, error) {
			var r policy.Retries
			r, err := retry.New(retry.Options{})
			var w watch
			return func(n int) error {
				rnd, c, now := rand.NewPCG(1, 2), &policy.Call{Idempotent: true}, policy.Now()
				for i := range n {
					now = w.next(now, i)
					if _, ok, why := r.Again(now, rnd, c, 1, policy.ClassReset, status.Maybe, 0); !ok {
						return refused(why)
					}
				}
				return nil
			}, err
		}},
		{Group: "retry budget, earning", Name: "hull", Hull: true, Given: true, Setup: func() (body, error) {
			var b policy.Budget
			b, err := retry.NewBudget(retry.BudgetOptions{})
			var w watch
			return func(n int) error {
				now := policy.Now()
				for i := range n {
					now = w.next(now, i)
					b.Earn(now, 1)
				}
				return nil
			}, err
		}},
		{Group: "timeout", Name: "hull", Hull: true, Given: true, Setup: func() (body, error) {
			var t policy.Timeouts
			t, err := timeout.New(timeout.Options{})
			var w watch
			return func(n int) error {
				c, now := &policy.Call{}, policy.Now()
				for i := range n {
					now = w.next(now, i)
					if t.Attempt(now, c, time.Second, false) <= 0 {
						return refused("no time")
					}
					t.Done(now, policy.Ended{Took: time.Millisecond})
				}
				return nil
			}, err
		}},
		gate("bulkhead", func() (policy.Gate, error) { return concurrency.New(concurrency.Options{Limit: limit}) }),
		{Group: "hedge", Name: "hull", Hull: true, Given: true, Setup: func() (body, error) {
			var h policy.Hedging
			h, err := hedge.New(hedge.Options{})
			var w watch
			return func(n int) error {
				c, now := &policy.Call{SideEffectFree: true}, policy.Now()
				for i := range n {
					now = w.next(now, i)
					h.Delay(now, c, 1)
					h.Done(now, policy.Ended{Took: time.Millisecond})
				}
				return nil
			}, err
		}},
		gate("throttle", func() (policy.Gate, error) { return throttle.New(throttle.Options{}) }),
		gate("adaptive limiter", adaptive),
		gate("rate limit", func() (policy.Gate, error) { return rate.New(rate.Options{Limit: perSecond}) }),
	}
}

func adaptive() (policy.Gate, error) {
	src, err := concurrency.NewTwoArm(concurrency.TwoArmOptions{})
	if err != nil {
		return nil, err
	}
	return concurrency.New(concurrency.Options{Source: src})
}

// hullDo returns pipelines around a function that does nothing.
func hullDo() []bench {
	do := func(group, name string, c policy.Call, build func(*policy.Options) error) bench {
		return bench{Group: group, Name: name, Hull: true, Setup: func() (body, error) {
			o := policy.Options{Key: group}
			if err := build(&o); err != nil {
				return nil, err
			}
			p, err := policy.New(o)
			return func(n int) error {
				ctx := context.Background()
				fn := func(context.Context) (int, error) { return 1, nil }
				for range n {
					if _, err := policy.Do(ctx, p, fn, c); err != nil {
						return err
					}
				}
				return nil
			}, err
		}}
	}
	return []bench{
		do("breaker", "hull, in Do", policy.Call{}, withBreaker),
		do("retry", "hull, in Do, with budget", policy.Call{}, withRetries),
		do("timeout", "hull, in Do", policy.Call{}, withTimeouts),
		do("bulkhead", "hull, in Do", policy.Call{}, withBulkhead),
		do("hedge", "hull, in Do", policy.Call{SideEffectFree: true}, withHedging),
		do("throttle", "hull, in Do", policy.Call{}, withThrottle),
		do("adaptive limiter", "hull, in Do", policy.Call{}, withAdaptive),
		do("rate limit", "hull, in Do", policy.Call{}, withRate),
		do("chain of 4", "hull, in Do", policy.Call{}, allOf(withChainRetries, withBreaker, withTimeouts, withBulkhead)),
		do("chain of 6", "hull, in Do", policy.Call{}, allOf(withRate, withBreaker, withRetries, withThrottle, withAdaptive, withTimeouts)),
	}
}

func allOf(parts ...func(*policy.Options) error) func(*policy.Options) error {
	return func(o *policy.Options) error {
		for _, p := range parts {
			if err := p(o); err != nil {
				return err
			}
		}
		return nil
	}
}

func withBreaker(o *policy.Options) error {
	g, err := breaker.New(breaker.Options{})
	o.Breaker = policy.Slot{Name: "breaker", Gate: g}
	return err
}

// withChainRetries has no budget: nor do the retries of the chain that it is compared with.
func withChainRetries(o *policy.Options) (err error) {
	o.Retries, err = retry.New(retry.Options{})
	return err
}

func withRetries(o *policy.Options) (err error) {
	if o.Budget, err = retry.NewBudget(retry.BudgetOptions{}); err != nil {
		return err
	}
	return withChainRetries(o)
}

func withTimeouts(o *policy.Options) (err error) {
	o.Timeouts, err = timeout.New(timeout.Options{})
	return err
}

func withBulkhead(o *policy.Options) error {
	g, err := concurrency.New(concurrency.Options{Limit: limit})
	o.Concurrency = policy.Slot{Name: "concurrency", Gate: g}
	return err
}

func withHedging(o *policy.Options) (err error) {
	if o.Hedging, err = hedge.New(hedge.Options{Delay: time.Second}); err != nil {
		return err
	}
	return withChainRetries(o)
}

func withThrottle(o *policy.Options) error {
	g, err := throttle.New(throttle.Options{})
	o.Throttle = policy.Slot{Name: "throttle", Gate: g}
	return err
}

func withAdaptive(o *policy.Options) error {
	g, err := adaptive()
	o.Concurrency = policy.Slot{Name: "concurrency", Gate: g}
	return err
}

func withRate(o *policy.Options) error {
	g, err := rate.New(rate.Options{Limit: perSecond})
	o.Rate = policy.Slot{Name: "rate", Gate: g}
	return err
}
