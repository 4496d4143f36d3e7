package hull_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
)

// TestUnixSocket is a server on a Unix socket, found by discovery and called in each protocol, also after one that was killed there.
func TestUnixSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "hull") //nolint:usetesting // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	killed, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	killed.(*net.UnixListener).SetUnlinkOnClose(false)
	killed.Close()

	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	s, err := hull.NewServer("greeter", hull.WithRegistry(reg), hull.Addr("unix://"+path), hull.Drain(0, time.Second))
	if err != nil {
		t.Fatal(err)
	}
	hull.Handle(s, "greeter.Greeter/Hello", func(_ context.Context, r *greeterpb.HelloRequest) (*greeterpb.HelloReply, error) {
		return &greeterpb.HelloReply{Message: "hull says " + r.Name}, nil
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-done:
		t.Fatal(err)
	}
	if s.Addr() != "unix://"+path {
		t.Errorf("published as %s", s.Addr())
	}
	for _, protocols := range [][]string{nil, {"grpc"}, {"http"}} {
		node := reg
		if protocols != nil {
			engine := memregistry.New()
			if _, err := engine.Announce(t.Context(), &registry.Node{ID: "a", Service: "greeter", Address: s.Addr(), Protocols: protocols}, time.Hour); err != nil {
				t.Fatal(err)
			}
			if node, err = registry.New(engine, registry.Options{}); err != nil {
				t.Fatal(err)
			}
		}
		c, err := hull.NewClient(hull.WithRegistry(node))
		if err != nil {
			t.Fatal(err)
		}
		rep, err := hull.Call[greeterpb.HelloReply](t.Context(), c.To("greeter"), "greeter.Greeter/Hello", &greeterpb.HelloRequest{Name: "Ada"}, hull.Timeout(20*time.Second))
		if err != nil || rep.Message != "hull says Ada" {
			t.Errorf("%v: %v, %v", protocols, rep, err)
		}
		c.Close()
		if protocols != nil {
			node.Close()
		}
	}

	// A second server does not take the socket of one that lives.
	second, err := hull.NewServer("greeter", hull.WithRegistry(reg), hull.Addr("unix://"+path))
	if err != nil {
		t.Fatal(err)
	}
	hull.Handle(second, "greeter.Greeter/Hello", func(context.Context, *greeterpb.HelloRequest) (*greeterpb.HelloReply, error) {
		return nil, errors.New("never")
	})
	if err := second.Run(t.Context()); err == nil {
		t.Error("two servers on one socket")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket is left")
	}
	for _, addr := range []string{"unix://relative", "unix://", "nothing"} {
		if _, err := hull.NewServer("greeter", hull.Addr(addr)); err == nil {
			t.Errorf("%q is taken", addr)
		}
	}
}
