package clients

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
)

// limit bounds one function: many times what it needs on a busy machine.
const limit = 2 * time.Minute

// functions are gRPC's own interop tests, as far as they need no cloud. One that fails ends the program and says why.
var functions = []struct {
	name string
	run  func(ctx context.Context, c testgrpc.TestServiceClient)
}{
	{"empty unary", func(ctx context.Context, c testgrpc.TestServiceClient) { interop.DoEmptyUnaryCall(ctx, c) }},
	{"large unary", func(ctx context.Context, c testgrpc.TestServiceClient) { interop.DoLargeUnaryCall(ctx, c) }},
	{"client streaming", func(ctx context.Context, c testgrpc.TestServiceClient) { interop.DoClientStreaming(ctx, c) }},
	{"server streaming", func(ctx context.Context, c testgrpc.TestServiceClient) { interop.DoServerStreaming(ctx, c) }},
	{"ping pong", func(ctx context.Context, c testgrpc.TestServiceClient) { interop.DoPingPong(ctx, c) }},
	{"empty stream", func(ctx context.Context, c testgrpc.TestServiceClient) { interop.DoEmptyStream(ctx, c) }},
	{"timeout on sleeping server", func(ctx context.Context, c testgrpc.TestServiceClient) { interop.DoTimeoutOnSleepingServer(ctx, c) }},
	{"cancel after begin", func(ctx context.Context, c testgrpc.TestServiceClient) { interop.DoCancelAfterBegin(ctx, c) }},
	{"cancel after first response", func(ctx context.Context, c testgrpc.TestServiceClient) { interop.DoCancelAfterFirstResponse(ctx, c) }},
	{"custom metadata", func(ctx context.Context, c testgrpc.TestServiceClient) { interop.DoCustomMetadata(ctx, c) }},
	{"status code and message", func(ctx context.Context, c testgrpc.TestServiceClient) { interop.DoStatusCodeAndMessage(ctx, c) }},
	{"special status message", func(ctx context.Context, c testgrpc.TestServiceClient) { interop.DoSpecialStatusMessage(ctx, c) }},
}

// grpcServer starts grpc-go's server.
func grpcServer(t *testing.T) (addr string) {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(s, interop.NewTestServer())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	return ln.Addr().String()
}

// hullServer starts Hull's.
func hullServer(t *testing.T) (addr string) {
	t.Helper()
	reg := emptyRegistry(t)
	s, err := hull.NewServer("interop", hull.WithRegistry(reg), hull.Drain(0, time.Second))
	if err != nil {
		t.Fatal(err)
	}
	testgrpc.RegisterTestServiceServer(s, interop.NewTestServer())
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-s.Ready()
	return s.Addr()
}

func emptyRegistry(t *testing.T) *registry.Registry {
	t.Helper()
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close() })
	return reg
}

// hullClient returns Hull's client of a server.
func hullClient(t *testing.T, target string) grpc.ClientConnInterface {
	t.Helper()
	c, err := hull.NewClient(hull.WithRegistry(emptyRegistry(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return spelled{c.To(target)}
}

// spelled is a connection whose errors read as grpc-go's do: one of the functions compares texts. Code, message and details are those that
// grpc's status package finds in Hull's own errors.
type spelled struct{ grpc.ClientConnInterface }

func (s spelled) Invoke(ctx context.Context, method string, req, reply any, opts ...grpc.CallOption) error {
	return spell(s.ClientConnInterface.Invoke(ctx, method, req, reply, opts...))
}

func (s spelled) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	st, err := s.ClientConnInterface.NewStream(ctx, desc, method, opts...)
	return spelledStream{st}, spell(err)
}

type spelledStream struct{ grpc.ClientStream }

func (s spelledStream) RecvMsg(m any) error { return spell(s.ClientStream.RecvMsg(m)) }

func spell(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return grpcstatus.Convert(err).Err()
}

func TestInterop(t *testing.T) {
	tests := []struct {
		name string
		conn func(t *testing.T) grpc.ClientConnInterface
	}{
		{"hull to grpc-go", func(t *testing.T) grpc.ClientConnInterface { return hullClient(t, "grpc://"+grpcServer(t)) }},
		{"hull to hull", func(t *testing.T) grpc.ClientConnInterface { return hullClient(t, "hull://"+hullServer(t)) }},
		{"hull to hull by gRPC", func(t *testing.T) grpc.ClientConnInterface { return hullClient(t, "grpc://"+hullServer(t)) }},
		{"grpc-go to hull", func(t *testing.T) grpc.ClientConnInterface { return grpcClient(t, hullServer(t)) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn := tt.conn(t)
			for _, f := range functions {
				t.Run(f.name, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), limit)
					defer cancel()
					f.run(ctx, testgrpc.NewTestServiceClient(conn))
				})
			}
			t.Run("unimplemented service", func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(conn))
			})
			if cc, ok := conn.(*grpc.ClientConn); ok {
				t.Run("unimplemented method", func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), limit)
					defer cancel()
					interop.DoUnimplementedMethod(ctx, cc)
				})
			}
		})
	}
}

func grpcClient(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cc.Close(); err != nil {
			t.Error(err)
		}
	})
	return cc
}
