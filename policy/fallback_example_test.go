package policy_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hull-go/hull/policy"
)

func ExampleDoElse() {
	p, err := policy.New(policy.Options{Key: "recommendations"})
	if err != nil {
		fmt.Println(err)
		return
	}
	recommend := func(context.Context) ([]string, error) { return nil, errors.New("connection refused") }
	list, err := policy.DoElse(context.Background(), p, recommend,
		func(context.Context, error) ([]string, error) { return []string{"bestseller"}, nil })
	fmt.Println(list, err)
	// Output: [bestseller] <nil>
}

// Another region, then the last good answer, then a constant: each is tried if those before it failed, and the caller sees which it
// was.
func ExampleDoAnswer() {
	p, err := policy.New(policy.Options{Key: "prices"})
	if err != nil {
		fmt.Println(err)
		return
	}
	last, err := policy.NewStale[string](policy.StaleOptions[int]{MaxAge: time.Hour, Keys: 100})
	if err != nil {
		fmt.Println(err)
		return
	}
	up := true
	price := func(ctx context.Context, product string) (policy.Answer[int], error) {
		return policy.DoAnswer(ctx, p,
			func(context.Context) (int, error) {
				if !up {
					return 0, errors.New("no connection")
				}
				return 42, nil
			},
			[]policy.Alternative[int]{
				{Name: "other region", Needs: 50 * time.Millisecond,
					Run: func(context.Context, error) (int, error) { return 0, errors.New("no connection either") }},
				last.Last(product),
				{Name: "list price", Run: func(context.Context, error) (int, error) { return 50, nil }},
			})
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, product := range []string{"tea", "tea", "jam"} {
		a, err := price(ctx, product)
		fmt.Printf("%s: %d, degraded: %v %s, %v\n", product, a.Value, a.Degraded(), a.From, err)
		up = false
	}
	// Output:
	// tea: 42, degraded: false , <nil>
	// tea: 42, degraded: true last good answer, <nil>
	// jam: 50, degraded: true list price, <nil>
}
