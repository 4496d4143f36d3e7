package hull_test

import (
	"context"
	"testing"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/staticregistry"
)

// TestServingWhereDiscoveryIsRead: in Kubernetes, with DNS or a list, others say where a server is, and it serves all the same.
func TestServingWhereDiscoveryIsRead(t *testing.T) {
	reg := staticAt(t, "127.0.0.1:1")
	srv, err := hull.NewServer("greeter", hull.WithRegistry(reg), hull.Drain(0, time.Second))
	if err != nil {
		t.Fatal(err)
	}
	greeter(srv)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	select {
	case <-srv.Ready():
	case err := <-done:
		t.Fatal(err)
	}
	if srv.NodeID() == "" || srv.Addr() == "" {
		t.Errorf("node %q at %q", srv.NodeID(), srv.Addr())
	}
	c, err := hull.NewClient(hull.WithRegistry(staticAt(t, srv.Addr())))
	if err != nil {
		t.Fatal(err)
	}
	if rep, err := hello(t.Context(), c); err != nil || rep.From != srv.NodeID() {
		t.Errorf("%+v, %v", rep, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// staticAt is a registry in which every service is at addr.
func staticAt(t *testing.T, addr string) *registry.Registry {
	t.Helper()
	d, err := staticregistry.New([]string{addr}, staticregistry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	reg, err := registry.New(d, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := reg.Close(); err != nil {
			t.Error(err)
		}
	})
	return reg
}
