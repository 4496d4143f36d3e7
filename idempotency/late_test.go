package idempotency_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/idempotency/storetest"
	"github.com/hull-go/hull/status"
)

// asked is what a Guard says to another call with a key within a second. It must not run.
func asked(t *testing.T, g *idempotency.Guard, key string) (any, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	return g.Do(ctx, call(key), func(context.Context) (any, error) { t.Errorf("%s ran again", key); return nil, nil })
}

// do makes a call that is answered by what.
func do(t *testing.T, g *idempotency.Guard, key string, what any) {
	t.Helper()
	if _, err := g.Do(t.Context(), call(key), func(context.Context) (any, error) { return what, nil }); err != nil {
		t.Fatal(err)
	}
}

// TestManyTooLargeResults is a regression test: where many results waited that were too large for the store each had its turn before any had the next, and from fifty
// on none had been offered often enough to be told in less words by the time its key was forgotten. That so many were is logged in few lines.
func TestManyTooLargeResults(t *testing.T) {
	for _, n := range []int{10, 200} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var said strings.Builder
				store := &picky{Mem: storetest.NewMem(), most: 300}
				b := newGuard(t, idempotency.Options{Store: store})
				a := newGuard(t, idempotency.Options{Store: store, Logger: slog.New(slog.NewTextHandler(&said, nil))})
				for i := range n {
					do(t, a, fmt.Sprint(i), strings.Repeat("x", 1000))
				}
				time.Sleep(2 * time.Minute)
				if s := a.Snapshot(); s.DroppedResults > 0 || s.Late > 0 {
					t.Errorf("%d wait, %d results were dropped", s.Late, s.DroppedResults)
				}
				for i := range n {
					if _, err := asked(t, b, fmt.Sprint(i)); status.CodeOf(err) != status.FailedPrecondition {
						t.Errorf("another node says %v", err)
					}
				}
				a.Close() // it writes no more
				if n := strings.Count(said.String(), "the calls have ended"); n < 1 || n > 3 {
					t.Errorf("that less was told was logged %d times in two minutes", n)
				}
			})
		})
	}
}

// TestResultsWaitInTurn: what the store never takes, not even in less words, holds up no result that waits with it, however many there are and wherever that stands.
func TestResultsWaitInTurn(t *testing.T) {
	for n := 1; n <= 8; n++ {
		for at := range n {
			synctest.Test(t, func(t *testing.T) {
				store := &picky{Mem: storetest.NewMem()}
				o := idempotency.Options{Store: store, Keep: time.Hour}
				a, b := newGuard(t, o), newGuard(t, o)
				store.away.Store(true)
				for i := range n {
					key := fmt.Sprint("never", i)
					if i == at {
						key = "taken"
					}
					do(t, a, key, strings.Repeat("x", 1000))
				}
				time.Sleep(time.Duration(n) * 40 * time.Second) // until each has had its tries
				store.away.Store(false)
				time.Sleep(30 * time.Second)
				if _, err := asked(t, b, "taken"); err != nil {
					t.Errorf("number %d of %d: another node says %v", at, n, err)
				}
			})
		}
	}
}

// gone is a store that takes nothing at all while it is away.
type gone struct {
	*storetest.Mem
	away atomic.Bool
}

var errGone = errors.New("the store is away")

func (g *gone) Alive(ctx context.Context, owner string, ttl time.Duration) error {
	if g.away.Load() {
		return errGone
	}
	return g.Mem.Alive(ctx, owner, ttl)
}

func (g *gone) Finish(ctx context.Context, key, claim string, result []byte, keep time.Duration) error {
	if g.away.Load() {
		return errGone
	}
	return g.Mem.Finish(ctx, key, claim, result, keep)
}

