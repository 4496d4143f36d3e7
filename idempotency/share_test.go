package idempotency_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/idempotency/storetest"
	"github.com/hull-go/hull/status"
)

// TestRerunAfterPanicAndGivingUp is a regression test: Options.Rerun was honoured after the death of a process only. A panic and a handler that was given up leave
// the key in doubt as well, and the next call with it runs, on this node and on another.
func TestRerunAfterPanicAndGivingUp(t *testing.T) {
	for name, die := range map[string]func(context.Context) error{
		"panic":    func(context.Context) error { panic("boom") },
		"given up": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		for where, shared := range map[string]bool{"memory": false, "shared": true} {
			t.Run(name+" "+where, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := idempotency.Options{Linger: -1, Rerun: func(m string) bool { return m == "shop/Pay" }}
					first := newGuard(t, o)
					guards := []*idempotency.Guard{first}
					if shared {
						o.Store = storetest.NewMem()
						first, guards = newGuard(t, o), nil
						for range 2 {
							guards = append(guards, newGuard(t, o))
						}
						guards = append(guards, first)
					}
					func() {
						defer func() { _ = recover() }()
						ctx, cancel := context.WithTimeout(t.Context(), time.Second)
						defer cancel()
						_, _ = first.Do(ctx, call("k"), func(ctx context.Context) (any, error) { return nil, die(ctx) })
					}()
					starts := 0
					for i, g := range guards {
						rep, err := g.Do(t.Context(), call("k"), func(context.Context) (any, error) { starts++; return "again", nil })
						if err != nil || text(t, rep) != `"again"` {
							t.Errorf("guard %d: %v, %v", i, rep, err)
						}
					}
					if s := first.Snapshot(); starts != 1 || s.Doubtful != 1 || s.Released != 0 {
						t.Errorf("it ran %d times more; %+v", starts, s)
					}
				})
			})
		}
	}
}

// TestALargeFailureIsCut: of a failure that is larger than what is kept, its code and its beginning are.
func TestALargeFailureIsCut(t *testing.T) {
	g := newGuard(t, idempotency.Options{MaxResult: 1000})
	for i := range 2 {
		_, err := g.Do(t.Context(), call("k"), func(context.Context) (any, error) {
			return nil, &status.Error{Code: status.Internal, Message: strings.Repeat("ü", 1000), Fate: status.Processed, Origin: status.Downstream}
		})
		e := status.From(err)
		if e == nil || e.Code != status.Internal || e.Origin != status.Downstream || !strings.HasPrefix(e.Message, "üüü") || i == 1 && len(e.Message) > 200 {
			t.Errorf("call %d: %v", i+1, err)
		}
	}
	if s := g.Snapshot(); s.Bytes > 2000 {
		t.Errorf("%+v", s)
	}
}

// picky is a store that never takes results of some keys or of more than a few bytes, none while it is away, and nothing at all while it is down.
type picky struct {
	*storetest.Mem
	away, down atomic.Bool
	most       int // bytes; 0 = any number
	releases   atomic.Int64
}

func (p *picky) Claim(ctx context.Context, c idempotency.Claim) (idempotency.Record, error) {
	if p.down.Load() {
		return idempotency.Record{}, errors.New("the store is down")
	}
	return p.Mem.Claim(ctx, c)
}

func (p *picky) Finish(ctx context.Context, key, claim string, result []byte, keep time.Duration) error {
	if p.down.Load() || p.away.Load() || strings.Contains(key, "never") || p.most > 0 && len(result) > p.most {
		return errors.New("the store does not take it")
	}
	return p.Mem.Finish(ctx, key, claim, result, keep)
}

func (p *picky) Release(ctx context.Context, key, claim string) error {
	p.releases.Add(1)
	if p.down.Load() {
		return errors.New("the store is down")
	}
	return p.Mem.Release(ctx, key, claim)
}

// TestAResultThatIsNeverTakenHoldsNothingUp is a regression test: results that the store had not taken at once waited for the first of them.
func TestAResultThatIsNeverTakenHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &picky{Mem: storetest.NewMem()}
		a, b := newGuard(t, idempotency.Options{Store: store}), newGuard(t, idempotency.Options{Store: store})
		for _, key := range []string{"never1", "never2", "never3", "never4"} {
			if _, err := a.Do(t.Context(), call(key), func(context.Context) (any, error) { return "done", nil }); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		store.away.Store(true)
		if _, err := a.Do(t.Context(), call("k"), func(context.Context) (any, error) { return 1, nil }); err != nil {
			t.Fatal(err)
		}
		store.away.Store(false)
		time.Sleep(10 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		rep, err := b.Do(ctx, call("k"), func(context.Context) (any, error) { t.Error("it ran again"); return nil, nil })
		if err != nil || text(t, rep) != "1" || a.Snapshot().Late != 4 {
			t.Errorf("%v, %v; %d results wait", rep, err, a.Snapshot().Late)
		}
		time.Sleep(idempotency.DefaultKeep)
		if s := a.Snapshot(); s.Late != 0 || s.DroppedResults != 4 {
			t.Errorf("%d results wait when nobody asks for them any more, and %d are said to be dropped", s.Late, s.DroppedResults)
		}
	})
}

