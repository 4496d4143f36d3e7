package rate_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/rate"
	"github.com/hull-go/hull/status"
)

// Two calls an hour for each tenant.
func Example() {
	l, err := rate.New(rate.Options{
		Limit: 2, Per: time.Hour,
		Key: rate.ByHash(), // a user's own: rate.ByString(func(c *policy.Call) string { … })
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := policy.New(policy.Options{Key: "reports", Rate: policy.Slot{Name: "rate", Gate: l}})
	if err != nil {
		fmt.Println(err)
		return
	}
	report := func(hash uint64) error {
		_, err := policy.Do(context.Background(), p, func(context.Context) (struct{}, error) { return struct{}{}, nil }, policy.Call{Hash: hash})
		return err
	}
	fmt.Println(report(1), report(1), report(2))
	err = report(1)
	if e, ok := errors.AsType[*status.Error](err); ok {
		fmt.Println(e.Code, e.Refusal.Policy, e.Refusal.RetryAfter.Round(time.Minute))
	}
	// Output:
	// <nil> <nil> <nil>
	// ResourceExhausted rate 30m0s
}
