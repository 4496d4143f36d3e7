package hulltest_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/idempotency/storetest"
	"github.com/hull-go/hull/internal/invariant"
	"github.com/hull-go/hull/policy"
)

var keyedCalls = flag.Int("keyed", 10_000, "how many calls TestRepliesLost makes")

type keyedRequest struct{ Key, Ms int }
type keyedReply struct{ Start int64 }

// keyed is a service whose handlers count their starts, and a caller who tries again with the same key whatever happens.
type keyed struct {
	t      *testing.T
	w      *hulltest.World
	check  *invariant.Checker
	shared bool
	stores []*mortal // the store, as each node sees it

	mu       sync.Mutex
	rnd      *rand.Rand
	began    int64
	start    map[int]int64 // which start each key had, with a store
	answered int
	doubtful int
	tries    int
	again    int            // requests that the client made again by itself
	failed   map[string]int // tries, by what ended them
}

// TestRepliesLost makes calls with keys and loses requests and answers at random: connections are reset, answers swallowed, nodes killed where others know of their keys. Its
// callers try again until they have an answer. With a store no key starts twice, and everybody gets the one start's answer; without one no key starts twice on a node.
func TestRepliesLost(t *testing.T) {
	for name, shared := range map[string]bool{"store": true, "memory": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &keyed{t: t, w: hulltest.New(t), check: invariant.New(invariant.Options{}), shared: shared, rnd: rand.New(rand.NewPCG(*soakSeed, 4)), start: map[int]int64{}, failed: map[string]int{}}
				o := idempotency.Options{Keep: time.Minute, TTL: 2 * time.Second}
				store := storetest.NewMem()
				for i := range soakNodes {
					if shared {
						k.stores = append(k.stores, &mortal{Store: store, owners: map[string]string{}, dead: map[string]bool{}})
						o.Store = k.stores[i]
					}
					k.w.Serve("till", fmt.Sprintf("till-%d", i), k.serve, hull.WithIdempotency(o))
				}
				c := k.w.Client("caller")
				ctx, cancel := context.WithCancel(t.Context())
				var breaking, calls sync.WaitGroup
				breaking.Go(func() { k.loseThings(ctx) })
				made := 0
				// Nodes that are killed may happen to have no call, again and again: then it takes longer.
				for ; made < *keyedCalls || shared && !k.doubts() && made < 20**keyedCalls; made++ {
					key := made
					calls.Go(func() { k.pay(c, key) })
					time.Sleep(time.Millisecond)
				}
				calls.Wait()
				cancel()
				breaking.Wait()
				r := k.check.Report(policy.Now())
				if err := r.Err(); err != nil {
					t.Error(err)
				}
				if len(r.Untested(4)) > 0 {
					t.Error("no key was seen")
				}
				repeated := int64(0) // as the nodes say that run now; those that were killed have forgotten
				for i := range soakNodes {
					s := k.w.Node(fmt.Sprintf("till-%d", i)).Server.Snapshot()
					repeated += s.Keys.Replayed + s.Keys.Waited
				}
				t.Logf("%d keys, %d calls, %d answered, %d in doubt; %d starts; clients asked again %d times, nodes that run now had seen the key %d times; failed tries: %v",
					made, k.tries, k.answered, k.doubtful, k.began, k.again, repeated, k.failed)
				if k.again == 0 || shared != (k.doubtful > 0) {
					t.Error("no answer was lost, or no node died with a call: nothing was tested")
				}
				if n := k.answered + k.doubtful; n < made-made/1000 {
					t.Errorf("%d of %d keys have no answer and are not in doubt", made-n, made)
				}
			})
		})
	}
}