// TestATooLargeResult is a regression test: a result that the store would never take, since it was too large for it, was offered to it until the key was forgotten,
// and callers of other nodes waited in vain all that time. They hear that the call has ended, and how if it failed.
func TestATooLargeResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &picky{Mem: storetest.NewMem(), most: 300}
		a, b := newGuard(t, idempotency.Options{Store: store}), newGuard(t, idempotency.Options{Store: store})
		large := strings.Repeat("x", 1000)
		_, err := a.Do(t.Context(), call("failed"), func(context.Context) (any, error) { return nil, status.Errorf(status.NotFound, "%s", large) })
		if status.CodeOf(err) != status.NotFound {
			t.Fatal(err)
		}
		store.away.Store(true) // that it takes nothing for a while is no reason to say less
		if _, err := a.Do(t.Context(), call("small"), func(context.Context) (any, error) { return "small", nil }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		store.away.Store(false)
		if _, err := a.Do(t.Context(), call("done"), func(context.Context) (any, error) { return large, nil }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(35 * time.Second)
		for i := range 500 { // soon it is known to be so
			if _, err := a.Do(t.Context(), call(fmt.Sprint(i)), func(context.Context) (any, error) { return large, nil }); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Second)
		if n := a.Snapshot().Late; n != 0 {
			t.Errorf("%d results wait", n)
		}
		never := func(context.Context) (any, error) { t.Error("it ran again"); return nil, nil }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := b.Do(ctx, call("done"), never); status.CodeOf(err) != status.FailedPrecondition || !strings.Contains(err.Error(), "was done, but its answer could not be kept") {
			t.Errorf("a call that was done: another node says %v", err)
		}
		if _, err := b.Do(ctx, call("failed"), never); status.CodeOf(err) != status.NotFound || !strings.Contains(err.Error(), "xxx") {
			t.Errorf("a call that failed: another node says %v", err)
		}
		if rep, err := b.Do(ctx, call("small"), never); err != nil || text(t, rep) != `"small"` {
			t.Errorf("a call whose store was away: another node says %v, %v", rep, err)
		}
		if rep, err := a.Do(ctx, call("done"), never); err != nil || text(t, rep) != `"`+large+`"` {
			t.Errorf("the node that did it says %v, %v", rep, err)
		}
	})
}

// TestReleasesAreNoStorm is a regression test: a store that was back after an outage was asked to set free each key that it might have granted five times within
// seconds, thousands of times one after the other without a pause.
func TestReleasesAreNoStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &picky{Mem: storetest.NewMem()}
		g := newGuard(t, idempotency.Options{Store: store})
		store.down.Store(true)
		for i := range 3000 {
			if _, err := g.Do(t.Context(), call(fmt.Sprint(i)), nil); status.FateOf(err) != status.NotSent {
				t.Fatal(err)
			}
		}
		store.down.Store(false)
		store.releases.Store(0)
		most := int64(0)
		for range 60 {
			before := store.releases.Load()
			time.Sleep(time.Second)
			most = max(most, store.releases.Load()-before)
		}
		if n, all := g.Snapshot().Late, store.releases.Load(); n != 0 || most > 501 || all > 2*3000+500 {
			t.Errorf("%d wait; %d were told in one second, %d in all", n, most, all)
		}
	})
}

