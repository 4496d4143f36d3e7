package timeout_test

import (
	"fmt"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/timeout"
)

// A timeout is learned from how long attempts take. The last attempt of a call gets all that is left.
func Example() {
	to, err := timeout.New(timeout.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	now := policy.Time(1)
	fmt.Println("cold:", to.Attempt(now, nil, 5*time.Second, false))
	for range 1000 {
		to.Done(now, policy.Ended{Class: policy.ClassOK, Took: 3 * time.Millisecond})
	}
	now = now.Add(time.Second)
	fmt.Println("learned:", to.Attempt(now, nil, 5*time.Second, false))
	fmt.Println("last:", to.Attempt(now, nil, 5*time.Second, true))
	// Output:
	// cold: 1.666666666s
	// learned: 100ms
	// last: 5s
}
