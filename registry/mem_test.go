package registry_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
)

func node(id string) registry.Node {
	return registry.Node{ID: id, Service: "greeter", Address: "10.0.0.1:80"}
}

func TestFindAndLose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memregistry.New()
		a, err := registry.New(e, registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		b, _ := registry.New(e, registry.Options{})
		v := b.Open("greeter")
		if s := v.Snapshot(); s == nil || s.Revision != 0 || len(s.Nodes) != 0 {
			t.Fatalf("before the first answer: %+v", s)
		}
		g, err := a.Register(t.Context(), node("a"))
		if err != nil || g.Err() != nil {
			t.Fatal(err, g.Err())
		}
		s, err := v.Wait(t.Context())
		if err != nil || s.Node("a") == nil {
			t.Fatal(s, err)
		}
		time.Sleep(time.Hour)
		if s := v.Snapshot(); len(s.Nodes) != 1 || s.Disbelieved != 0 || s.Stale {
			t.Fatalf("after an hour: %+v", s)
		}
		if err := g.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s := v.Snapshot(); len(s.Nodes) != 0 {
			t.Fatalf("after deregistration: %+v", s)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = v.Wait(ctx)
		t.Log(err)
		_, err = b.Lookup(ctx, "greter")
		t.Log(err)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
