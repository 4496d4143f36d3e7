package policy_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/policy/timeout"
	"github.com/hull-go/hull/status"
)

func TestDoRetriesOnTheCallersGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustNew(t, policy.Options{Retries: tries{3, 10 * ms}})
		n, start := 0, time.Now()
		v, err := policy.Do(t.Context(), p, func(context.Context) (int, error) {
			if n++; n < 3 {
				return 0, errUnavailable
			}
			return 42, nil
		}, policy.Call{Idempotent: true})
		if v != 42 || err != nil || n != 3 {
			t.Errorf("got %d, %v after %d attempts", v, err, n)
		}
		if d := time.Since(start); d != 20*ms {
			t.Errorf("took %v, want two waits of 10ms", d)
		}
	})
}

func TestDoEndsTheAttemptsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustNew(t, policy.Options{Timeouts: fixed(20 * ms)})
		start := time.Now()
		var kept context.Context
		_, err := policy.Do(t.Context(), p, func(ctx context.Context) (int, error) {
			kept = ctx //nolint:fatcontext // it is looked at afterwards
			if d, ok := ctx.Deadline(); !ok || d.Sub(start) != 20*ms {
				t.Errorf("deadline %v, %v", d.Sub(start), ok)
			}
			child, cancel := context.WithCancel(ctx)
			defer cancel()
			<-child.Done()
			if !errors.Is(context.Cause(child), policy.ErrAttemptTimeout) {
				t.Errorf("cause %v", context.Cause(child))
			}
			return 0, ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) || status.From(err).Kind != status.Timeout || time.Since(start) != 20*ms {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if kept.Err() == nil {
			t.Error("the attempt's context is alive after the attempt")
		}
	})
}

// TestPermitsComeBack: panic and Goexit give every permit back; then the same gates admit again.
func TestPermitsComeBack(t *testing.T) {
	ends := map[string]func(){"panic": func() { panic("boom") }, "goexit": runtime.Goexit}
	for name, end := range ends {
		for _, hedged := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				brk, limit, nodes := &gate{}, &gate{}, &places{nodes: []*place{{"a"}}}
				o := policy.Options{Breaker: policy.Slot{Name: "breaker", Gate: brk}, Concurrency: policy.Slot{Name: "concurrency", Gate: limit},
					Nodes: nodes, Retries: tries{3, ms}}
				if hedged {
					o.Hedging = delay(time.Second)
				}
				p := mustNew(t, o)
				var got any
				var wg sync.WaitGroup
				wg.Add(1)
				go func() {
					defer wg.Done()
					defer func() { got = recover() }()
					_, _ = policy.Do(t.Context(), p, func(context.Context) (int, error) { end(); return 0, nil }, policy.Call{Idempotent: true, SideEffectFree: hedged})
				}()
				wg.Wait()
				synctest.Wait()
				if name == "panic" && got != "boom" {
					t.Errorf("recovered %v, want the function's own panic", got)
				}
				if brk.taken() != 0 || limit.taken() != 0 || nodes.out != 0 {
					t.Errorf("%s, hedged %v: out are breaker %d, limit %d, nodes %d", name, hedged, brk.taken(), limit.taken(), nodes.out)
				}
				if len(brk.outcomes) != 1 || brk.outcomes[0] != policy.Failure {
					t.Errorf("%s: the breaker saw %v, want a failure", name, brk.outcomes)
				}
				if v, err := policy.Do(t.Context(), p, func(context.Context) (int, error) { return 7, nil }); v != 7 || err != nil {
					t.Errorf("afterwards: %d, %v", v, err)
				}
			})
		}
	}
}

func TestDoHedges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustNew(t, policy.Options{Retries: tries{3, 0}, Hedging: delay(10 * ms)})
		var n atomic.Int32
		start := time.Now()
		var cause error
		v, err := policy.Do(t.Context(), p, func(ctx context.Context) (int32, error) {
			k := n.Add(1)
			if k == 1 { // the first hangs until it is told that it lost
				<-ctx.Done()
				cause = context.Cause(ctx)
				return 0, ctx.Err()
			}
			time.Sleep(5 * ms)
			return k, nil
		}, policy.Call{Idempotent: true, SideEffectFree: true})
		if v != 2 || err != nil || time.Since(start) != 15*ms {
			t.Errorf("got %d, %v after %v; want 2 after 15ms", v, err, time.Since(start))
		}
		if !errors.Is(cause, policy.ErrLost) {
			t.Errorf("the loser's cause is %v", cause)
		}
		synctest.Wait()
		if s := p.Snapshot(); s.Abandoned != 0 || s.Hedges != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestPanicOfAHedge: a panic on a goroutine that the caller does not know must not end the process, but reach the caller.
func TestPanicOfAHedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustNew(t, policy.Options{Retries: tries{3, 0}, Hedging: delay(10 * ms)})
		var n atomic.Int32
		defer func() {
			if recover() == nil {
				t.Error("the panic was lost")
			}
		}()
		_, _ = policy.Do(t.Context(), p, func(ctx context.Context) (int, error) {
			if n.Add(1) > 1 {
				panic("boom")
			}
			<-ctx.Done()
			return 0, ctx.Err()
		}, policy.Call{Idempotent: true, SideEffectFree: true})
	})
}

func TestDetachReturnsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := &gate{}
		p := mustNew(t, policy.Options{Concurrency: policy.Slot{Name: "concurrency", Gate: limit}, Timeouts: fixed(20 * ms)})
		start := time.Now()
		_, err := policy.Detach(t.Context(), p, func(context.Context) (int, error) {
			time.Sleep(time.Second) // deaf
			return 1, nil
		})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 20*ms {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		synctest.Wait()
		if limit.taken() != 1 || p.Snapshot().Abandoned != 1 {
			t.Errorf("the place of work that goes on is free: out %d, abandoned %d", limit.taken(), p.Snapshot().Abandoned)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if limit.taken() != 0 || p.Snapshot().Abandoned != 0 {
			t.Errorf("afterwards: out %d, abandoned %d", limit.taken(), p.Snapshot().Abandoned)
		}
	})
}

func TestCancelDuringTheWaitForARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		brk := &gate{}
		p := mustNew(t, policy.Options{Breaker: policy.Slot{Name: "breaker", Gate: brk}, Retries: tries{3, time.Hour}})
		ctx, cancel := context.WithTimeout(t.Context(), 30*ms)
		defer cancel()
		ctx, stop := context.WithCancelCause(ctx)
		time.AfterFunc(10*ms, func() { stop(errors.New("enough")) })
		_, err := policy.Do(ctx, p, func(context.Context) (int, error) { return 0, errUnavailable }, policy.Call{Idempotent: true})
		if !errors.Is(err, errUnavailable) { // the wait would outlast the deadline, so there is none
			t.Errorf("%v", err)
		}
		_, err = policy.Do(ctx, p, func(context.Context) (int, error) { return 0, errUnavailable }, policy.Call{Idempotent: true, Deadline: policy.Now().Add(2 * time.Hour)})
		if err == nil || brk.taken() != 0 {
			t.Errorf("%v, %d permits out", err, brk.taken())
		}
	})
}

func TestDoElse(t *testing.T) {
	p := mustNew(t, policy.Options{})
	v, err := policy.DoElse(t.Context(), p, func(context.Context) (string, error) { return "", errUnavailable },
		func(_ context.Context, err error) (string, error) {
			return "stale after " + status.CodeOf(err).String(), nil
		})
	if v != "stale after Unavailable" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := policy.DoElse(ctx, p, func(ctx context.Context) (string, error) { return "", ctx.Err() },
		func(context.Context, error) (string, error) { return "unwanted", nil }); err == nil {
		t.Error("the fallback answered a caller who had gone")
	}
}

func BenchmarkDo(b *testing.B) {
	p := mustNew(b, policy.Options{Breaker: policy.Slot{Name: "breaker", Gate: nopGate{}}, Concurrency: policy.Slot{Name: "c", Gate: nopGate{}},
		Retries: tries{3, 0}, Timeouts: fixed(time.Second)})
	b.ReportAllocs()
	ctx := b.Context()
	f := func(context.Context) (int, error) { return 1, nil }
	for b.Loop() {
		if _, err := policy.Do(ctx, p, f); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkChain is the usual chain around a function that succeeds: retry, breaker, timeout, bulkhead.
func BenchmarkChain(b *testing.B) {
	p := mustNew(b, policy.Options{
		Breaker:     policy.Slot{Name: "breaker", Gate: must(breaker.New(breaker.Options{}))},
		Retries:     must(retry.New(retry.Options{})),
		Concurrency: policy.Slot{Name: "bulkhead", Gate: must(concurrency.New(concurrency.Options{Limit: 100}))},
		Timeouts:    must(timeout.New(timeout.Options{})),
	})
	f := func(context.Context) (int, error) { return 1, nil }
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		ctx := b.Context()
		for pb.Next() {
			if _, err := policy.Do(ctx, p, f); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func TestAdviceToStayAwayKeepsTheBreakerOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustNew(t, policy.Options{Breaker: policy.Slot{Name: "breaker", Gate: must(breaker.New(breaker.Options{Consecutive: 1, Open: time.Second}))}})
		down := &status.Error{Code: status.Unavailable, Pushback: 20 * time.Second}
		if _, err := policy.Do(t.Context(), p, func(context.Context) (int, error) { return 0, down }); !errors.Is(err, down) {
			t.Fatal(err)
		}
		_, err := policy.Do(t.Context(), p, func(context.Context) (int, error) { return 1, nil })
		if e := status.From(err); e.Refusal == nil || e.Refusal.Policy != "breaker" || e.Refusal.RetryAfter < 20*time.Second {
			t.Errorf("%v: want the breaker's refusal for 20 s", err)
		}
		time.Sleep(25 * time.Second)
		if _, err := policy.Do(t.Context(), p, func(context.Context) (int, error) { return 1, nil }); err != nil {
			t.Errorf("after the time: %v", err)
		}
	})
}
