package hull_test

import (
	"context"
	"fmt"
	"log"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

type Payment struct{ Cents int }
type Receipt struct{ Number int64 }

// openTill runs two nodes of a service that takes payments, of two versions, and returns a connection to it. Every other Pay breaks down.
func openTill() (conn *hull.Conn, stop func()) {
	reg := newRegistry()
	var tries, numbers atomic.Int64
	var stops []func()
	for _, version := range []string{"1", "2"} {
		srv, err := hull.NewServer("till", hull.WithRegistry(reg), hull.Version(version), hull.Drain(0, time.Second))
		if err != nil {
			log.Fatal(err)
		}
		hull.Handle(srv, "till.Till/Pay", func(ctx context.Context, p *Payment) (*Receipt, error) {
			if tries.Add(1)%2 == 1 {
				return nil, status.Errorf(status.Unavailable, "the till is stuck")
			}
			return &Receipt{numbers.Add(1)}, nil
		})
		hull.Handle(srv, "till.Till/Take", func(context.Context, *Payment) (*Receipt, error) { return &Receipt{numbers.Add(1)}, nil })
		hull.Handle(srv, "till.Till/Version", func(context.Context, *struct{}) (*string, error) { return &version, nil }, hull.Idempotent())
		hull.Handle(srv, "till.Till/Audit", func(ctx context.Context, _ *struct{}) (*Receipt, error) {
			<-ctx.Done() // it takes long
			return nil, ctx.Err()
		})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- srv.Run(ctx) }()
		<-srv.Ready()
		stops = append(stops, func() {
			cancel()
			if err := <-done; err != nil {
				log.Fatal(err)
			}
		})
	}
	client, err := hull.NewClient(hull.WithRegistry(reg))
	if err != nil {
		log.Fatal(err)
	}
	return client.To("till"), func() {
		_ = client.Close()
		for _, s := range stops {
			s()
		}
		_ = reg.Close()
	}
}

func ExampleTimeout() {
	conn, stop := openTill()
	defer stop()
	_, err := hull.Call[Receipt](context.Background(), conn, "till.Till/Audit", &struct{}{}, hull.Timeout(50*time.Millisecond))
	fmt.Println(status.CodeOf(err))
	// Output: DeadlineExceeded
}

func ExampleIdempotent() {
	conn, stop := openTill()
	defer stop()
	_, err := hull.Call[Receipt](context.Background(), conn, "till.Till/Pay", &Payment{100})
	fmt.Println(status.CodeOf(err)) // it may have been paid, so it is not tried again
	_, _ = hull.Call[Receipt](context.Background(), conn, "till.Till/Pay", &Payment{100})

	// The caller knows that to pay nothing twice does no harm.
	var info hull.CallInfo
	_, err = hull.Call[Receipt](context.Background(), conn, "till.Till/Pay", &Payment{0}, hull.Idempotent(), hull.Info(&info))
	fmt.Println(err, len(info.Attempts))
	// Output:
	// Unavailable
	// <nil> 2
}

func ExampleMaxAttempts() {
	conn, stop := openTill()
	defer stop()
	var info hull.CallInfo
	_, err := hull.Call[Receipt](context.Background(), conn, "till.Till/Pay", &Payment{0}, hull.Idempotent(), hull.MaxAttempts(1), hull.Info(&info))
	fmt.Println(status.CodeOf(err), len(info.Attempts))
	// Output: Unavailable 1
}

func ExampleIdempotencyKey() {
	conn, stop := openTill()
	defer stop()
	pay := func(key string) {
		// Both tries go to one node: it alone knows the key, unless the nodes share theirs (WithIdempotency).
		receipt, err := hull.Call[Receipt](context.Background(), conn, "till.Till/Take", &Payment{100}, hull.IdempotencyKey(key), hull.Select("version=1"))
		fmt.Println(receipt.Number, err)
	}
	pay("order 4711") // a key for each thing to be done
	pay("order 4711") // has been done
	pay("order 4712")
	// Output:
	// 1 <nil>
	// 1 <nil>
	// 2 <nil>
}

func ExampleSelect() {
	conn, stop := openTill()
	defer stop()
	for range 3 { // two nodes serve it, and the one of version 2 is asked
		version, err := hull.Call[string](context.Background(), conn, "till.Till/Version", &struct{}{}, hull.Select("version=2"))
		fmt.Println(*version, err)
	}
	// Output:
	// 2 <nil>
	// 2 <nil>
	// 2 <nil>
}

func ExampleCriticality() {
	conn, stop := openTill()
	defer stop()
	// A server that has too much to do refuses this one first, and those that are made to serve it.
	_, err := hull.Call[string](context.Background(), conn, "till.Till/Version", &struct{}{}, hull.Criticality(policy.Sheddable))
	fmt.Println(err)
	// Output: <nil>
}
