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

var downSeeds = flag.Int("down.seeds", 3, "how many worlds TestCallsFindTheLivingNode makes, of about 0.3 s each")

// TestCallsFindTheLivingNode kills all nodes of a service but one at bad moments: together, or one shortly after the other, while the registry
// still lists those that died before. No idempotent call may fail for want of a connection while one node lives.
func TestCallsFindTheLivingNode(t *testing.T) {
	for seed := range uint64(*downSeeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { killAllButOne(t, seed) })
		})
	}
}

// town is a service whose nodes die, and its callers.
type town struct {
	t       *testing.T
	w       *hulltest.World
	count   int
	clients []*hull.Client
	stop    context.CancelFunc
	calls   sync.WaitGroup

	mu     sync.Mutex
	rnd    *rand.Rand
	dead   []string // of poison
	made   int
	failed map[string]int // by what became of their attempts
}

const poison = "poison"

func newTown(t *testing.T, seed uint64, nodes int, every ...time.Duration) *town {
	d := &town{t: t, w: hulltest.New(t), count: nodes, rnd: rand.New(rand.NewPCG(seed, 1)), failed: map[string]int{}}
	for i := range nodes {
		d.w.Serve("greeter", d.name(i), func(s *hull.Server) {
			hull.Handle(s, "greeter.Greeter/Hello", func(ctx context.Context, r *helloRequest) (*helloReply, error) {
				if r.Name == poison {
					d.mu.Lock()
					d.dead = append(d.dead, s.NodeID())
					d.mu.Unlock()
					d.w.Node(s.NodeID()).Kill()
				}
				select {
				case <-time.After(time.Duration(len(r.Name)) * time.Millisecond):
				case <-ctx.Done():
					return nil, ctx.Err()
				}
				return &helloReply{}, nil
			}, hull.Idempotent())
		})
	}
	var ctx context.Context
	ctx, d.stop = context.WithCancel(t.Context())
	for i, pause := range every {
		c := d.w.Client(fmt.Sprint("caller-", i))
		d.clients = append(d.clients, c)
		d.calls.Go(func() {
			for ctx.Err() == nil {
				d.calls.Go(func() { d.call(c, strings.Repeat("a", d.intn(20))) })
				time.Sleep(pause)
			}
		})
	}
	time.Sleep(time.Second)
	return d
}

func (d *town) name(i int) string { return fmt.Sprintf("node-%d", i) }

func (d *town) intn(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rnd.IntN(n)
}

// call makes a call that takes as many milliseconds as its word has letters.
func (d *town) call(c *hull.Client, word string) {
	var info hull.CallInfo
	_, err := hull.Call[helloReply](d.t.Context(), c.To("greeter"), "greeter.Greeter/Hello", &helloRequest{Name: word}, hull.Info(&info))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.made++; err == nil || word == poison {
		return
	}
	story := ""
	for _, a := range info.Attempts {
		story += a.Node + " " + a.Class.String() + ", "
	}
	d.failed[story+info.Stopped]++
	if info.Class == policy.ClassUnsent {
		d.t.Errorf("after %s: %v", story, err)
	}
}

// finish ends the load and waits for all calls.
func (d *town) finish() {
	d.stop()
	d.calls.Wait()
	d.t.Logf("%d nodes, %d calls, failed: %v", d.count, d.made, d.failed)
}

func killAllButOne(t *testing.T, seed uint64) {
	d := newTown(t, seed, 3+int(seed%4), 3*time.Millisecond, 200*time.Millisecond)
	for range 6 {
		lives := d.intn(d.count)
		spread := []int{1, 5, 30, 2000}[d.intn(4)]
		each := func(do func(*hulltest.Node)) {
			for i := range d.count {
				if i != lives {
					do(d.w.Node(d.name(i)))
					time.Sleep(time.Duration(d.intn(spread)) * time.Millisecond)
				}
			}
		}
		each((*hulltest.Node).Kill)
		time.Sleep(time.Duration(d.intn(3000)) * time.Millisecond)
		each((*hulltest.Node).Restart)
		time.Sleep(time.Duration(2500+d.intn(1000)) * time.Millisecond) // that they are back is seen within two seconds
	}
	d.finish()
}

// TestQueryOfDeath makes calls that kill each node that runs them, as many as they have attempts, while others are made. Those go to the nodes that
// are left: none fails for want of a connection, and hardly one comes upon three nodes just as they die.
func TestQueryOfDeath(t *testing.T) {
	made, failed := 0, 0
	for seed := range uint64(*downSeeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newTown(t, seed, 5, 3*time.Millisecond, 200*time.Millisecond)
				for i := range 4 {
					d.call(d.clients[i%2], poison)
					time.Sleep(time.Duration(d.intn(3000)) * time.Millisecond)
					if len(d.dead) > 3 {
						t.Errorf("%d nodes died of one call: %v", len(d.dead), d.dead)
					}
					for _, name := range d.dead {
						d.w.Node(name).Restart()
					}
					d.dead = nil
					time.Sleep(3 * time.Second)
				}
				d.finish()
				made += d.made
				for _, n := range d.failed {
					failed += n
				}
			})
		})
	}
	t.Logf("%d of %d calls failed", failed, made)
	if failed*1000 > made {
		t.Errorf("%d of %d calls failed", failed, made)
	}
}

// TestNoCallWaitsForALostNode: of a node that answers nothing any more, not even a dial, calls notice nothing once it is down; when it is back it serves.
func TestNoCallWaitsForALostNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := three(t)
		var l load
		l.run(t, c, 100, 5*time.Second)
		w.Node("b").Cut(true)
		w.Network.Pair("b", "caller").Cut()
		l.run(t, c, 100, 5*time.Second)
		l.allOK(t, "losing a node")
		var lost load
		lost.run(t, c, 100, 30*time.Second)
		lost.allOK(t, "while it is lost")
		if lost.longest > 10*time.Millisecond {
			t.Errorf("a call took %v while a node was lost", lost.longest)
		}
		w.Node("b").Cut(false)
		time.Sleep(time.Second)
		var back load
		back.run(t, c, 100, 5*time.Second)
		back.allOK(t, "after its return")
		if back.nodes["b"] == 0 {
			t.Errorf("it has not come back: %v", back.nodes)
		}
	})
}
