package grpcpolicy_test

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/hull-go/hull/internal/echopb"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/grpcpolicy"
	"github.com/hull-go/hull/policy/hedge"
	"github.com/hull-go/hull/policy/retry"
)

// A grpc-go client that repeats what is safe to repeat, within a budget, and stops calling a service that is down.
func Example() {
	calls := 0
	conn, stop := serve(func(_ context.Context, m *echopb.EchoMessage) (*echopb.EchoMessage, error) {
		if calls++; calls == 1 {
			return nil, grpcstatus.Error(codes.Unavailable, "restarting")
		}
		return m, nil
	})
	defer stop()

	retries, _ := retry.New(retry.Options{})
	budget, _ := retry.NewBudget(retry.BudgetOptions{})
	brk, _ := breaker.New(breaker.Options{})
	p, err := policy.New(policy.Options{Key: "echo", Retries: retries, Budget: budget, Breaker: policy.Slot{Name: "breaker", Gate: brk}})
	if err != nil {
		fmt.Println(err)
		return
	}
	cc, err := conn(grpcpolicy.NewClient(p, grpcpolicy.Options{}).DialOptions())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cc.Close()
	rep, err := echopb.NewEchoClient(cc).Echo(context.Background(), &echopb.EchoMessage{Text: "hello"})
	fmt.Println(rep.GetText(), err, "after", p.Snapshot().Attempts, "attempts")
	// Output: hello <nil> after 2 attempts
}

// A method whose .proto says idempotency_level = NO_SIDE_EFFECTS gets a second attempt beside one that takes long.
func ExampleClient_hedging() {
	var calls atomic.Int64
	conn, stop := serve(func(ctx context.Context, m *echopb.EchoMessage) (*echopb.EchoMessage, error) {
		if calls.Add(1) == 1 {
			<-ctx.Done() // a node that hangs
			return nil, ctx.Err()
		}
		return m, nil
	})
	defer stop()

	retries, _ := retry.New(retry.Options{Attempts: 2})
	hedging, _ := hedge.New(hedge.Options{Delay: 10 * time.Millisecond, Extra: 1}) // for one call only: a share of 5 % of many is more like it
	p, err := policy.New(policy.Options{Key: "echo", Retries: retries, Hedging: hedging})
	if err != nil {
		fmt.Println(err)
		return
	}
	cc, err := conn(grpcpolicy.NewClient(p, grpcpolicy.Options{}).DialOptions())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	rep, err := echopb.NewEchoClient(cc).Echo(ctx, &echopb.EchoMessage{Text: "hello"})
	fmt.Println(rep.GetText(), err, "with", p.Snapshot().Hedges, "hedge")
	// Output: hello <nil> with 1 hedge
}

// A grpc-go server that works on one call at a time and lets nobody wait.
func ExampleNewServer() {
	places, _ := concurrency.New(concurrency.Options{Limit: 1})
	p, err := policy.New(policy.Options{Key: "echo", Concurrency: policy.Slot{Name: "places", Gate: places}})
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := grpcpolicy.NewServer(p, grpcpolicy.ServerOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	srv := grpc.NewServer(s.ServerOptions()...)
	srv.Stop()
	fmt.Println(places.Snapshot().InUse, "calls under way")
	// Output: 0 calls under way
}

// serve serves f and returns how to connect to it.
func serve(f func(context.Context, *echopb.EchoMessage) (*echopb.EchoMessage, error)) (conn func([]grpc.DialOption) (*grpc.ClientConn, error), stop func()) {
	l := bufconn.Listen(1 << 16)
	srv := grpc.NewServer()
	echopb.RegisterEchoServer(srv, &echo{f: f})
	go func() { _ = srv.Serve(l) }()
	return func(o []grpc.DialOption) (*grpc.ClientConn, error) {
		return grpc.NewClient("passthrough:///echo", append(o, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))...)
	}, srv.Stop
}
