// Server is the greeter with generated code: the same service, written down in a .proto file.
package main

import (
	"context"
	"errors"
	"io"
	"log"

	"google.golang.org/grpc"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/status"
)

// greeter implements the generated interface, as it would for grpc.
type greeter struct {
	greeterpb.UnimplementedGreeterServer
	srv *hull.Server
}

// Hello greets one person.
func (g *greeter) Hello(_ context.Context, r *greeterpb.HelloRequest) (*greeterpb.HelloReply, error) {
	if r.GetName() == "" {
		return nil, status.Errorf(status.InvalidArgument, "who is it? set name")
	}
	return &greeterpb.HelloReply{Message: "Hello, " + r.GetName(), Node: g.srv.NodeID()}, nil
}

// SayOnce greets one person and says so here.
func (g *greeter) SayOnce(ctx context.Context, r *greeterpb.HelloRequest) (*greeterpb.HelloReply, error) {
	log.Print("saying hello to ", r.GetName())
	return g.Hello(ctx, r)
}

// Count sends the numbers from 1.
func (g *greeter) Count(r *greeterpb.CountRequest, s grpc.ServerStreamingServer[greeterpb.CountReply]) error {
	for n := int64(1); n <= r.GetUpTo(); n++ {
		if err := s.Send(&greeterpb.CountReply{N: n}); err != nil {
			return err
		}
	}
	return nil
}

// Sum adds up what it is sent.
func (g *greeter) Sum(s grpc.ClientStreamingServer[greeterpb.SumRequest, greeterpb.SumReply]) error {
	var sum int64
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(&greeterpb.SumReply{Sum: sum})
		}
		if err != nil {
			return err
		}
		sum += m.GetN()
	}
}

// Chat answers each line.
func (g *greeter) Chat(s grpc.BidiStreamingServer[greeterpb.ChatMessage, greeterpb.ChatMessage]) error {
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(&greeterpb.ChatMessage{From: "greeter", Text: m.GetFrom() + " said: " + m.GetText()}); err != nil {
			return err
		}
	}
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	srv, err := hull.NewServer("greeter-grpc", hull.Version("1.0"))
	if err != nil {
		return err
	}
	greeterpb.RegisterGreeterServer(srv, &greeter{srv: srv})
	// SIGTERM or SIGINT: callers go elsewhere, calls under way finish. A second one: at once.
	return hull.Serve(context.Background(), srv)
}
