package main

import (
	"time"

	"github.com/sony/gobreaker/v2"
	zero "github.com/zeromicro/go-zero/core/breaker"
	"github.com/zeromicro/go-zero/core/logx"
	uber "go.uber.org/ratelimit"
	xrate "golang.org/x/time/rate"
)

// limit is how many may run at the same time: more than do.
const limit = 1000

func gobreakers() []bench {
	with := func(name string, s gobreaker.Settings) bench {
		return bench{Group: "breaker", Name: name, Nows: 2, Setup: func() (body, error) {
			cb := gobreaker.NewCircuitBreaker[int](s)
			return func(n int) error {
				fn := func() (int, error) { return 1, nil }
				for range n {
					if _, err := cb.Execute(fn); err != nil {
						return err
					}
				}
				return nil
			}, nil
		}}
	}
	return []bench{
		with("gobreaker", gobreaker.Settings{}),
		with("gobreaker, 10 buckets", gobreaker.Settings{Interval: 10 * time.Second, BucketPeriod: time.Second}),
	}
}

// goZero's breaker sheds load by chance, as Hull's throttle does; it stands where its name puts it.
func goZero() []bench {
	return []bench{{Group: "breaker", Name: "go-zero", Sinces: 2, Setup: func() (body, error) {
		logx.DisableStat() // it writes to standard output otherwise
		b := zero.NewBreaker(zero.WithName("bench"))
		return func(n int) error {
			for range n {
				if err := b.Do(func() error { return nil }); err != nil {
					return err
				}
			}
			return nil
		}, nil
	}}}
}

func rates() []bench {
	return []bench{
		{Group: "rate limit", Name: "x/time/rate Allow", Nows: 1, Setup: func() (body, error) {
			l := xrate.NewLimiter(perSecond, perSecond)
			return func(n int) error {
				for range n {
					if !l.Allow() {
						return refused("the limiter said no")
					}
				}
				return nil
			}, nil
		}},
		{Group: "rate limit", Name: "uber ratelimit Take", Nows: 1, Setup: func() (body, error) {
			l := uber.New(perSecond)
			return func(n int) error {
				for range n {
					l.Take()
				}
				return nil
			}, nil
		}},
	}
}
