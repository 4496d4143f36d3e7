package hedge_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/hedge"
	"github.com/hull-go/hull/policy/retry"
)

// The first attempt hangs, the second answers.
func Example() {
	h, err := hedge.New(hedge.Options{Delay: 5 * time.Millisecond, Extra: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	r, _ := retry.New(retry.Options{})
	p, err := policy.New(policy.Options{Retries: r, Hedging: h})
	if err != nil {
		fmt.Println(err)
		return
	}
	var n atomic.Int32
	v, err := policy.Do(context.Background(), p, func(ctx context.Context) (string, error) {
		if n.Add(1) == 1 {
			<-ctx.Done()
			return "", ctx.Err()
		}
		return "the second answers", nil
	}, policy.Call{Idempotent: true, SideEffectFree: true})
	fmt.Println(v, err, h.Snapshot(policy.Now()).Begun)
	// Output: the second answers <nil> 1
}