// TestAnOutageCutsNoResult is a regression test: that the store took nothing during an outage counted against the results that waited, so that those which it failed to
// take once more when it was back, and failed now and then, were lost for good. It gets them whole.
func TestAnOutageCutsNoResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &gone{Mem: storetest.NewMem()}
		a, b := newGuard(t, idempotency.Options{Store: store}), newGuard(t, idempotency.Options{Store: store})
		const n = 20
		end, all := make(chan struct{}), sync.WaitGroup{}
		for i := range n {
			all.Go(func() {
				_, err := a.Do(t.Context(), call(fmt.Sprint(i)), func(context.Context) (any, error) { <-end; return strings.Repeat("y", 50), nil })
				if err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		store.away.Store(true) // while the handlers work
		close(end)
		all.Wait()
		time.Sleep(5 * time.Minute)
		store.Fail(0.2, rand.New(rand.NewPCG(1, 1)))
		store.away.Store(false)
		time.Sleep(20 * time.Second)
		store.Fail(0, nil)
		time.Sleep(20 * time.Second)
		for i := range n {
			if _, err := asked(t, b, fmt.Sprint(i)); err != nil {
				t.Errorf("another node says of %d: %v", i, err)
			}
		}
	})
}

// moody is a store that takes none of the next few results.
type moody struct {
	*storetest.Mem
	fails atomic.Int64
}

func (m *moody) Finish(ctx context.Context, key, claim string, result []byte, keep time.Duration) error {
	if m.fails.Add(-1) >= 0 {
		return errors.New("not now")
	}
	return m.Mem.Finish(ctx, key, claim, result, keep)
}

// TestNotTooLargeAnyMore is a regression test: when one result had been cut others as large were cut after two failures for ever, though the store had taken thousands
// of larger ones since, at once.
func TestNotTooLargeAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &moody{Mem: storetest.NewMem()}
		a, b := newGuard(t, idempotency.Options{Store: store}), newGuard(t, idempotency.Options{Store: store})
		store.fails.Store(17)
		do(t, a, "first", strings.Repeat("f", 60))
		time.Sleep(time.Minute)
		if _, err := asked(t, b, "first"); status.CodeOf(err) != status.FailedPrecondition {
			t.Fatalf("another node says %v: the test does not test that", err)
		}
		do(t, a, "larger", strings.Repeat("b", 10_000))
		store.fails.Store(2)
		do(t, a, "second", strings.Repeat("s", 60))
		time.Sleep(time.Minute)
		if _, err := asked(t, b, "second"); err != nil {
			t.Errorf("another node says %v", err)
		}
	})
}

// TestReleasesThatWereAnsweredAreNotDropped is a regression test: where keys are kept for less than a process is believed alive, releases that the store had answered were
// said to be dropped, and claims that arrived after that were not taken back.
func TestReleasesThatWereAnsweredAreNotDropped(t *testing.T) {
	for _, keep := range []time.Duration{time.Second, 5 * time.Second, idempotency.DefaultTTL} {
		synctest.Test(t, func(t *testing.T) {
			store := &tardy{storetest.NewMem(), 14 * time.Second}
			g, b := newGuard(t, idempotency.Options{Store: store, Keep: keep}), newGuard(t, idempotency.Options{Store: store, Keep: keep})
			if _, err := g.Do(t.Context(), call("k"), nil); status.FateOf(err) != status.NotSent {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Second)
			if s := g.Snapshot(); s.DroppedReleases != 0 || s.Late != 0 {
				t.Errorf("kept for %v: %d wait, %d are said to be dropped", keep, s.Late, s.DroppedReleases)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if rep, err := b.Do(ctx, call("k"), func(context.Context) (any, error) { return "free", nil }); err != nil || text(t, rep) != `"free"` {
				t.Errorf("kept for %v: another node has %v, %v", keep, rep, err)
			}
		})
	}
}

// heap is how many bytes are in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestWhatWaitsIsBounded: answers that wait for a store which takes nothing have as much room as the window, and no more, however many they are. Of those for which
// there is none other nodes hear, when it is back, that the calls have ended; none runs again.
func TestWhatWaitsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, size, room = 40, 1<<20 - 100, 8 << 20
		store := &picky{Mem: storetest.NewMem()}
		a, b := newGuard(t, idempotency.Options{Store: store, MaxBytes: room}), newGuard(t, idempotency.Options{Store: store})
		store.away.Store(true)
		before := heap()
		for i := range n {
			do(t, a, fmt.Sprint(i), strings.Repeat("x", size))
		}
		grown := heap() - before
		if late := a.Snapshot().Late; late != n {
			t.Fatalf("%d wait: the test does not test that", late)
		}
		if most := int64(room * 5 / 2); grown > most {
			t.Errorf("%d MiB of results take %d MiB, where the window and what waits have %d MiB each", n*size>>20, grown>>20, room>>20)
		}
		store.away.Store(false)
		time.Sleep(time.Minute)
		whole := 0
		for i := range n {
			_, err := asked(t, b, fmt.Sprint(i))
			if err == nil {
				whole++
			} else if status.CodeOf(err) != status.FailedPrecondition {
				t.Errorf("another node says of %d: %v", i, err)
			}
		}
		if most := room / size; whole < most-2 || whole > most {
			t.Errorf("%d answers came through, %d have room", whole, most)
		}
		store.away.Store(true)
		do(t, a, "later", strings.Repeat("y", size)) // what was stored has made room
		store.away.Store(false)
		time.Sleep(10 * time.Second)
		if _, err := asked(t, b, "later"); err != nil {
			t.Errorf("another node says %v", err)
		}
	})
}

