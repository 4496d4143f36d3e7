package retry_test

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/status"
)

// Whether a failure is repeated follows from what is proved about it and from what the method was declared to be.
func Example() {
	r, err := retry.New(retry.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	rnd := rand.NewPCG(1, 2)
	ask := func(c policy.Call, cl policy.Class, fate status.Fate) {
		_, ok, why := r.Again(1, rnd, &c, 1, cl, fate, 0)
		if ok {
			why = "again"
		}
		fmt.Printf("%v, %v: %s\n", cl, fate, why)
	}
	ask(policy.Call{}, policy.ClassUnsent, status.NotSent)
	ask(policy.Call{}, policy.ClassReset, status.Maybe)
	ask(policy.Call{Idempotent: true}, policy.ClassReset, status.Maybe)
	// Output:
	// unsent, not-sent: again
	// reset, maybe: it may have been done, and the method is not declared idempotent
	// reset, maybe: again
}

// A pipeline with retries and a budget repeats what is safe to repeat.
func ExampleNew() {
	r, _ := retry.New(retry.Options{Attempts: 3, Base: 10 * time.Millisecond})
	b, _ := retry.NewBudget(retry.BudgetOptions{})
	p, err := policy.New(policy.Options{Retries: r, Budget: b})
	fmt.Println(p != nil, err)
	// Output: true <nil>
}

// Tokens are spent by extra attempts and earned by successes.
func ExampleBudget() {
	b, _ := retry.NewBudget(retry.BudgetOptions{Capacity: 20})
	fmt.Println(b.Spend(1, policy.Critical, 10), b.Spend(1, policy.Critical, 10), b.Spend(1, policy.Critical, 10))
	for range 10 {
		b.Earn(1, 1)
	}
	fmt.Println(b.Spend(1, policy.Critical, 10))
	// Output:
	// true true false
	// true
}
