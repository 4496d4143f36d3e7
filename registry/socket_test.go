package registry_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
)

// elsewhere is an engine that others write to.
type elsewhere struct {
	registry.Driver
	registry.Announcer
}

// TestSockets is that Unix sockets are taken from, and told to, registries of this machine alone.
func TestSockets(t *testing.T) {
	const address = "unix:///var/run/docker.sock"
	for _, local := range []bool{true, false} {
		engine := memregistry.New()
		var d registry.Driver = engine
		if !local {
			d = elsewhere{engine, engine}
		}
		r, err := registry.New(d, registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := r.Register(t.Context(), registry.Node{Service: "own", Address: address}); (err == nil) != local {
			t.Errorf("local %v: registering: %v", local, err)
		}
		for id, a := range map[string]string{"a": address, "b": "127.0.0.1:80"} {
			if _, err := engine.Announce(t.Context(), &registry.Node{ID: id, Service: "greeter", Address: a}, time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		s, err := r.Lookup(t.Context(), "greeter")
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Node("a") != nil; got != local || s.Node("b") == nil {
			t.Errorf("local %v: %v", local, s.Nodes)
		}
	}
	for _, a := range []string{"unix://", "unix:///", "unix://run/a", "unix:///run/../etc/a", "unix:///a\nb", "unix:///" + strings.Repeat("a", 104)} {
		n := registry.Node{ID: "a", Service: "greeter", Address: a}
		if n.Validate() == nil {
			t.Errorf("%q is valid", a)
		}
	}
}
