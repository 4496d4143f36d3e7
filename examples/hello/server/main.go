// Server greets whoever asks.
package main

import (
	"context"
	"log"

	"github.com/hull-go/hull"
)

type Request struct{ Name string }
type Reply struct{ Text string }

func hello(ctx context.Context, r *Request) (*Reply, error) {
	return &Reply{Text: "Hello, " + r.Name}, nil
}

func main() {
	srv, err := hull.NewServer("greeter")
	if err != nil {
		log.Fatal(err)
	}
	hull.Handle(srv, "greeter.Greeter/Hello", hello, hull.Idempotent())
	if err := hull.Serve(context.Background(), srv); err != nil { // until SIGTERM; calls under way finish
		log.Fatal(err)
	}
}
