package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/status"
)

// A breaker is asked before each call and told what came of it. policy.Do does that; by hand it looks like this.
func Example() {
	b, err := breaker.New(breaker.Options{MinCalls: 4, Jitter: -1, Ramp: -1})
	if err != nil {
		fmt.Println(err)
		return
	}
	rnd := rand.NewPCG(1, 2)
	now := policy.Time(1)
	call := func(o policy.Outcome) {
		v := b.Admit(now, rnd, nil)
		if v.Decision == policy.Refuse {
			fmt.Printf("%s: %s; back in %v\n", v.State, v.Reason, v.At.Sub(now))
			return
		}
		b.Done(now, rnd, v.Permit, o)
	}
	for range 5 {
		call(policy.Failure)
	}
	now = now.Add(time.Second)
	for range 3 {
		call(policy.Success) // the probes
	}
	for _, e := range b.Events(now, 1) {
		fmt.Printf("%v: %s to %s: %s\n", e.At.Sub(1), e.From, e.To, e.Reason)
	}
	// Output:
	// open: too many calls failed; back in 1s
	// 0s: closed to open: too many calls failed
	// 1s: open to half-open: its time is over
	// 1s: half-open to closed: enough probes succeeded
}

// Around a function: what the breaker refuses is an error that says who refused, why, and when to come back.
func ExampleNew() {
	b, err := breaker.New(breaker.Options{LastCalls: 4, Open: time.Hour, Jitter: -1}) // for calls so rare that no time window holds enough of them
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := policy.New(policy.Options{Key: "payroll", Breaker: policy.Slot{Name: "breaker", Gate: b}})
	if err != nil {
		fmt.Println(err)
		return
	}
	query := func(context.Context) (int, error) { return 0, errors.New("connection refused") }
	for range 4 {
		_, err = policy.Do(context.Background(), p, query)
	}
	fmt.Println(err)
	_, err = policy.Do(context.Background(), p, query)
	if e, ok := errors.AsType[*status.Error](err); ok && e.Refusal != nil {
		r := e.Refusal
		fmt.Printf("%s of %s is %s: %s; again in %v\n", r.Policy, r.Key, r.State, r.Reason, r.RetryAfter.Round(time.Minute))
	}
	// Output:
	// connection refused
	// breaker of payroll is open: too many calls failed; again in 1h0m0s
}
