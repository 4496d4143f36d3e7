package throttle_test

import (
	"fmt"
	"math/rand/v2"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/throttle"
)

// A service that accepts one call in ten is asked less often.
func Example() {
	th, err := throttle.New(throttle.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	rnd := rand.NewPCG(1, 2)
	sent := 0
	for i := range 1000 {
		v := th.Admit(1, rnd, nil)
		if v.Decision == policy.Refuse {
			continue
		}
		sent++
		o := policy.Overloaded
		if i%10 == 0 {
			o = policy.Success
		}
		th.Done(1, rnd, v.Permit, o)
	}
	fmt.Println("fewer than 300 of 1000 sent:", sent < 300)
	// Output: fewer than 300 of 1000 sent: true
}
