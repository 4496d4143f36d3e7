package main

import (
	"sync/atomic"
	"time"
)

// floor returns what nothing can go below: the clock, and a shared counter beside it.
func floor() []bench {
	epoch := time.Now()
	return []bench{
		{Group: clockGroup, Name: clockNow, Setup: func() (body, error) {
			return func(n int) error {
				last := epoch
				for range n {
					last = time.Now()
				}
				return check(!last.Before(epoch), "the clock went back")
			}, nil
		}},
		{Group: clockGroup, Name: clockSince, Setup: func() (body, error) {
			return func(n int) error {
				var last time.Duration
				for range n {
					last = time.Since(epoch)
				}
				return check(last >= 0, "the clock went back")
			}, nil
		}},
		{Group: "floor", Name: "atomic add + monotonic read", Setup: func() (body, error) {
			count := new(atomic.Int64)
			return func(n int) error {
				var last time.Duration
				for range n {
					count.Add(1)
					last = time.Since(epoch)
				}
				return check(last >= 0, "the clock went back")
			}, nil
		}},
	}
}
