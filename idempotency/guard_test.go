package idempotency_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/idempotency/storetest"
	"github.com/hull-go/hull/status"
)

func newGuard(t *testing.T, o idempotency.Options) *idempotency.Guard {
	t.Helper()
	g, err := idempotency.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

func call(key string) idempotency.Call { return idempotency.Call{Key: key, Method: "shop/Pay"} }

// text is what an answer encodes to.
func text(t *testing.T, v any) string {
	t.Helper()
	b, err := codec.JSON{}.Append(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestDuplicatesGetTheFirstAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, idempotency.Options{})
		var starts atomic.Int32
		var wg sync.WaitGroup
		pay := func(context.Context) (any, error) {
			starts.Add(1)
			time.Sleep(time.Second)
			return map[string]int{"receipt": 7}, nil
		}
		for range 20 {
			wg.Go(func() {
				rep, err := g.Do(t.Context(), call("k"), pay)
				if err != nil || text(t, rep) != `{"receipt":7}` {
					t.Errorf("%v, %v", rep, err)
				}
			})
		}
		wg.Wait()
		rep, err := g.Do(t.Context(), call("k"), pay)
		if err != nil || text(t, rep) != `{"receipt":7}` || starts.Load() != 1 {
			t.Errorf("%v, %v, %d starts", rep, err, starts.Load())
		}
		if s := g.Snapshot(); s.Started != 1 || s.Waited != 19 || s.Replayed != 1 || s.Keys != 1 {
			t.Errorf("%+v", s)
		}
		other := call("k")
		other.Method = "shop/Refund"
		if _, err := g.Do(t.Context(), other, pay); err != nil || starts.Load() != 2 {
			t.Errorf("another method shares the key: %v", err)
		}
		time.Sleep(idempotency.DefaultKeep + time.Second)
		if _, err := g.Do(t.Context(), call("k"), pay); err != nil || starts.Load() != 3 {
			t.Errorf("the key was kept for too long: %v", err)
		}
		if s := g.Snapshot(); s.Keys != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestAnotherRequestIsRefused(t *testing.T) {
	g := newGuard(t, idempotency.Options{})
	c := call("k")
	if _, err := g.Do(t.Context(), c, func(context.Context) (any, error) { return 1, nil }); err != nil {
		t.Fatal(err)
	}
	c.Request[0] = 1
	_, err := g.Do(t.Context(), c, func(context.Context) (any, error) { t.Error("it ran"); return nil, nil })
	if status.CodeOf(err) != status.InvalidArgument || !idempotency.Reused(err) {
		t.Error(err)
	}
}

func TestErrorsAreKept(t *testing.T) {
	g := newGuard(t, idempotency.Options{})
	starts := 0
	for range 3 {
		_, err := g.Do(t.Context(), call("k"), func(context.Context) (any, error) {
			starts++
			return nil, fmt.Errorf("paying: %w", status.Errorf(status.FailedPrecondition, "no money"))
		})
		if status.CodeOf(err) != status.FailedPrecondition || !strings.Contains(err.Error(), "paying: ") || !strings.Contains(err.Error(), "no money") {
			t.Error(err)
		}
	}
	if starts != 1 {
		t.Errorf("%d starts", starts)
	}
}

func TestNothingDoneSetsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, idempotency.Options{})
		var starts atomic.Int32
		var wg sync.WaitGroup
		var failed atomic.Int32
		for range 5 {
			wg.Go(func() {
				rep, err := g.Do(t.Context(), call("k"), func(context.Context) (any, error) {
					time.Sleep(time.Second)
					if starts.Add(1) < 3 {
						return nil, &status.Error{Code: status.Unavailable, Fate: status.NotSent}
					}
					return "ok", nil
				})
				if err != nil {
					failed.Add(1)
				} else if text(t, rep) != `"ok"` {
					t.Errorf("%v", rep)
				}
			})
		}
		wg.Wait()
		if starts.Load() != 3 || failed.Load() != 2 {
			t.Errorf("%d starts, %d failed", starts.Load(), failed.Load())
		}
	})
}

func TestPanicsAndGoexitLeaveDoubt(t *testing.T) {
	for name, die := range map[string]func(){"panic": func() { panic("boom") }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGuard(t, idempotency.Options{})
				go func() {
					defer func() { _ = recover() }()
					_, _ = g.Do(t.Context(), call("k"), func(context.Context) (any, error) {
						time.Sleep(time.Second)
						die()
						return nil, nil
					})
				}()
				synctest.Wait()
				for range 2 { // one waits, one comes later
					_, err := g.Do(t.Context(), call("k"), func(context.Context) (any, error) { t.Error("it ran again"); return nil, nil })
					if !idempotency.InDoubt(err) || status.FateOf(err) != status.Processed {
						t.Error(err)
					}
				}
			})
		})
	}
}

func TestTheWindowRefusesWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, idempotency.Options{MaxBytes: 4000})
		ok := func(context.Context) (any, error) { return 1, nil }
		n := 0
		var err error
		for ; n < 100 && err == nil; n++ {
			_, err = g.Do(t.Context(), call(fmt.Sprint(n)), ok)
		}
		if e := status.From(err); n < 3 || n > 20 || e.Code != status.ResourceExhausted || e.Fate != status.NotSent || e.Pushback <= 0 {
			t.Errorf("after %d keys: %v", n, err)
		}
		if _, err := g.Do(t.Context(), call("0"), ok); err != nil {
			t.Errorf("a key was forgotten: %v", err)
		}
		if s := g.Snapshot(); s.Bytes > 4000 || s.Full != 1 {
			t.Errorf("%+v", s)
		}
		time.Sleep(idempotency.DefaultKeep)
		if _, err := g.Do(t.Context(), call("new"), ok); err != nil {
			t.Error(err)
		}
	})
}

// TestNoScopeFillsTheWindow is a regression test: one caller without a certificate could have everybody's new keys refused for ten minutes.
func TestNoScopeFillsTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type scope struct{}
		g := newGuard(t, idempotency.Options{MaxBytes: 100_000, Scope: func(ctx context.Context, _ string) string { s, _ := ctx.Value(scope{}).(string); return s }})
		fill := func(name string, answer int) (n int) {
			ctx := context.WithValue(t.Context(), scope{}, name)
			for ; n < 1000; n++ {
				_, err := g.Do(ctx, call(fmt.Sprint(n)), func(context.Context) (any, error) { return strings.Repeat("x", answer), nil })
				if status.CodeOf(err) == status.ResourceExhausted {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			return n
		}
		for range 2 { // the second time in what the first has left
			if greedy, other := fill("greedy", 1000), fill("other", 0); greedy < 40 || other < 10 {
				t.Errorf("the first has %d keys, and the next one %d", greedy, other)
			}
			if s := g.Snapshot(); s.Bytes > 100_000 || s.Bytes < 95_000 {
				t.Errorf("%+v", s)
			}
			time.Sleep(idempotency.DefaultKeep)
			if _, err := g.Do(t.Context(), call("new"), func(context.Context) (any, error) { return 1, nil }); err != nil || g.Snapshot().Keys != 1 {
				t.Errorf("%v, %+v", err, g.Snapshot())
			}
			time.Sleep(idempotency.DefaultKeep)
		}
	})
}

func TestLargeAnswersAreNotKept(t *testing.T) {
	g := newGuard(t, idempotency.Options{MaxResult: 10})
	run := func(context.Context) (any, error) { return strings.Repeat("x", 100), nil }
	if rep, err := g.Do(t.Context(), call("k"), run); err != nil || len(rep.(string)) != 100 {
		t.Fatal(rep, err)
	}
	if _, err := g.Do(t.Context(), call("k"), run); status.CodeOf(err) != status.FailedPrecondition || idempotency.InDoubt(err) {
		t.Error(err)
	}
}

// TestTheWorkOutlivesAnAttempt: the caller gives an attempt up and comes back, and finds its work done.
func TestTheWorkOutlivesAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, idempotency.Options{})
		starts := 0
		work := func(ctx context.Context) (any, error) {
			starts++
			select {
			case <-time.After(3 * time.Second):
				return "done", nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		first := make(chan error)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			rep, err := g.Do(ctx, call("k"), work)
			if err == nil && text(t, rep) != `"done"` {
				err = fmt.Errorf("%v", rep)
			}
			first <- err
		}()
		time.Sleep(1500 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		rep, err := g.Do(ctx, call("k"), work)
		if err != nil || text(t, rep) != `"done"` || starts != 1 || time.Since(began) != 1500*time.Millisecond {
			t.Errorf("%v, %v, %d starts, %v", rep, err, starts, time.Since(began))
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}

// TestWorkForNobodyEnds: when all callers have gone and none comes back, the handler is told, and what it leaves is in doubt.
func TestWorkForNobodyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, idempotency.Options{Linger: 2 * time.Second})
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() { // waits for a moment, and adds nothing
			time.Sleep(time.Millisecond) // the other one is first
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			if _, err := g.Do(ctx, call("k"), nil); status.CodeOf(err) != status.DeadlineExceeded {
				t.Error(err)
			}
		}()
		_, err := g.Do(ctx, call("k"), func(ctx context.Context) (any, error) {
			if d, ok := ctx.Deadline(); !ok || d.Sub(began) != 3*time.Second {
				t.Errorf("a deadline in %v, %v", d.Sub(began), ok)
			}
			<-ctx.Done()
			if time.Since(began) != 3*time.Second || !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				t.Errorf("ended after %v: %v", time.Since(began), context.Cause(ctx))
			}
			return nil, ctx.Err()
		})
		if err == nil {
			t.Error("no error")
		}
		if _, err := g.Do(t.Context(), call("k"), nil); !idempotency.InDoubt(err) {
			t.Error(err)
		}
	})
}

