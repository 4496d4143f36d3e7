package hull_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
)

type Question struct{ Name string }
type Answer struct{ Text string }

// serve runs a greeter until stop is called. Programs leave the registry out: the default one is found by all of them.
func serve(reg *registry.Registry) (stop func()) {
	srv, err := hull.NewServer("greeter", hull.WithRegistry(reg), hull.Drain(0, time.Second))
	if err != nil {
		log.Fatal(err)
	}
	hull.Handle(srv, "greeter.Greeter/Hello", func(ctx context.Context, q *Question) (*Answer, error) {
		if q.Name == "" {
			return nil, status.Errorf(status.InvalidArgument, "who is it?")
		}
		return &Answer{"Hello, " + q.Name}, nil
	}, hull.Idempotent())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	<-srv.Ready()
	return func() {
		cancel()
		if err := <-done; err != nil {
			log.Fatal(err)
		}
	}
}

func newRegistry() *registry.Registry {
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		log.Fatal(err)
	}
	return reg
}

func ExampleCall() {
	reg := newRegistry()
	defer reg.Close()
	stop := serve(reg)
	defer stop()
	client, err := hull.NewClient(hull.WithRegistry(reg))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	greeter := client.To("greeter")

	rep, err := hull.Call[Answer](context.Background(), greeter, "greeter.Greeter/Hello", &Question{Name: "Ada"})
	fmt.Println(rep.Text, err)

	_, err = hull.Call[Answer](context.Background(), greeter, "greeter.Greeter/Hello", &Question{})
	var e *status.Error
	fmt.Println(errors.As(err, &e), e.Code, e.Fate)
	// Output:
	// Hello, Ada <nil>
	// true InvalidArgument processed
}

func ExampleCallElse() {
	reg := newRegistry()
	defer reg.Close()
	client, err := hull.NewClient(hull.WithRegistry(reg))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	// Nobody serves the greeter: the page is shown all the same.
	rep, err := hull.CallElse(context.Background(), client.To("greeter"), "greeter.Greeter/Hello", &Question{Name: "Ada"},
		func(ctx context.Context, err error) (*Answer, error) { return &Answer{"Hello, whoever you are"}, nil },
		hull.Timeout(50*time.Millisecond))
	fmt.Println(rep.Text, err)
	// Output: Hello, whoever you are <nil>
}

func ExampleInfo() {
	reg := newRegistry()
	defer reg.Close()
	stop := serve(reg)
	defer stop()
	client, err := hull.NewClient(hull.WithRegistry(reg))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	var info hull.CallInfo
	_, err = hull.Call[Answer](context.Background(), client.To("greeter"), "greeter.Greeter/Hello", &Question{Name: "Ada"}, hull.Info(&info))
	fmt.Println(info.Class, len(info.Attempts), info.Node == info.Attempts[0].Node, err)
	// Output: ok 1 true <nil>
}

func ExampleClient_Apply() {
	reg := newRegistry()
	defer reg.Close()
	client, err := hull.NewClient(hull.WithRegistry(reg))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	doc, err := spec.Parse("policies.yaml", []byte(`
services:
  greeter:
    timeout: 300ms
    retry: {attempts: 2}
`))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(client.Apply(doc))
	fmt.Println(client.Spec().Method("greeter", "greeter.Greeter/Hello").Timeout)
	// Output:
	// <nil>
	// 300ms
}
