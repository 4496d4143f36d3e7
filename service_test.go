package hull_test

import (
	"testing"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
	"github.com/hull-go/hull/spec"
)

// A reload reaches the retry budget of a service that is in use, and leaves it alone when something else changes.
func TestReloadReachesTheBudget(t *testing.T) {
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	c, err := hull.NewClient(hull.WithRegistry(reg))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn := c.To("greeter")
	if n := conn.Budget(); n.Capacity != 1000 || n.Tokens != 1000 {
		t.Errorf("%+v", n)
	}
	for _, capacity := range []int{3000, 3000} {
		doc := &spec.Spec{Defaults: spec.Service{RetryBudget: spec.RetryBudget{Capacity: capacity}}}
		if err := c.Apply(doc); err != nil {
			t.Fatal(err)
		}
		if n := conn.Budget(); n.Capacity != 3000 {
			t.Errorf("after the reload: %+v", n)
		}
	}
}
