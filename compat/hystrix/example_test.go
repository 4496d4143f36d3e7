package hystrix_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hull-go/hull/compat/hystrix"
)

func ExampleDo() {
	hystrix.ConfigureCommand("price", hystrix.CommandConfig{Timeout: 300, MaxConcurrentRequests: 100})
	price := 0
	err := hystrix.Do("price", func() error {
		return errors.New("the shop is closed")
	}, func(error) error {
		price = 42 // from yesterday
		return nil
	})
	fmt.Println(price, err)
	// Output: 42 <nil>
}

func ExampleDoC() {
	hystrix.ConfigureCommand("slow", hystrix.CommandConfig{Timeout: 10})
	stopped := make(chan error)
	err := hystrix.DoC(context.Background(), "slow", func(ctx context.Context) error {
		select {
		case <-ctx.Done(): // hystrix-go never says so
			stopped <- ctx.Err()
		case <-time.After(time.Minute):
		}
		return nil
	}, nil)
	fmt.Println(err)
	fmt.Println(<-stopped)
	// Output:
	// hystrix: timeout
	// context deadline exceeded
}

func ExampleGo() {
	out := make(chan string, 1)
	errs := hystrix.Go("greet", func() error {
		out <- "hello"
		return nil
	}, nil)
	select {
	case s := <-out:
		fmt.Println(s)
	case err := <-errs:
		fmt.Println(err)
	}
	// Output: hello
}
