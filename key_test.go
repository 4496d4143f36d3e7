package hull_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/spec"
)

func TestCallsOfOneKeyStayTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		for i := range 5 {
			w.Serve("greeter", fmt.Sprint("n", i), greeter)
		}
		c := w.Client("caller", hull.WithSpec(&spec.Spec{Defaults: spec.Service{Balancer: "consistent-hash"}}))
		// The nodes that the calls of a key went to, in that order, without repetitions.
		nodes := func(key string) (seen []string) {
			for range 20 {
				var info hull.CallInfo
				if _, err := hello(t.Context(), c, hull.Key(key), hull.Info(&info)); err != nil {
					t.Fatal(err)
				}
				if len(seen) == 0 || seen[len(seen)-1] != info.Node {
					seen = append(seen, info.Node)
				}
				time.Sleep(10 * time.Millisecond)
			}
			return seen
		}
		home := map[string]string{}
		used := map[string]bool{}
		for i := range 20 {
			key := fmt.Sprint("user-", i)
			seen := nodes(key)
			if len(seen) != 1 {
				t.Errorf("the calls of %s went to %v", key, seen)
			}
			home[key], used[seen[0]] = seen[0], true
		}
		if len(used) < 3 {
			t.Errorf("20 keys are on %d of 5 nodes", len(used))
		}
		gone := home["user-0"]
		w.Node(gone).Kill()
		time.Sleep(2 * time.Second)
		for key, node := range home {
			if seen := nodes(key); node != gone && seen[len(seen)-1] != node {
				t.Errorf("%s moved from %s to %v, although only %s is gone", key, node, seen, gone)
			}
		}
	})
}