// loses makes n calls, with the keys "0" to n-1, whose store goes away before they end.
func loses(t *testing.T, g *idempotency.Guard, store *gone, n int) {
	end, all := make(chan struct{}), sync.WaitGroup{}
	for i := range n {
		all.Go(func() {
			if _, err := g.Do(t.Context(), call(fmt.Sprint(i)), func(context.Context) (any, error) { <-end; return i, nil }); err != nil {
				t.Error(err)
			}
		})
	}
	synctest.Wait()
	store.away.Store(true)
	close(end)
	all.Wait()
}

// TestWhatIsOverIsDropped is a regression test: while the store took nothing only those were found to be over whose turn came, three in two seconds, so that thousands
// stayed for hours after the last of their keys had been forgotten.
func TestWhatIsOverIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &gone{Mem: storetest.NewMem()}
		g := newGuard(t, idempotency.Options{Store: store, Keep: time.Minute})
		const n = 500
		loses(t, g, store, n)
		time.Sleep(50 * time.Second)
		if s := g.Snapshot(); s.Late != n || s.DroppedResults != 0 {
			t.Errorf("before their time: %d wait, %d are dropped", s.Late, s.DroppedResults)
		}
		time.Sleep(20 * time.Second)
		if s := g.Snapshot(); s.Late != 0 || s.DroppedResults != n {
			t.Errorf("after it: %d wait, %d are dropped", s.Late, s.DroppedResults)
		}
	})
}

// TestWhatWaitsIsKeptOnce is a regression test: results for which the window had no room were kept twice while they waited for the store.
func TestWhatWaitsIsKeptOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // whose time stands still: none is offered again
		g := newGuard(t, idempotency.Options{Store: &picky{Mem: storetest.NewMem(), most: 1000}, MaxBytes: 1 << 20})
		const n, size = 32, 1 << 20
		before := heap()
		for i := range n {
			do(t, g, fmt.Sprint(i), make([]byte, size-100))
		}
		grown := heap() - before
		if late := g.Snapshot().Late; late != n {
			t.Fatalf("%d wait: the test does not test that", late)
		}
		if grown > 4*size {
			t.Errorf("%d MiB of results take %d MiB", n, grown>>20)
		}
	})
}

// TestKeysAreFreeAfterALongOutage: a store was away for longer than keys are kept. When it is back none of those keys may keep other nodes waiting, whether the
// answer is still known or not.
func TestKeysAreFreeAfterALongOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &gone{Mem: storetest.NewMem()}
		g := newGuard(t, idempotency.Options{Store: store, Keep: time.Minute})
		b := newGuard(t, idempotency.Options{Store: store, Keep: time.Minute})
		const n = 200
		loses(t, g, store, n)
		time.Sleep(70 * time.Second) // the outage
		store.away.Store(false)
		time.Sleep(time.Hour)
		stuck := 0
		for i := range n {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			_, err := b.Do(ctx, call(fmt.Sprint(i)), func(context.Context) (any, error) { return i, nil })
			if err != nil {
				stuck++
			}
			cancel()
		}
		if stuck > 0 {
			t.Errorf("an hour after the store is back %d of %d keys have another node wait for nothing", stuck, n)
		}
	})
}
