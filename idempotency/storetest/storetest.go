// Package storetest is the suite that every idempotency.Store passes.
package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/idempotency"
)

// Harness is what the suite needs to know of a store.
type Harness struct {
	// Open returns two stores that share their records, as two processes have them.
	Open func(t *testing.T) (a, b idempotency.Store)
	// Die makes an owner dead in a store's eyes, as if its TTL had passed.
	Die func(t *testing.T, s idempotency.Store, owner string)
	// Pass makes a key expire, as if its time had passed; nil if the store cannot be made to.
	Pass func(t *testing.T, s idempotency.Store, key string)
}

const (
	ttl  = time.Minute
	keep = 10 * time.Minute
)

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	for _, c := range []struct {
		name string
		test func(*testing.T, world)
	}{
		{"OneClaimWins", oneWins}, {"SameClaimAgain", sameAgain}, {"ResultIsShared", shared}, {"ReleaseSetsFree", release},
		{"DeadOwnerIsInDoubt", doubt}, {"TakeOver", takeOver}, {"TakeOverOfAnotherFails", takeOverOther}, {"DoneIsNotTakenOver", takeOverDone},
		{"LostClaims", lost}, {"OwnerReturns", returns}, {"StrangeKeys", strange}, {"CanceledContext", canceled}, {"KeysExpire", expire},
		{"RunningDoesNotExpireWhileItsOwnerLives", runningStays},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := h.Open(t)
			c.test(t, world{h, a, b})
		})
	}
}

type world struct {
	Harness
	a, b idempotency.Store
}

func claimOf(key, id, owner string) idempotency.Claim {
	return idempotency.Claim{Key: key, ID: id, Owner: owner, TTL: ttl, Fingerprint: sha256.Sum256([]byte(key)), Keep: keep}
}

func claim(t *testing.T, s idempotency.Store, c idempotency.Claim, want idempotency.State) idempotency.Record {
	t.Helper()
	rec, err := s.Claim(t.Context(), c)
	if err != nil {
		t.Fatalf("claiming %q: %v", c.Key, err)
	}
	if rec.State != want {
		t.Fatalf("claiming %q: %v, want %v", c.Key, rec.State, want)
	}
	return rec
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustBeLost(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, idempotency.ErrLost) {
		t.Fatalf("%v, want ErrLost", err)
	}
}

func oneWins(t *testing.T, w world) {
	const keys, each = 5, 8
	won := make([][]string, keys)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for k := range keys {
		for i := range each {
			s := w.a
			if i%2 == 1 {
				s = w.b
			}
			wg.Go(func() {
				id := fmt.Sprintf("claim %d", i)
				rec, err := s.Claim(t.Context(), claimOf(fmt.Sprintf("key %d", k), id, "owner of "+id))
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Errorf("key %d: %v", k, err)
				} else if rec.State == idempotency.Claimed {
					won[k] = append(won[k], id)
				} else if rec.State != idempotency.Running {
					t.Errorf("key %d: %v", k, rec.State)
				}
			})
		}
	}
	wg.Wait()
	for k, ids := range won {
		if len(ids) != 1 {
			t.Errorf("key %d was given to %q", k, ids)
		}
	}
}

func sameAgain(t *testing.T, w world) {
	claim(t, w.a, claimOf("k", "1", "a"), idempotency.Claimed)
	claim(t, w.a, claimOf("k", "1", "a"), idempotency.Claimed) // the first answer was lost
	rec := claim(t, w.b, claimOf("k", "2", "b"), idempotency.Running)
	if rec.ID != "1" || rec.Owner != "a" || rec.Fingerprint != claimOf("k", "", "").Fingerprint {
		t.Errorf("%+v", rec)
	}
}

func shared(t *testing.T, w world) {
	c := claimOf("k", "1", "a")
	claim(t, w.a, c, idempotency.Claimed)
	must(t, w.a.Finish(t.Context(), "k", "1", []byte("result\x00\xff"), keep))
	rec := claim(t, w.b, claimOf("k", "2", "b"), idempotency.Done)
	if string(rec.Result) != "result\x00\xff" || rec.Fingerprint != c.Fingerprint {
		t.Errorf("%+v", rec)
	}
	must(t, w.a.Finish(t.Context(), "k", "1", []byte("result\x00\xff"), keep)) // said again, because the answer was lost
	claim(t, w.a, claimOf("k", "1", "a"), idempotency.Done)
}

func release(t *testing.T, w world) {
	claim(t, w.a, claimOf("k", "1", "a"), idempotency.Claimed)
	must(t, w.a.Release(t.Context(), "k", "1"))
	claim(t, w.b, claimOf("k", "2", "b"), idempotency.Claimed)
}

func doubt(t *testing.T, w world) {
	claim(t, w.a, claimOf("k", "1", "a"), idempotency.Claimed)
	claim(t, w.a, claimOf("done", "2", "a"), idempotency.Claimed)
	must(t, w.a.Finish(t.Context(), "done", "2", []byte("r"), keep))
	w.Die(t, w.a, "a")
	if rec := claim(t, w.b, claimOf("k", "3", "b"), idempotency.Doubtful); rec.ID != "1" {
		t.Errorf("%+v", rec)
	}
	claim(t, w.b, claimOf("done", "4", "b"), idempotency.Done) // what a dead owner has finished stays
}

