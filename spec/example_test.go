package spec_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"

	"github.com/hull-go/hull/spec"
)

func ExampleParse() {
	_, err := spec.Parse("policies.yaml", []byte(`
defaults:
  timeuot: 2s
services:
  greeter:
    balancer: roundrobin
    retry: {base: 500ms, cap: 100ms}
`))
	fmt.Println(err)
	// Output:
	// spec: policies.yaml: 3 faults
	//   line 3: defaults.timeuot: there is no such field; did you mean timeout?
	//   line 6: services.greeter.balancer: "roundrobin" is none of p2c, round-robin, random, weighted, least-connections, consistent-hash, prequal; did you mean round-robin?
	//   line 7: services.greeter.retry.base: 500ms is more than cap, which is 100ms
}

func ExampleSpec_Explain() {
	s, err := spec.Parse("policies.yaml", []byte(`
defaults: {timeout: 2s}
services: {greeter: {breaker: {failures: 25%}}}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	e := s.Explain("greeter", "greeter.Greeter/Hello")
	for _, path := range []string{"timeout", "breaker.failures", "retry.attempts", "hedge.delay"} {
		f, _ := e.Field(path)
		fmt.Printf("%s is %s: %s\n", f.Path, f.Value, f.From)
	}
	// Output:
	// timeout is 2s: defaults
	// breaker.failures is 25%: service
	// retry.attempts is 3: built-in
	// hedge.delay is learned: built-in
}

func ExampleWatch() {
	book, err := spec.NewBook(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	// What is wrong with the file is logged; the last good document stays in force.
	if err := spec.Watch(ctx, "policies.yaml", book.Apply, spec.WatchOptions{Logger: slog.Default()}); err != nil {
		fmt.Println(err)
	}
}
