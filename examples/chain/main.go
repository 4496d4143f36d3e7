// Chain shows one deadline that holds for three services. The caller has 300 ms; each hop works for a while, sees what is
// left, and passes its context on. The second call asks for more than there is time for: every hop gives up at the same
// moment, and nobody works for a caller who has gone.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/hull-go/hull"
)

type request struct{ Work time.Duration }
type reply struct{ Hops []hop }

// hop is what one service saw.
type hop struct {
	Service string
	Left    time.Duration
}

const budget = 300 * time.Millisecond

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
	ctx, stop := context.WithCancel(context.Background())
	var done []chan error
	for name, next := range map[string]string{"chain-first": "chain-second", "chain-second": "chain-third", "chain-third": ""} {
		d, err := serve(ctx, client, name, next)
		if err != nil {
			stop()
			return err
		}
		done = append(done, d)
	}
	defer func() {
		stop()
		for _, d := range done {
			if err := <-d; err != nil {
				log.Print(err)
			}
		}
	}()

	for _, work := range []time.Duration{20 * time.Millisecond, 120 * time.Millisecond} {
		fmt.Printf("each service works for %v; the caller has %v\n", work, budget)
		began := time.Now()
		rep, err := hull.Call[reply](ctx, client.To("chain-first"), "chain.Chain/Work", &request{Work: work}, hull.Timeout(budget))
		took := time.Since(began).Round(time.Millisecond)
		if err != nil {
			fmt.Printf("  after %v: %v\n", took, err)
			continue
		}
		for _, h := range rep.Hops {
			fmt.Printf("  %-12s began with %v left\n", h.Service, h.Left.Round(time.Millisecond))
		}
		fmt.Printf("  answered after %v\n", took)
	}
	return nil
}

// serve runs a service that works for a while and then calls the next one, if there is one, with its own context.
func serve(ctx context.Context, client *hull.Client, name, next string) (chan error, error) {
	srv, err := hull.NewServer(name, hull.Drain(0, time.Second))
	if err != nil {
		return nil, err
	}
	hull.Handle(srv, "chain.Chain/Work", func(ctx context.Context, r *request) (*reply, error) {
		deadline, _ := ctx.Deadline() // every call has one
		hops := []hop{{Service: name, Left: time.Until(deadline)}}
		select {
		case <-time.After(r.Work):
		case <-ctx.Done():
			fmt.Printf("  %-12s stops working: %v\n", name, ctx.Err())
			return nil, ctx.Err()
		}
		if next == "" {
			return &reply{Hops: hops}, nil
		}
		rep, err := hull.Call[reply](ctx, client.To(next), "chain.Chain/Work", r)
		if err != nil {
			return nil, err
		}
		return &reply{Hops: append(hops, rep.Hops...)}, nil
	})
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	select {
	case <-srv.Ready():
		return done, nil
	case err := <-done:
		return nil, err
	}
}