// TestWhatIsCalledBelowDoesNotLinger is a regression test: whatever a handler under a key called was given its caller's deadline and five seconds more, at each
// level of a tree.
func TestWhatIsCalledBelowDoesNotLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var deep func(ctx context.Context, level int) (any, error)
		deep = func(ctx context.Context, level int) (any, error) {
			g := newGuard(t, idempotency.Options{})
			return g.Do(ctx, call("k"), func(ctx context.Context) (any, error) {
				d, ok := ctx.Deadline()
				if most := 100 * time.Millisecond << level; !ok || d.Sub(began) > most {
					t.Errorf("level %d: what is called has until %v, want %v at most", level, d.Sub(began), most)
				}
				if level < 4 {
					return deep(ctx, level+1)
				}
				return "done", nil
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := deep(ctx, 1); err != nil {
			t.Fatal(err)
		}
		// Who comes back has its work not cut off, nor the time for it taken away.
		g := newGuard(t, idempotency.Options{})
		work := func(run context.Context) (any, error) {
			time.Sleep(150 * time.Millisecond)
			if d, _ := run.Deadline(); time.Until(d) < time.Second || run.Err() != nil {
				t.Errorf("%v are left, %v", time.Until(d), run.Err())
			}
			return "done", nil
		}
		short, cancelShort := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancelShort()
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			_, _ = g.Do(short, call("k"), work)
		}()
		time.Sleep(120 * time.Millisecond)
		long, cancelLong := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancelLong()
		if rep, err := g.Do(long, call("k"), work); err != nil || text(t, rep) != `"done"` {
			t.Error(rep, err)
		}
		<-gone
	})
}

// TestTimeThatRanOutIsNoAnswer: a handler whose time, or that of what it called, is over when nobody waits for it leaves its key in doubt.
func TestTimeThatRanOutIsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, waits := range []bool{true, false} {
			g := newGuard(t, idempotency.Options{})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := g.Do(ctx, call("k"), func(context.Context) (any, error) {
				if !waits {
					time.Sleep(1500 * time.Millisecond)
				}
				return nil, &status.Error{Code: status.DeadlineExceeded, Message: "below"}
			})
			cancel()
			if status.CodeOf(err) != status.DeadlineExceeded {
				t.Error(err)
			}
			if _, err := g.Do(t.Context(), call("k"), nil); idempotency.InDoubt(err) == waits {
				t.Errorf("somebody waits: %v, and later: %v", waits, err)
			}
		}
	})
}

