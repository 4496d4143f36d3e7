package main

import (
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
)

// failsafes returns failsafe-go's policies, each in an executor around a function that does nothing: nows is how often a call
// reads the clock. Parameters are those of Hull's defaults where there is a choice.
func failsafes() []bench {
	with := func(group string, nows, sinces int, build func() []failsafe.Policy[int]) bench {
		return bench{Group: group, Name: "failsafe-go", Nows: nows, Sinces: sinces, Setup: func() (body, error) {
			ex := failsafe.With(build()...)
			return func(n int) error {
				fn := func() (int, error) { return 1, nil }
				for range n {
					if _, err := ex.Get(fn); err != nil {
						return err
					}
				}
				return nil
			}, nil
		}}
	}
	type policies = []failsafe.Policy[int]
	breaker := func() failsafe.Policy[int] {
		return circuitbreaker.NewBuilder[int]().WithFailureRateThreshold(0.5, 20, 10*time.Second).Build()
	}
	byCount := func() failsafe.Policy[int] {
		return circuitbreaker.NewBuilder[int]().WithFailureThresholdRatio(50, 100).Build()
	}
	retry := func() failsafe.Policy[int] {
		return retrypolicy.NewBuilder[int]().WithBackoff(25*time.Millisecond, 250*time.Millisecond).Build()
	}
	return []bench{
		with("breaker", 2, 0, func() policies { return policies{breaker()} }),
		with("breaker by count", 1, 0, func() policies { return policies{byCount()} }),
		with("retry", 1, 0, func() policies { return policies{retry()} }),
		with("timeout", 1, 0, func() policies { return policies{timeout.New[int](time.Second)} }),
		with("bulkhead", 1, 0, func() policies { return policies{bulkhead.New[int](limit)} }),
		with("hedge", 1, 0, func() policies { return policies{hedgepolicy.NewWithDelay[int](time.Second)} }),
		with("throttle", 2, 0, func() policies { return policies{adaptivethrottler.NewWithDefaults[int]()} }),
		with("adaptive limiter", 3, 0, func() policies { return policies{adaptivelimiter.NewWithDefaults[int]()} }),
		with("rate limit", 1, 1, func() policies { return policies{ratelimiter.NewBursty[int](perSecond, time.Second)} }),
		with("chain of 4", 2, 0, func() policies {
			return policies{retry(), breaker(), timeout.New[int](time.Second), bulkhead.New[int](limit)}
		}),
	}
}
