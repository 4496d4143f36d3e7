package hull_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/idempotency/storetest"
	"github.com/hull-go/hull/status"
)

type payRequest struct{ Amount int }
type payReply struct{ Receipt int64 }

// till serves payments and counts them by key.
type till struct {
	mu    sync.Mutex
	paid  map[string]int
	count atomic.Int64
}

func (t *till) serve(s *hull.Server) {
	hull.Handle(s, "shop.Till/Pay", func(ctx context.Context, r *payRequest) (*payReply, error) {
		key, _, _ := idempotency.Current(ctx)
		t.mu.Lock()
		if t.paid == nil {
			t.paid = map[string]int{}
		}
		t.paid[key]++
		t.mu.Unlock()
		n := t.count.Add(1)
		time.Sleep(10 * time.Millisecond)
		return &payReply{n}, nil
	})
}

func pay(ctx context.Context, c *hull.Client, amount int, opts ...hull.CallOption) (*payReply, error) {
	return hull.Call[payReply](ctx, c.To("shop"), "shop.Till/Pay", &payRequest{amount}, opts...)
}

func TestIdempotencyKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var shop till
		w := hulltest.New(t)
		w.Serve("shop", "a", shop.serve)
		c := w.Client("caller")
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if rep, err := pay(t.Context(), c, 7, hull.IdempotencyKey("k")); err != nil || rep.Receipt != 1 {
					t.Errorf("%+v, %v", rep, err)
				}
			})
		}
		wg.Wait()
		for i := range int64(2) { // without a key every call is one of its own
			if rep, err := pay(t.Context(), c, 7); err != nil || rep.Receipt != i+2 {
				t.Errorf("%+v, %v", rep, err)
			}
		}
		if _, err := pay(t.Context(), c, 8, hull.IdempotencyKey("k")); status.CodeOf(err) != status.InvalidArgument || !idempotency.Reused(err) {
			t.Errorf("another request under the same key: %v", err)
		}
	})
}

// TestIdempotencyKeyOverHTTP: any client can give a key.
func TestIdempotencyKeyOverHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var shop till
		w := hulltest.New(t)
		w.Serve("shop", "a", shop.serve)
		c := dialHTTP(t, w, false)
		for range 3 {
			rep, body := post(t, c, "/shop.Till/Pay", `{"Amount": 7}`, "Idempotency-Key", `"8e03978e-40d5-43dd"`)
			if rep.StatusCode != http.StatusOK || strings.TrimSpace(body) != `{"Receipt":1}` {
				t.Errorf("%s: %s", rep.Status, body)
			}
		}
	})
}

// TestOptionForTwoServers is a regression test: an option that was given to a second server had lost its store, and a key started again there.
func TestOptionForTwoServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var shop till
		w := hulltest.New(t)
		keys := hull.WithIdempotency(idempotency.Options{Store: storetest.NewMem()})
		c := w.Client("caller")
		for _, name := range []string{"a", "b"} {
			n := w.Serve("shop", name, shop.serve, keys)
			time.Sleep(10 * time.Second) // the caller forgets the one before
			if rep, err := pay(t.Context(), c, 7, hull.IdempotencyKey("k")); err != nil || rep.Receipt != 1 {
				t.Errorf("on %s: %+v, %v", name, rep, err)
			}
			n.Stop()
		}
	})
}

// TestKeysSharedByNodes: connections break at random, before and after a call was processed, and the client tries again on other nodes. Every call ends
// well and no key starts twice.
func TestKeysSharedByNodes(t *testing.T) {
	const calls = 2000
	synctest.Test(t, func(t *testing.T) {
		var shop till
		w := hulltest.New(t)
		store := storetest.NewMem()
		for _, name := range []string{"a", "b", "c"} {
			w.Serve("shop", name, shop.serve, hull.WithIdempotency(idempotency.Options{Store: store}))
		}
		c := w.Client("caller")
		ctx, cancel := context.WithCancel(t.Context())
		var breaks, wg sync.WaitGroup
		breaks.Go(func() {
			for rnd := rand.New(rand.NewPCG(1, 2)); ctx.Err() == nil; time.Sleep(time.Duration(100+rnd.IntN(400)) * time.Millisecond) {
				w.Network.Pair("caller", string(rune('a'+rnd.IntN(3)))).Cut()
			}
		})
		var failed, again atomic.Int64
		for worker := range 10 {
			wg.Go(func() {
				for i := worker; i < calls; i += 10 {
					var info hull.CallInfo
					_, err := pay(ctx, c, i, hull.IdempotencyKey(fmt.Sprint(i)), hull.Info(&info))
					if len(info.Attempts) > 1 {
						again.Add(1)
					}
					if err != nil {
						failed.Add(1)
						t.Logf("%d: %v", i, err)
					}
				}
			})
		}
		wg.Wait()
		cancel()
		breaks.Wait()
		for key, n := range shop.paid {
			if n != 1 {
				t.Errorf("key %q started %d times", key, n)
			}
		}
		if len(shop.paid) < calls-int(failed.Load()) || failed.Load() > calls/100 {
			t.Errorf("%d keys started, %d calls failed", len(shop.paid), failed.Load())
		}
		if again.Load() == 0 {
			t.Error("no call was tried again: the test does not test that")
		}
		t.Logf("%d of %d calls took several attempts, %d failed", again.Load(), calls, failed.Load())
	})
}
