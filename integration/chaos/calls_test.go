package chaos_test

import (
	"testing"
	"time"

	"github.com/hull-go/hull/internal/invariant"
)

// TestRollingRestart restarts every node, one after the other, again and again under load: no call fails, idempotent or not.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		dead bool
	}{{"", false}, {"registry dead", true}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			for range 3 {
				n := w.node(nodeConfig{})
				n.same = tt.dead // or nobody could know of those that come
				n.launch()
			}
			for _, n := range w.nodes {
				n.await()
			}
			c := w.caller(callerConfig{Workers: 16, Count: size(0, int64(1_000_000)), Rate: size(300.0, 0), Once: size(700, 250), Ms: size(30, 0)}) // some are always under way
			if tt.dead {
				pass(ttl / 2) // they all know of one another
				w.killRegistry()
			}
			restarts := 0
			restart := func(n *nodeProcess) {
				n.leave()
				n.start()
				restarts++
			}
			var s *summary
			if *full {
				s = c.ended(func(n int) { restart(w.nodes[n%3]) })
			} else {
				for _, n := range w.nodes {
					live(300 * time.Millisecond)
					restart(n)
				}
				s = c.finish()
			}
			w.none(s)
			t.Logf("%d restarts", restarts)
			if restarts < len(w.nodes) {
				t.Errorf("%d restarts of %d nodes: the load was over before", restarts, len(w.nodes))
			}
			w.judge(invariant.New(invariant.Options{Burst: 2000}))
		})
	}
}

// TestOneOfThree kills, and stops, one of three nodes under load, with the registry and without: no idempotent call fails.
func TestOneOfThree(t *testing.T) {
	t.Parallel()
	kill := func(n *nodeProcess) {
		n.Kill()
		pass(2 * time.Second)
		n.start()
	}
	stop := func(n *nodeProcess) {
		n.Freeze()
		pass(3 * time.Second)
		n.Thaw()
	}
	w := newWorld(t)
	for range 3 {
		n := w.node(nodeConfig{})
		n.same = true
		n.launch()
	}
	for _, n := range w.nodes {
		n.await()
	}
	c := w.caller(callerConfig{Workers: 16, Count: size(0, int64(1_000_000)), Rate: size(300.0, 0), Ms: 5})
	faults := []func(*nodeProcess){kill, stop}
	if *full {
		did := 0
		s := c.ended(func(n int) {
			if n == 6 { // each has been killed and stopped
				w.killRegistry()
			}
			faults[n%2](w.nodes[n%3])
			pass(2 * time.Second)
			did++
		})
		w.none(s)
		if t.Logf("%d kills and stops, six of them with the registry", did); did < 12 {
			t.Error("the load was over before each node had been killed and stopped, with the registry and without")
		}
	} else {
		for i, f := range faults {
			f(w.nodes[i])
		}
		pass(ttl / 4) // the one that was killed is there again, for all
		w.killRegistry()
		for i, f := range faults {
			f(w.nodes[i+1])
		}
		w.none(c.finish())
	}
	w.judge(invariant.New(invariant.Options{Burst: 2000}))
}