func (k *keyed) serve(srv *hull.Server) {
	hull.Handle(srv, "till.Till/Pay", func(ctx context.Context, r *keyedRequest) (*keyedReply, error) {
		key := fmt.Sprint(r.Key)
		if !k.shared {
			key = srv.NodeID() + " " + key
		}
		k.check.Start(invariant.Start{Key: key, Service: "till", Node: srv.NodeID(), At: policy.Now()})
		k.mu.Lock()
		k.began++
		n := k.began
		k.start[r.Key] = n
		k.mu.Unlock()
		select {
		case <-time.After(time.Duration(r.Ms) * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return &keyedReply{n}, nil
	})
}

// pay tries until it has an answer, ten times at most: what is in doubt stays so.
func (k *keyed) pay(c *hull.Client, key int) {
	req := &keyedRequest{Key: key, Ms: k.intn(20)}
	for range 10 {
		var info hull.CallInfo
		k.mu.Lock()
		k.tries++
		k.mu.Unlock()
		rep, err := hull.Call[keyedReply](k.t.Context(), c.To("till"), "till.Till/Pay", req, hull.IdempotencyKey(fmt.Sprint("key-", key)), hull.Timeout(2*time.Second), hull.Info(&info))
		k.mu.Lock()
		k.again += max(0, len(info.Attempts)-1) + info.Repeated
		k.mu.Unlock()
		if err == nil {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.answered++
			if k.shared && rep.Start != k.start[key] {
				k.t.Errorf("key %d got the answer of start %d, and its own was %d", key, rep.Start, k.start[key])
			}
			return
		}
		k.mu.Lock()
		k.failed[info.Class.String()]++
		if k.failed[info.Class.String()] == 1000 {
			k.t.Logf("the thousandth of its kind after %v: %v", time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)), err)
		}
		k.mu.Unlock()
		if idempotency.InDoubt(err) {
			k.mu.Lock()
			k.doubtful++
			k.mu.Unlock()
			return
		}
		time.Sleep(time.Duration(k.intn(100)) * time.Millisecond)
	}
}

// doubts reports whether a key is in doubt.
func (k *keyed) doubts() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.doubtful > 0
}

func (k *keyed) intn(n int) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.rnd.IntN(n)
}

// mortal is a store as the processes of one place see it, one after the other: what one does after it was killed does not arrive.
type mortal struct {
	idempotency.Store

	mu     sync.Mutex
	owners map[string]string // by claim, of those that have not ended
	dead   map[string]bool   // by owner, whether it was killed
}

var errKilled = errors.New("this process was killed")

// kill kills the processes that there were so far.
func (m *mortal) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for owner := range m.dead {
		m.dead[owner] = true
	}
}

// lives says whether an owner does, who may be new.
func (m *mortal) lives(owner string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead[owner] {
		return errKilled
	}
	m.dead[owner] = false
	return nil
}

// ended says whether the owner of a claim lives that has ended.
func (m *mortal) ended(claim string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead[m.owners[claim]] {
		return errKilled
	}
	delete(m.owners, claim)
	return nil
}

func (m *mortal) Alive(ctx context.Context, owner string, ttl time.Duration) error {
	if err := m.lives(owner); err != nil {
		return err
	}
	return m.Store.Alive(ctx, owner, ttl)
}

func (m *mortal) Claim(ctx context.Context, c idempotency.Claim) (idempotency.Record, error) {
	if err := m.lives(c.Owner); err != nil {
		return idempotency.Record{}, err
	}
	m.mu.Lock()
	m.owners[c.ID] = c.Owner
	m.mu.Unlock()
	return m.Store.Claim(ctx, c)
}

func (m *mortal) Finish(ctx context.Context, key, claim string, result []byte, keep time.Duration) error {
	if err := m.ended(claim); err != nil {
		return err
	}
	return m.Store.Finish(ctx, key, claim, result, keep)
}

func (m *mortal) Release(ctx context.Context, key, claim string) error {
	if err := m.ended(claim); err != nil {
		return err
	}
	return m.Store.Release(ctx, key, claim)
}

// loseThings breaks something every 50 ms or so until ctx ends.
func (k *keyed) loseThings(ctx context.Context) {
	for faults := 1; ctx.Err() == nil; faults++ {
		time.Sleep(time.Duration(20+k.intn(60)) * time.Millisecond)
		place := k.intn(soakNodes)
		node := fmt.Sprintf("till-%d", place)
		switch n := k.intn(100); {
		case k.shared && faults%6 == 0:
			k.stores[place].kill()
			k.w.Node(node).Kill()
			time.Sleep(time.Second)
			k.w.Node(node).Restart()
		case n < 80:
			k.w.Network.Pair(node, "caller").Cut()
		default:
			answers := k.w.Network.Link(node, "caller")
			answers.Drop(true)
			time.Sleep(time.Duration(k.intn(200)) * time.Millisecond)
			answers.Drop(false)
		}
	}
}
