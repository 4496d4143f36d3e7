package policy_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/status"
)

// Example protects a function, as the page does, and shows what its caller sees when it fails for long.
func Example() {
	count := func(context.Context) (int, error) { return 0, errors.New("no route to the database") }
	ctx := context.Background()

	again, err1 := retry.New(retry.Options{})
	brk, err2 := breaker.New(breaker.Options{})
	lim, err3 := concurrency.New(concurrency.Options{Limit: 50})
	p, err4 := policy.New(policy.Options{Key: "db", Retries: again, Breaker: policy.Slot{Gate: brk}, Concurrency: policy.Slot{Gate: lim}})
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		fmt.Println(err)
		return
	}

	for range 20 {
		_, _ = policy.Do(ctx, p, count)
	}
	_, err := policy.Do(ctx, p, count)
	if e, ok := errors.AsType[*status.Error](err); ok && e.Refusal != nil {
		fmt.Printf("%s of %s is %s: %s\n", e.Refusal.Policy, e.Refusal.Key, e.Refusal.State, e.Refusal.Reason)
	}
	// Output: breaker of db is open: too many calls failed
}
