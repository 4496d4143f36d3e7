// Client calls the greeter through generated code: one call, and one stream.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/examples/greeter/greeterpb"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	client, err := hull.NewClient()
	if err != nil {
		return err
	}
	defer client.Close()
	greeter := greeterpb.NewGreeterClient(client.To("greeter-grpc"))

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var info hull.CallInfo
	rep, err := greeter.Hello(ctx, &greeterpb.HelloRequest{Name: "Ada"}, hull.Info(&info))
	if err != nil {
		return err
	}
	fmt.Printf("%s (attempts: %d)\n", rep.GetMessage(), len(info.Attempts))

	numbers, err := greeter.Count(ctx, &greeterpb.CountRequest{UpTo: 3})
	if err != nil {
		return err
	}
	for {
		n, err := numbers.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Println(n.GetN())
	}
}
