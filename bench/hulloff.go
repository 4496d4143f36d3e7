package main

import (
	"context"
	"net"

	"google.golang.org/grpc"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/bench/echopb"
	"github.com/hull-go/hull/spec"
)

// hullOffRival is Hull with every policy switched off on both sides: beside hullRival it shows what the policies cost.
type hullOffRival struct{}

// allOff switches off what has a switch; round robin is the cheapest balancer.
const allOff = `
defaults:
  attempt_timeout: {mode: off}
  retry: {mode: off}
  hedge: {mode: off}
  breaker: {mode: off}
  balancer: round-robin
  ejection: {mode: off}
  concurrency: {mode: off}
  throttle: {mode: off}
  server_limit: {mode: off}
  server_pressure: {mode: off}
`

func (hullOffRival) Info() Info {
	return Info{
		Name:   "hull-off",
		Module: "github.com/hull-go/hull",
		Setup:  "as hull, with every policy switched off in the document of the client and of the server; deadline by the default of 5 s",
	}
}

func (hullOffRival) Serve(ctx context.Context, ln net.Listener) error {
	off, err := spec.Parse("off", []byte(allOff))
	if err != nil {
		return err
	}
	return serveHull(ctx, ln, func(r grpc.ServiceRegistrar) { echopb.RegisterEchoServer(r, grpcEcho{}) }, hull.WithSpec(off))
}

func (hullOffRival) Dial(_ context.Context, addr string) (Caller, error) {
	off, err := spec.Parse("off", []byte(allOff))
	if err != nil {
		return nil, err
	}
	h, err := dialHull(addr, hull.WithSpec(off))
	if err != nil {
		return nil, err
	}
	return &hullCaller{h, echopb.NewEchoClient(h.client.To(hullService))}, nil
}
