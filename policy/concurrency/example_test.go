package concurrency_test

import (
	"context"
	"fmt"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/concurrency"
)

// A limit around a function: who finds no place is refused at once, with a reason.
func Example() {
	l, err := concurrency.New(concurrency.Options{Limit: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := policy.New(policy.Options{Concurrency: policy.Slot{Name: "concurrency", Gate: l}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	_, _ = policy.Do(ctx, p, func(ctx context.Context) (string, error) {
		_, err := policy.Do(ctx, p, func(context.Context) (string, error) { return "never", nil })
		fmt.Println(err)
		return "", nil
	})
	fmt.Println(l.Snapshot().InUse)
	// Output:
	// Unavailable (refused): refused by concurrency (full): all places are taken
	// 0
}

// A server's limit that finds its capacity, with a line for bursts: prefetch waits behind what users asked for.
func ExampleNewTwoArm() {
	source, err := concurrency.NewTwoArm(concurrency.TwoArmOptions{Start: 4})
	if err != nil {
		fmt.Println(err)
		return
	}
	l, err := concurrency.New(concurrency.Options{Source: source})
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := policy.New(policy.Options{Key: "greeter", Concurrency: policy.Slot{Name: "concurrency", Gate: l}})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = policy.Do(context.Background(), p, func(context.Context) (string, error) { return "an answer", nil },
		policy.Call{Criticality: policy.Sheddable})
	s := l.Snapshot()
	fmt.Println(err, s.Limit, s.Queue)
	// Output:
	// <nil> 28 112
}
