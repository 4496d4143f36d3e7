package main

import (
	"context"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hull-go/hull/bench/echopb"
)

// grpcRival is grpc-go, which every ratio compares with by default. Neither
// two connections nor NumStreamWorkers (2 or 8) made a difference beyond the
// noise, so it stays with its defaults.
type grpcRival struct {
	// noDeadline leaves the deadline out, which makes it a sixth faster. Many
	// published figures are made like that; it does less than the others here.
	noDeadline bool
}

func (r grpcRival) Info() Info {
	if r.noDeadline {
		return Info{
			Name:   "grpc-nodeadline",
			Module: "google.golang.org/grpc",
			Setup:  "as grpc, but without a deadline, as many publish it",
		}
	}
	return Info{
		Name:    "grpc",
		Module:  "google.golang.org/grpc",
		Setup:   "defaults: one connection, a goroutine per call; deadline by context",
		Streams: true,
	}
}

func (grpcRival) Serve(ctx context.Context, ln net.Listener) error {
	srv := grpc.NewServer()
	echopb.RegisterEchoServer(srv, grpcEcho{})
	registerStreams[echopb.Msg](srv)
	stop := context.AfterFunc(ctx, srv.Stop)
	defer stop()
	return srv.Serve(ln)
}

func (r grpcRival) Dial(_ context.Context, addr string) (Caller, error) {
	// passthrough: the address needs no name resolution.
	cc, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return &grpcCaller{cc: cc, client: echopb.NewEchoClient(cc), noDeadline: r.noDeadline}, nil
}

type grpcEcho struct {
	echopb.UnimplementedEchoServer
	echo
}

// Echo resolves the choice between the two embedded ones.
func (s grpcEcho) Echo(ctx context.Context, m *echopb.Msg) (*echopb.Msg, error) {
	return s.echo.Echo(ctx, m)
}

type grpcCaller struct {
	cc     *grpc.ClientConn
	client echopb.EchoClient

	noDeadline bool
}

func (c *grpcCaller) Call(ctx context.Context, m *echopb.Msg) (*echopb.Msg, error) {
	if c.noDeadline {
		return c.client.Echo(ctx, m)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.client.Echo(ctx, m)
}

// Streams implements Streamer.
func (c *grpcCaller) Streams() grpc.ClientConnInterface { return c.cc }

func (c *grpcCaller) Close() error { return c.cc.Close() }
