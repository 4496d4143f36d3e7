package main

import (
	afex "github.com/afex/hystrix-go/hystrix"

	"github.com/hull-go/hull/compat/hystrix"
)

const command = "bench"

// backlog is how many commands may run in hystrix-go. It gives places back later than it returns, in goroutines that wait for
// each other, so that two callers in a loop fill any small number of places with commands that are over.
const backlog = 250_000

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
		afex.ConfigureCommand(command, afex.CommandConfig{MaxConcurrentRequests: backlog})
		if _, _, err := afex.GetCircuit(command); err != nil { // makes the places
			return nil, err
		}
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
