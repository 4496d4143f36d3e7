package breaker_test

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
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
