package main

import (
	afex "github.com/afex/hystrix-go/hystrix"

	"github.com/hull-go/hull/compat/hystrix"
)

const command = "bench"

// hullHystrix returns the drop-in for hystrix-go.
func hullHystrix() []bench {
	return []bench{{Group: "hystrix", Name: "hull, compat/hystrix Do", Hull: true, Setup: func() (body, error) {
		hystrix.Flush()
		hystrix.ConfigureCommand(command, hystrix.CommandConfig{MaxConcurrentRequests: limit})
		return func(n int) error {
			for range n {
				if err := hystrix.Do(command, func() error { return nil }, nil); err != nil {
					return err
				}
			}
			return nil
		}, nil
	}}}
}

// hystrixGo returns what the drop-in takes the place of. Two goroutines stay behind of each Setup.
func hystrixGo() []bench {
	return []bench{{Group: "hystrix", Name: "hystrix-go Do", Setup: func() (body, error) {
		afex.Flush()
		afex.ConfigureCommand(command, afex.CommandConfig{MaxConcurrentRequests: limit})
		return func(n int) error {
			for range n {
				if err := afex.Do(command, func() error { return nil }, nil); err != nil {
					return err
				}
			}
			return nil
		}, nil
	}}}
}
