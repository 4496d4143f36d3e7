package main

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/bench/echopb"
	"github.com/hull-go/hull/codec"
)

// copier serves a method that decodes into the same message each time, so that nothing is allocated for messages. It is for one caller at a time.
func copier(r grpc.ServiceRegistrar) {
	m := new(rawMsg)
	r.RegisterService(&grpc.ServiceDesc{ServiceName: "hullbench.Copier", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Copy", Handler: func(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			return m, dec(m)
		}}}}, struct{}{})
}

// serveFor runs a server of Hull's defaults until the test ends, and returns a client of Hull's defaults to it.
func serveFor(t *testing.T, register func(grpc.ServiceRegistrar)) *hull.Client {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- serveHull(ctx, ln, register) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	h, err := dialHull(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return h.client
}

// fewestAllocs returns how many allocations one call of f costs, in the best of some tries: what happens beside it, by the clock, is no part of it.
func fewestAllocs(f func()) float64 {
	least := testing.AllocsPerRun(1000, f)
	for range 4 {
		least = min(least, testing.AllocsPerRun(1000, f))
	}
	return least
}

// Both sides run in this process, with every policy on, so that what is counted is what client and server allocate together. The framework may add
// one allocation on each side; it has one, the context of the call that is served.
func TestFrameworkAllocations(t *testing.T) {
	client := serveFor(t, func(r grpc.ServiceRegistrar) {
		copier(r)
		echopb.RegisterEchoServer(r, grpcEcho{})
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
	}{{"the default deadline", context.Background()}, {"the caller's deadline", ctx}} {
		t.Run(c.name, func(t *testing.T) {
			conn := client.To(hullService, hull.WithCodec(codec.Proto{}))
			req, rep := rawCopy(newMsg(1, 100)), new(rawMsg)
			got := fewestAllocs(func() {
				if err := conn.Invoke(c.ctx, "/hullbench.Copier/Copy", req, rep); err != nil {
					t.Fatal(err)
				}
			})
			if rep.GetN() != req.GetN() {
				t.Errorf("sent n=%d, got n=%d", req.GetN(), rep.GetN())
			}
			if got > 1 {
				t.Errorf("%v allocations a call on both sides together, messages apart; want 1", got)
			}
		})
	}
	// A decoded message is two: itself, and what its strings and bytes lie in. Generated code makes a slice of options.
	t.Run("generated code", func(t *testing.T) {
		echo, m := echopb.NewEchoClient(client.To(hullService)), newMsg(1, 100)
		got := fewestAllocs(func() {
			if _, err := echo.Echo(context.Background(), m); err != nil {
				t.Fatal(err)
			}
		})
		if got > 2*2+1+1 {
			t.Errorf("%v allocations a call on both sides together; want 6", got)
		}
	})
}
