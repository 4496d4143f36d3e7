package main

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/bench/echopb"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
	"github.com/hull-go/hull/registry/staticregistry"
)

// hullService is the name that Hull's client and server know each other by.
const hullService = "echo"

// hullRival is Hull with its default client and server: every policy is on.
type hullRival struct{}

func (hullRival) Info() Info {
	return Info{
		Name:    "hull",
		Module:  "github.com/hull-go/hull",
		Setup:   "defaults, every policy on, generated gRPC code; discovery by a fixed address; deadline by the default of 5 s",
		Streams: true,
	}
}

func (hullRival) Serve(ctx context.Context, ln net.Listener) error {
	return serveHull(ctx, ln, func(r grpc.ServiceRegistrar) {
		echopb.RegisterEchoServer(r, grpcEcho{})
		registerStreams[echopb.Msg](r)
	})
}

func (hullRival) Dial(_ context.Context, addr string) (Caller, error) {
	h, err := dialHull(addr)
	if err != nil {
		return nil, err
	}
	return &hullCaller{h, echopb.NewEchoClient(h.client.To(hullService))}, nil
}

type hullCaller struct {
	*hullClient
	echo echopb.EchoClient
}

// Call needs no deadline of its own: the client's default is callTimeout.
func (c *hullCaller) Call(ctx context.Context, m *echopb.Msg) (*echopb.Msg, error) {
	return c.echo.Echo(ctx, m)
}

// Streams implements Streamer.
func (c *hullCaller) Streams() grpc.ClientConnInterface { return c.client.To(hullService) }

// serveHull serves what register registers, with Hull's defaults but for opts.
func serveHull(ctx context.Context, ln net.Listener, register func(grpc.ServiceRegistrar), opts ...hull.Option) error {
	// A registry of its own keeps the server out of the machine's; the client
	// is told the address as every other rival's is.
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		return err
	}
	defer reg.Close()
	all := []hull.ServerOption{
		hull.Listener(ln),
		hull.WithRegistry(reg),
		// One that takes as many connections as a process may have here.
		hull.WithLimits(hull.Limits{Conns: 1 << 20}),
		// Nobody else needs to hear that it stops.
		hull.Drain(0, time.Second),
	}
	for _, o := range opts {
		all = append(all, o)
	}
	srv, err := hull.NewServer(hullService, all...)
	if err != nil {
		return err
	}
	register(srv)
	return srv.Run(ctx)
}

// hullClient is a client with Hull's defaults that finds its one server at a
// fixed address.
type hullClient struct {
	reg    *registry.Registry
	client *hull.Client
}

func dialHull(addr string, opts ...hull.Option) (*hullClient, error) {
	driver, err := staticregistry.New([]string{addr}, staticregistry.Options{Services: []string{hullService}})
	if err != nil {
		return nil, err
	}
	reg, err := registry.New(driver, registry.Options{})
	if err != nil {
		return nil, err
	}
	all := []hull.ClientOption{hull.WithRegistry(reg)}
	for _, o := range opts {
		all = append(all, o)
	}
	client, err := hull.NewClient(all...)
	if err != nil {
		reg.Close()
		return nil, err
	}
	return &hullClient{reg: reg, client: client}, nil
}

func (c *hullClient) Close() error {
	err := c.client.Close()
	if rerr := c.reg.Close(); err == nil {
		err = rerr
	}
	return err
}
