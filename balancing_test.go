package hull_test

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/spec"
)

// lastNode is a strategy of a user's own: the last by ID.
type lastNode struct{}

func (lastNode) Choose(_ policy.Time, _ rand.Source, _ *policy.Call, nodes []*balance.Node) *balance.Node {
	best := nodes[0]
	for _, n := range nodes {
		if n.ID() > best.ID() {
			best = n
		}
	}
	return best
}

func TestBalancingOfOnesOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		for _, n := range []string{"a", "b", "c"} {
			w.Serve("greeter", n, greeter)
		}
		var mu sync.Mutex
		tuned := map[string]int{}
		c := w.Client("caller", hull.WithBalancing(func(service string, o *balance.Options) {
			mu.Lock()
			tuned[service]++
			mu.Unlock()
			o.Strategy = lastNode{}
			o.Filter = func(n *registry.Node) bool { return n.ID != "c" }
		}))
		all := func(want string) {
			t.Helper()
			for range 20 {
				var info hull.CallInfo
				if _, err := hello(t.Context(), c, hull.Info(&info)); err != nil || info.Node != want {
					t.Fatalf("node %q, %v, want %q", info.Node, err, want)
				}
			}
		}
		all("b")
		// A document does not undo it.
		if err := c.Apply(&spec.Spec{Defaults: spec.Service{Balancer: "round-robin"}}); err != nil {
			t.Fatal(err)
		}
		all("b")
		w.Node("b").Kill()
		if _, err := hello(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		all("a")
		if mu.Lock(); tuned["greeter"] < 2 || len(tuned) != 1 {
			t.Errorf("%v", tuned)
		}
		mu.Unlock()

		bad := w.Client("other", hull.WithBalancing(func(_ string, o *balance.Options) { o.Ejection.Share = 2 }))
		if _, err := hello(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "ejection share") {
			t.Errorf("options that are not valid: %v", err)
		}
		if _, err := hull.NewClient(hull.WithBalancing(nil)); err == nil {
			t.Error("no function was taken")
		}
	})
}