func TestKeysAreChecked(t *testing.T) {
	g := newGuard(t, idempotency.Options{})
	for _, key := range []string{"", strings.Repeat("k", 256), "a\nb", "schlüssel", "\x00"} {
		if _, err := g.Do(t.Context(), call(key), nil); status.CodeOf(err) != status.InvalidArgument {
			t.Errorf("%q: %v", key, err)
		}
	}
	for _, o := range []idempotency.Options{{Keep: -1}, {MaxBytes: -1}, {Store: storetest.NewMem(), TTL: time.Millisecond}} {
		if _, err := idempotency.New(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

func TestUnary(t *testing.T) {
	g := newGuard(t, idempotency.Options{})
	info := &grpc.UnaryServerInfo{FullMethod: "/shop.Shop/Pay"}
	starts := 0
	pay := func(ctx context.Context, _ any) (any, error) {
		starts++
		if key, _, ok := idempotency.Current(ctx); ok != (starts != 1) || ok && !strings.HasSuffix(key, "\x00k") {
			t.Errorf("%q, %v", key, ok)
		}
		return durationpb.New(time.Duration(starts)), nil
	}
	do := func(req proto.Message, keys ...string) (time.Duration, error) {
		ctx := t.Context()
		if keys != nil {
			ctx = metadata.NewIncomingContext(ctx, metadata.MD{idempotency.Header: keys})
		}
		rep, err := g.Unary(ctx, req, info, pay)
		if err != nil {
			return 0, err
		}
		return rep.(*durationpb.Duration).AsDuration(), nil
	}
	req := durationpb.New(42)
	for i, want := range []struct {
		keys []string
		rep  time.Duration
	}{{nil, 1}, {[]string{"k"}, 2}, {[]string{"k"}, 2}, {[]string{`"k"`}, 2}, {[]string{"k", "k"}, 2}} {
		if rep, err := do(req, want.keys...); err != nil || rep != want.rep {
			t.Errorf("call %d: %v, %v", i, rep, err)
		}
	}
	// What it refuses is understood by grpc-go's server too.
	if _, err := do(req, "k", "l"); status.CodeOf(err) != status.InvalidArgument || grpcstatus.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
	if _, err := do(durationpb.New(43), "k"); !idempotency.Reused(err) || grpcstatus.Code(err) != codes.InvalidArgument || len(grpcstatus.Convert(err).Details()) != 1 {
		t.Error(err)
	}
}

// TestUnaryReplaysGRPCsErrors is a regression test: a failure that was an error of grpc-go's was Unknown for duplicates.
func TestUnaryReplaysGRPCsErrors(t *testing.T) {
	g := newGuard(t, idempotency.Options{})
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(idempotency.Header, "k"))
	for i := range 2 {
		_, err := g.Unary(ctx, durationpb.New(1), &grpc.UnaryServerInfo{FullMethod: "/shop.Shop/Pay"}, func(context.Context, any) (any, error) {
			return nil, grpcstatus.Error(codes.FailedPrecondition, "the till is closed")
		})
		if st, ok := grpcstatus.FromError(err); !ok || st.Code() != codes.FailedPrecondition || st.Message() != "the till is closed" {
			t.Errorf("call %d: %v", i+1, err)
		}
	}
}

// TestWhatWasNotSentBelowKeepsTheKey is a regression test: that a policy had refused what a handler called, or that it could not be sent, set the handler's own key free.
func TestWhatWasNotSentBelowKeepsTheKey(t *testing.T) {
	for name, below := range map[string]status.Error{
		"dial":       {Code: status.Unavailable, Kind: status.Dial},
		"shed":       {Code: status.ResourceExhausted, Kind: status.Shed},
		"refused":    {Code: status.Unavailable, Kind: status.Refused, Refusal: &status.Refusal{Policy: "breaker"}},
		"downstream": {Code: status.Unavailable, Origin: status.Downstream},
	} {
		g := newGuard(t, idempotency.Options{})
		starts := 0
		for range 2 {
			_, err := g.Do(t.Context(), call("k"), func(context.Context) (any, error) {
				starts++
				e := below
				e.Fate = status.NotSent
				return nil, fmt.Errorf("sending mail: %w", &e)
			})
			if status.CodeOf(err) != below.Code {
				t.Errorf("%s: %v", name, err)
			}
		}
		if starts != 1 {
			t.Errorf("%s: it ran %d times", name, starts)
		}
	}
}

func TestSharedStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMem()
		a, b := newGuard(t, idempotency.Options{Store: store}), newGuard(t, idempotency.Options{Store: store})
		go func() {
			_, _ = a.Do(t.Context(), call("k"), func(context.Context) (any, error) {
				time.Sleep(time.Second)
				return durationpb.New(7), nil
			})
		}()
		synctest.Wait()
		began := time.Now()
		rep, err := b.Do(t.Context(), call("k"), func(context.Context) (any, error) { t.Error("it ran on both"); return nil, nil })
		if err != nil || rep.(*durationpb.Duration).AsDuration() != 7 || time.Since(began) > 1500*time.Millisecond {
			t.Errorf("%v, %v after %v", rep, err, time.Since(began))
		}
		c := call("k")
		c.Request[0] = 1
		if _, err := newGuard(t, idempotency.Options{Store: store}).Do(t.Context(), c, nil); !idempotency.Reused(err) {
			t.Error(err)
		}
	})
}

