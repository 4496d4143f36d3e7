package hull_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
)

// What a tree of calls may come to: at any layer 1.1 attempts for each root call, and what the retry budget of the layer above holds when it is full.
const (
	treeLayers = 5
	treeShare  = 1.1
	treeBurst  = 100 // 1,000 tokens at 10 each
)

// tree is a chain of services, each of which calls the next, under a steady load.
type tree struct {
	calls    atomic.Int64 // of the root
	attempts [treeLayers]atomic.Int64
}

// grow serves the layers. ways says how the layers are called, native if it does not.
func (tr *tree) grow(t *testing.T, w *hulltest.World, policies *spec.Spec, fails func() bool, ways map[int]string) *hull.Conn {
	for layer := range treeLayers {
		var down *hull.Conn
		if next := layer + 1; next < treeLayers {
			host := fmt.Sprintf("client-%d", layer)
			opts := []hull.ClientOption{hull.WithSpec(policies)}
			if way := ways[next]; way != "" {
				opts = append(opts, hull.WithDialer(dialers(t, w, host)[way]))
			}
			down = w.Client(host, opts...).To(fmt.Sprintf("layer-%d", next))
		}
		for _, node := range []string{"a", "b", "c"} {
			w.Serve(fmt.Sprintf("layer-%d", layer), fmt.Sprintf("%d-%s", layer, node), func(s *hull.Server) {
				hull.Handle(s, "tree.Tree/Go", func(ctx context.Context, r *helloRequest) (*helloReply, error) {
					tr.attempts[layer].Add(1)
					switch {
					case down != nil:
						return hull.Call[helloReply](ctx, down, "tree.Tree/Go", r)
					case fails():
						return nil, status.Errorf(status.Unavailable, "out of order")
					}
					return &helloReply{}, nil
				}, hull.Idempotent())
			})
		}
	}
	return w.Client("root", hull.WithSpec(policies)).To("layer-0")
}

// bounded checks that no layer had more attempts than it may.
func (tr *tree) bounded(t *testing.T, when any) {
	t.Helper()
	for layer := range tr.attempts {
		if n, most := float64(tr.attempts[layer].Load()), treeShare*float64(tr.calls.Load())+treeBurst; n > most {
			t.Errorf("%v: layer %d had %.0f attempts for %d root calls, which may be %.0f", when, layer, n, tr.calls.Load(), most)
		}
	}
}

// TestTreeDoesNotAmplify is five services, one under the other, with a leaf that fails: whatever protocols are between them, no layer is called much
// more often than the root is, at any time of a minute.
func TestTreeDoesNotAmplify(t *testing.T) {
	off := &spec.Spec{Defaults: spec.Service{Policy: spec.Policy{Breaker: spec.Breaker{Mode: spec.Off}}}}
	mixed := map[int]string{2: "gRPC", 3: "JSON"}
	for _, tt := range []struct {
		name     string
		share    float64 // of the leaf's answers that are failures
		policies *spec.Spec
		ways     map[int]string
	}{
		{"all fail", 1, &spec.Spec{}, nil},
		{"all fail, gRPC and JSON between", 1, &spec.Spec{}, mixed},
		{"all fail, no breaker, gRPC and JSON between", 1, off, mixed},
		{"half fail, no breaker", 0.5, off, nil},
		{"half fail, gRPC and JSON between", 0.5, &spec.Spec{}, mixed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, tr := hulltest.New(t), new(tree)
				var mu sync.Mutex
				rnd := rand.New(rand.NewPCG(1, 2))
				root := tr.grow(t, w, tt.policies, func() bool {
					mu.Lock()
					defer mu.Unlock()
					return rnd.Float64() < tt.share
				}, tt.ways)
				var calls sync.WaitGroup
				var half [treeLayers]int64
				var halfCalls int64
				for second := range 60 {
					for range 20 {
						tr.calls.Add(1)
						calls.Go(func() {
							_, err := hull.Call[helloReply](t.Context(), root, "tree.Tree/Go", &helloRequest{})
							if e := status.From(err); e != nil && e.Origin != status.Downstream && e.Kind != status.Refused {
								t.Errorf("a failure of the leaf is told as %+v", e)
							}
						})
						time.Sleep(50 * time.Millisecond)
					}
					tr.bounded(t, second)
					if second == 29 {
						for i := range half {
							half[i] = tr.attempts[i].Load()
						}
						halfCalls = tr.calls.Load()
					}
				}
				calls.Wait()
				tr.bounded(t, "in the end")
				n := float64(tr.calls.Load() - halfCalls)
				var ratios []float64
				for i := range half {
					ratios = append(ratios, float64(tr.attempts[i].Load()-half[i])/n)
				}
				t.Logf("attempts for each root call in the second half minute, by layer: %.2f", ratios)
				// What the budget held is spent by then: successes alone fill it, those of a leaf that fails by half with a twentieth of an attempt for each call.
				for layer, ratio := range ratios {
					if ratio > treeShare {
						t.Errorf("layer %d goes on being called %.2f times for each root call", layer, ratio)
					}
				}
				if n := tr.attempts[treeLayers-1].Load() - tr.calls.Load(); tt.policies == off && n < treeBurst/2 {
					t.Errorf("the leaf was called %d times more than the root: nothing was tried again", n)
				}
			})
		})
	}
}