// TestRefusedCallsDoNotCrowdOutResults is a regression test: while the store was down each call that was refused waited to be taken back, and when there were too many the
// results of work that was done meanwhile were dropped, and nobody was told. Results are kept apart and are told first, and what is dropped is counted and logged.
func TestRefusedCallsDoNotCrowdOutResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said strings.Builder
		store := &picky{Mem: storetest.NewMem()}
		g := newGuard(t, idempotency.Options{Store: store, Logger: slog.New(slog.NewTextHandler(&said, nil))})
		other := newGuard(t, idempotency.Options{Store: store})
		for i := range 4 { // which nothing else waits for either
			if _, err := g.Do(t.Context(), call(fmt.Sprint("never", i)), func(context.Context) (any, error) { return "never", nil }); err != nil {
				t.Fatal(err)
			}
		}
		refused := func() {
			if _, err := g.Do(t.Context(), call("free"), nil); status.FateOf(err) != status.NotSent {
				t.Fatal(err)
			}
		}
		_, err := g.Do(t.Context(), call("paid"), func(context.Context) (any, error) {
			_, err := g.Do(t.Context(), call("undone"), func(context.Context) (any, error) {
				store.down.Store(true) // while the handlers work
				return nil, &status.Error{Code: status.Aborted, Fate: status.NotSent}
			})
			if status.CodeOf(err) != status.Aborted {
				t.Error(err)
			}
			for range 10_500 {
				refused()
			}
			return "done", nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if s := g.Snapshot(); s.Late != 10_006 || s.DroppedResults != 0 || s.DroppedReleases != 500 {
			t.Errorf("%+v", s)
		}
		time.Sleep(5 * time.Second)
		refused()
		store.down.Store(false)
		time.Sleep(5 * time.Second)
		for key, want := range map[string]string{"paid": `"done"`, "undone": `"free"`} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			rep, err := other.Do(ctx, call(key), func(context.Context) (any, error) { return "free", nil })
			cancel()
			if err != nil || text(t, rep) != want {
				t.Errorf("%s: another node has %v, %v", key, rep, err)
			}
		}
		time.Sleep(time.Minute)
		if s := g.Snapshot(); s.Late != 4 {
			t.Errorf("%d wait, want the 4 results that are never taken", s.Late)
		}
		g.Close() // it writes no more
		if n := strings.Count(said.String(), "dropped"); n != 1 {
			t.Errorf("that some are dropped was logged %d times", n)
		}
	})
}

// tardy is a store that one claim reaches after its caller has heard that it failed.
type tardy struct {
	*storetest.Mem
	by time.Duration
}

func (s *tardy) Claim(ctx context.Context, c idempotency.Claim) (idempotency.Record, error) {
	if s.by == 0 {
		return s.Mem.Claim(ctx, c)
	}
	time.AfterFunc(s.by, func() { _, _ = s.Mem.Claim(context.Background(), c) })
	s.by = 0
	return idempotency.Record{}, errors.New("no answer")
}

// TestAClaimThatArrivesLateIsTakenBack: a claim that failed is on its way all the same, and arrives when the key has been set free; nobody runs under it, and others
// need not wait until its process dies.
func TestAClaimThatArrivesLateIsTakenBack(t *testing.T) {
	for _, by := range []time.Duration{time.Second, 5 * time.Second, 14 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			store := &tardy{storetest.NewMem(), by}
			a, b := newGuard(t, idempotency.Options{Store: store}), newGuard(t, idempotency.Options{Store: store})
			if _, err := a.Do(t.Context(), call("k"), nil); status.FateOf(err) != status.NotSent {
				t.Fatal(err)
			}
			time.Sleep(by)
			synctest.Wait()
			if store.Owner("shop/Pay\x00\x00k") == "" {
				t.Fatal("the claim has not arrived: the test does not test that")
			}
			ctx, cancel := context.WithTimeout(t.Context(), idempotency.DefaultTTL+5*time.Second)
			defer cancel()
			if rep, err := b.Do(ctx, call("k"), func(context.Context) (any, error) { return 1, nil }); err != nil || text(t, rep) != "1" {
				t.Errorf("%v late: %v, %v", by, rep, err)
			}
			if n := a.Snapshot().Late; n != 0 {
				t.Errorf("%v late: %d wait", by, n)
			}
		})
	}
}

// TestDoubtAtTheDeadline is a regression test: whether a key was in doubt whose handler failed at the very deadline of its caller was a matter of which goroutine came
// first. Equal calls are kept alike: in doubt, for nobody waits for them any more.
func TestDoubtAtTheDeadline(t *testing.T) {
	ends := map[string]func(context.Context) (context.Context, context.CancelFunc){
		"deadline": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		},
		"cancelled": context.WithCancel,
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGuard(t, idempotency.Options{Linger: -1})
				kept := map[string]int{}
				for i := range 200 {
					key := fmt.Sprint(i)
					ctx, cancel := end(t.Context())
					_, _ = g.Do(ctx, call(key), func(h context.Context) (any, error) {
						d, ok := h.Deadline()
						if !ok {
							cancel()
							return nil, &status.Error{Code: status.Canceled, Message: "below", Fate: status.Maybe}
						}
						below, stop := context.WithDeadline(h, d) // as a client's call below does
						defer stop()
						<-below.Done()
						return nil, &status.Error{Code: status.DeadlineExceeded, Message: "below", Fate: status.Maybe}
					})
					cancel()
					_, err := g.Do(t.Context(), call(key), nil)
					if idempotency.InDoubt(err) {
						kept["in doubt"]++
					} else {
						kept[err.Error()]++
					}
				}
				if len(kept) != 1 || kept["in doubt"] != 200 {
					t.Errorf("200 equal calls are kept as %v", kept)
				}
			})
		})
	}
}