func takeOver(t *testing.T, w world) {
	claim(t, w.a, claimOf("k", "1", "a"), idempotency.Claimed)
	w.Die(t, w.a, "a")
	c := claimOf("k", "2", "b")
	c.Over = "1"
	claim(t, w.b, c, idempotency.Claimed)
	mustBeLost(t, w.a.Finish(t.Context(), "k", "1", []byte("too late"), keep))
	must(t, w.b.Finish(t.Context(), "k", "2", []byte("r"), keep))
	if rec := claim(t, w.a, claimOf("k", "3", "a"), idempotency.Done); string(rec.Result) != "r" {
		t.Errorf("%+v", rec)
	}
}

func takeOverOther(t *testing.T, w world) {
	claim(t, w.a, claimOf("k", "1", "a"), idempotency.Claimed)
	c := claimOf("k", "2", "b")
	c.Over = "0"
	if rec := claim(t, w.b, c, idempotency.Running); rec.ID != "1" {
		t.Errorf("%+v", rec)
	}
}

func takeOverDone(t *testing.T, w world) {
	claim(t, w.a, claimOf("k", "1", "a"), idempotency.Claimed)
	must(t, w.a.Finish(t.Context(), "k", "1", []byte("r"), keep))
	c := claimOf("k", "2", "b")
	c.Over = "1"
	claim(t, w.b, c, idempotency.Done)
}

func lost(t *testing.T, w world) {
	mustBeLost(t, w.a.Finish(t.Context(), "never", "1", []byte("r"), keep))
	mustBeLost(t, w.a.Release(t.Context(), "never", "1"))
	claim(t, w.a, claimOf("k", "1", "a"), idempotency.Claimed)
	mustBeLost(t, w.b.Release(t.Context(), "k", "2"))
	must(t, w.a.Finish(t.Context(), "k", "1", []byte("r"), keep))
	mustBeLost(t, w.a.Release(t.Context(), "k", "1")) // what has ended is not set free
	claim(t, w.b, claimOf("k", "3", "b"), idempotency.Done)
}

func returns(t *testing.T, w world) {
	claim(t, w.a, claimOf("k", "1", "a"), idempotency.Claimed)
	w.Die(t, w.a, "a")
	claim(t, w.b, claimOf("k", "2", "b"), idempotency.Doubtful)
	must(t, w.a.Alive(t.Context(), "a", ttl)) // it had only been stopped for a while
	claim(t, w.b, claimOf("k", "2", "b"), idempotency.Running)
	must(t, w.a.Finish(t.Context(), "k", "1", []byte("r"), keep))
	claim(t, w.b, claimOf("k", "2", "b"), idempotency.Done)
}

func strange(t *testing.T, w world) {
	long := make([]byte, 1000)
	for i := range long {
		long[i] = 'x'
	}
	for i, k := range []string{"svc/M\x00CN=a,O=b\x00k", "'; DROP TABLE hull_keys; --", "../../etc", "ключ", "%_", string(long)} {
		claim(t, w.a, claimOf(k, "1", "a"), idempotency.Claimed)
		if rec := claim(t, w.b, claimOf(k, "2", "b"), idempotency.Running); rec.ID != "1" {
			t.Errorf("key %d: %+v", i, rec)
		}
	}
	claim(t, w.a, claimOf("svc/M\x00CN=a,O=b\x00K", "1", "a"), idempotency.Claimed) // keys differ by case
}

func canceled(t *testing.T, w world) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.a.Claim(ctx, claimOf("k", "1", "a")); err == nil {
		t.Error("a claim with an ended context was made")
	}
	claim(t, w.b, claimOf("other", "2", "b"), idempotency.Claimed) // and nothing is blocked by it
}

func expire(t *testing.T, w world) {
	if w.Pass == nil {
		return // said by the harness
	}
	claim(t, w.a, claimOf("k", "1", "a"), idempotency.Claimed)
	must(t, w.a.Finish(t.Context(), "k", "1", []byte("r"), keep))
	claim(t, w.a, claimOf("crashed", "2", "a"), idempotency.Claimed)
	w.Die(t, w.a, "a")
	w.Pass(t, w.a, "k")
	w.Pass(t, w.a, "crashed")
	claim(t, w.b, claimOf("k", "3", "b"), idempotency.Claimed)
	claim(t, w.b, claimOf("crashed", "4", "b"), idempotency.Claimed)
}

func runningStays(t *testing.T, w world) {
	if w.Pass == nil {
		return // said by the harness
	}
	claim(t, w.a, claimOf("k", "1", "a"), idempotency.Claimed)
	w.Pass(t, w.a, "k")
	must(t, w.b.Alive(t.Context(), "b", ttl)) // where stores remove what has expired
	claim(t, w.b, claimOf("k", "2", "b"), idempotency.Running)
}