// TestADeadProcessLeavesDoubt, which only a method that may run again gets out of.
func TestADeadProcessLeavesDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMem()
		dead := newGuard(t, idempotency.Options{Store: store})
		hang := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = dead.Do(t.Context(), call("k"), func(context.Context) (any, error) { <-hang; return "late", nil })
		})
		synctest.Wait()
		store.Die(store.Owner("shop/Pay\x00\x00k"))
		b := newGuard(t, idempotency.Options{Store: store})
		if _, err := b.Do(t.Context(), call("k"), nil); !idempotency.InDoubt(err) {
			t.Error(err)
		}
		again := newGuard(t, idempotency.Options{Store: store, Rerun: func(m string) bool { return m == "shop/Pay" }})
		rep, err := again.Do(t.Context(), call("k"), func(context.Context) (any, error) { return "again", nil })
		if err != nil || text(t, rep) != `"again"` {
			t.Errorf("%v, %v", rep, err)
		}
		close(hang) // it had only been stopped; its result comes too late
		wg.Wait()
		if rep, err := b.Do(t.Context(), call("k"), nil); err != nil || text(t, rep) != `"again"` {
			t.Errorf("%v, %v", rep, err)
		}
	})
}

func TestNothingRunsWithoutTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMem()
		g := newGuard(t, idempotency.Options{Store: store})
		store.Fail(1, rand.New(rand.NewPCG(1, 1)))
		for range 10 {
			_, err := g.Do(t.Context(), call("k"), func(context.Context) (any, error) { t.Error("it ran"); return nil, nil })
			if status.CodeOf(err) != status.Unavailable || status.FateOf(err) != status.NotSent {
				t.Error(err)
			}
		}
		store.Fail(0, nil)
		rep, err := g.Do(t.Context(), call("k"), func(context.Context) (any, error) { return 1, nil })
		if err != nil || text(t, rep) != "1" {
			t.Errorf("%v, %v", rep, err)
		}
		store.Fail(1, rand.New(rand.NewPCG(1, 2)))
		if rep, err := g.Do(t.Context(), call("k2"), nil); err == nil {
			t.Error(rep)
		}
	})
}

// TestAtMostOneStart: nodes that share a store which fails and forgets to answer, callers whose replies get lost and who try again on any node: no
// key starts twice, and all end alike.
func TestAtMostOneStart(t *testing.T) {
	keys := 20_000
	if testing.Short() || raceEnabled {
		keys = 2000
	}
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMem()
		store.Fail(0.2, rand.New(rand.NewPCG(7, 7)))
		nodes := make([]*idempotency.Guard, 3)
		for i := range nodes {
			nodes[i] = newGuard(t, idempotency.Options{Store: store})
		}
		starts := make([]atomic.Int32, keys)
		var wg sync.WaitGroup
		var gone atomic.Int32
		for w := range 50 {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(w), 1))
				for k := w; k < keys; k += 50 {
					c := call(fmt.Sprint(k))
					work := func(context.Context) (any, error) {
						starts[k].Add(1)
						time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond)
						return k, nil
					}
					answered := 0
					for try := 0; answered < 2; try++ {
						ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+rnd.IntN(2000))*time.Millisecond)
						rep, err := nodes[rnd.IntN(len(nodes))].Do(ctx, c, work)
						cancel()
						switch {
						case err == nil && rnd.IntN(3) == 0: // the reply is lost
						case err == nil:
							answered++
							if text(t, rep) != fmt.Sprint(k) {
								t.Errorf("key %d got %s", k, text(t, rep))
							}
						case status.CodeOf(err) == status.DeadlineExceeded:
							gone.Add(1)
						case status.CodeOf(err) != status.Unavailable || try > 100:
							t.Errorf("key %d: %v", k, err)
							return
						}
					}
				}
			})
		}
		wg.Wait()
		for k := range starts {
			if n := starts[k].Load(); n != 1 {
				t.Fatalf("key %d was started %d times", k, n)
			}
		}
		if gone.Load() == 0 {
			t.Error("no caller gave up: the test does not test that")
		}
		store.Fail(0, nil)
		time.Sleep(time.Minute)
		for _, g := range nodes {
			if s := g.Snapshot(); s.Late != 0 {
				t.Errorf("%+v", s)
			}
		}
	})
}

func BenchmarkWithoutKey(b *testing.B) {
	g, err := idempotency.New(idempotency.Options{})
	if err != nil {
		b.Fatal(err)
	}
	info := &grpc.UnaryServerInfo{FullMethod: "/shop.Shop/Pay"}
	handler := func(context.Context, any) (any, error) { return nil, nil }
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.Unary(b.Context(), nil, info, handler); err != nil {
			b.Fatal(err)
		}
	}
}
