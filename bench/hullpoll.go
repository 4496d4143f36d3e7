package main

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/bench/echopb"
)

// hullPollRival is Hull with busy polling on both sides.
type hullPollRival struct{}

// pollTime is the longest that there is.
const pollTime = 50 * time.Microsecond

func (hullPollRival) Info() Info {
	return Info{
		Name:   "hull-poll",
		Module: "github.com/hull-go/hull",
		Setup:  "as hull, with busy polling for up to 50 µs on both sides; deadline by the default of 5 s",
	}
}

func (hullPollRival) Serve(ctx context.Context, ln net.Listener) error {
	return serveHull(ctx, ln, func(r grpc.ServiceRegistrar) { echopb.RegisterEchoServer(r, grpcEcho{}) }, hull.WithBusyPoll(pollTime))
}

func (hullPollRival) Dial(_ context.Context, addr string) (Caller, error) {
	h, err := dialHull(addr, hull.WithBusyPoll(pollTime))
	if err != nil {
		return nil, err
	}
	return &hullCaller{h, echopb.NewEchoClient(h.client.To(hullService))}, nil
}
