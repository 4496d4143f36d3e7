package hull_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
)

// counted starts a grpc-go server with what register registers, and counts the calls that come, of whatever method.
func counted(t *testing.T, register func(*grpc.Server)) (addr string, calls *atomic.Int64) {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	calls = new(atomic.Int64)
	s := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		calls.Add(1)
		return next(ctx, req)
	}), grpc.UnknownServiceHandler(func(_ any, st grpc.ServerStream) error {
		calls.Add(1)
		method, _ := grpc.MethodFromServerStream(st)
		return grpcstatus.Errorf(codes.Unimplemented, "unknown service %s", method) // as without this handler
	}))
	register(s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	return ln.Addr().String(), calls
}

// picky cannot do what some ask for.
type picky struct {
	greeterpb.UnimplementedGreeterServer
}

func (picky) Hello(_ context.Context, r *greeterpb.HelloRequest) (*greeterpb.HelloReply, error) {
	if r.Name == "Klingon" {
		return nil, grpcstatus.Error(codes.Unimplemented, "greetings in Klingon come with version 2")
	}
	return &greeterpb.HelloReply{Message: r.Name}, nil
}

// TestLackingNodesAreLeftAlone is a regression test: of two versions of which one does not have a method every other call of it was made twice, for ever. What
// a handler cannot do for one caller keeps nobody else's calls from its node.
func TestLackingNodesAreLeftAlone(t *testing.T) {
	without, asked := counted(t, func(*grpc.Server) {})
	with, served := counted(t, func(s *grpc.Server) { greeterpb.RegisterGreeterServer(s, picky{}) })
	also, alsoServed := counted(t, func(s *grpc.Server) { greeterpb.RegisterGreeterServer(s, picky{}) })
	engine := memregistry.New()
	reg, err := registry.New(engine, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close() })
	for i, addr := range []string{without, with, also} {
		g, err := reg.Register(t.Context(), registry.Node{ID: []string{"old", "new", "other"}[i], Service: "greeter", Address: addr, Version: []string{"1", "2", "3"}[i], Protocols: []string{"grpc"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = g.Close(context.Background()) })
	}
	doc := &spec.Spec{Defaults: spec.Service{Balancer: "round-robin"}}
	c, err := hull.NewClient(hull.WithRegistry(reg), hull.WithSpec(doc))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	client := greeterpb.NewGreeterClient(c.To("greeter"))
	const calls = 100
	for range calls {
		if _, err := client.Hello(t.Context(), &greeterpb.HelloRequest{Name: "Ada"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := asked.Load(); n > 1 {
		t.Errorf("the node that does not have the method was asked %d times", n)
	}
	before := served.Load() + alsoServed.Load()
	if before != calls {
		t.Errorf("%d of %d calls were served by the others", before, calls)
	}
	for range 20 {
		if _, err := client.Hello(t.Context(), &greeterpb.HelloRequest{Name: "Klingon"}); status.CodeOf(err) != status.Unimplemented {
			t.Fatal(err)
		}
	}
	for _, n := range c.To("greeter").Explain() {
		if lacks := len(n.Lacks); lacks != 0 && n.ID != "old" {
			t.Errorf("%s: lacks %v", n.ID, n.Lacks)
		}
	}
}
