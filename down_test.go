package hull_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/policy"
)

var downSeeds = flag.Int("down.seeds", 5, "how many worlds TestCallsFindTheLivingNode makes, of about 0.3 s each")

// TestCallsFindTheLivingNode kills all nodes of a service but one at bad moments: together, or one shortly after the other, while the registry
// still lists those that died before. No idempotent call may fail for want of a connection while one node lives.
func TestCallsFindTheLivingNode(t *testing.T) {
	for seed := range uint64(*downSeeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { killAllButOne(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func killAllButOne(t *testing.T, rnd *rand.Rand) {
	var mu sync.Mutex
	intn := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return rnd.IntN(n)
	}
	w := hulltest.New(t)
	count := 3 + intn(4)
	name := func(i int) string { return fmt.Sprintf("node-%d", i) }
	for i := range count {
		w.Serve("greeter", name(i), func(s *hull.Server) {
			hull.Handle(s, "greeter.Greeter/Hello", func(ctx context.Context, r *helloRequest) (*helloReply, error) {
				select {
				case <-time.After(time.Duration(len(r.Name)) * time.Millisecond):
				case <-ctx.Done():
					return nil, ctx.Err()
				}
				return &helloReply{}, nil
			}, hull.Idempotent())
		})
	}
	clients := []*hull.Client{w.Client("busy"), w.Client("quiet")}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	failed := map[string]int{}
	calls := 0
	for i, c := range clients {
		all.Go(func() {
			for ctx.Err() == nil {
				ms := intn(20)
				all.Go(func() {
					var info hull.CallInfo
					_, err := hull.Call[helloReply](t.Context(), c.To("greeter"), "greeter.Greeter/Hello", &helloRequest{Name: strings.Repeat("a", ms)}, hull.Info(&info))
					mu.Lock()
					defer mu.Unlock()
					calls++
					if err == nil {
						return
					}
					why := ""
					for _, a := range info.Attempts {
						why += a.Node + " " + a.Class.String() + ", "
					}
					failed[fmt.Sprint(info.Class, ": ", why, info.Stopped)]++
					if info.Class == policy.ClassUnsent {
						t.Errorf("after %s: %v", why, err)
					}
				})
				time.Sleep([]time.Duration{3 * time.Millisecond, 200 * time.Millisecond}[i])
			}
		})
	}
	time.Sleep(time.Second)
	for range 6 {
		lives := intn(count)
		spread := []int{1, 5, 30, 2000}[intn(4)]
		for i := range count {
			if i != lives {
				w.Node(name(i)).Kill()
				time.Sleep(time.Duration(intn(spread)) * time.Millisecond)
			}
		}
		time.Sleep(time.Duration(intn(3000)) * time.Millisecond)
		for i := range count {
			if i != lives {
				w.Node(name(i)).Restart()
				time.Sleep(time.Duration(intn(spread)) * time.Millisecond)
			}
		}
		time.Sleep(time.Duration(2500+intn(1000)) * time.Millisecond) // that they are back is seen within two seconds
	}
	cancel()
	all.Wait()
	t.Logf("%d nodes, %d calls, failed: %v", count, calls, failed)
}
