package policy_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
)

// TestLosersContext: whenever it asks, an attempt that has lost learns that it has, and why; one that has won has a context like any
// other that has ended.
func TestLosersContext(t *testing.T) {
	for _, early := range []bool{false, true} { // whether it asks for Done before it has lost
		synctest.Test(t, func(t *testing.T) {
			p := mustNew(t, policy.Options{Retries: tries{2, 0}, Hedging: delay(10 * time.Millisecond)})
			var loser, winner, derived context.Context
			var stop context.CancelFunc
			var begun atomic.Int32
			v, err := policy.Do(t.Context(), p, func(ctx context.Context) (string, error) {
				if begun.Add(1) == 1 {
					loser = ctx //nolint:fatcontext // to look at it afterwards
					if early {
						<-ctx.Done()
					} else {
						time.Sleep(50 * time.Millisecond)
					}
					return "slow", ctx.Err()
				}
				winner = ctx
				derived, stop = context.WithCancel(ctx)
				time.Sleep(time.Millisecond)
				return "fast", nil
			}, policy.Call{SideEffectFree: true})
			if v != "fast" || err != nil {
				t.Fatal(v, err)
			}
			if !errors.Is(loser.Err(), context.Canceled) || !errors.Is(context.Cause(loser), policy.ErrLost) {
				t.Errorf("early %v: the loser's context: %v, because of %v", early, loser.Err(), context.Cause(loser))
			}
			<-loser.Done()
			<-winner.Done()
			<-derived.Done()
			stop()
			if !errors.Is(winner.Err(), context.Canceled) || errors.Is(context.Cause(winner), policy.ErrLost) {
				t.Errorf("early %v: the winner's context: %v, because of %v", early, winner.Err(), context.Cause(winner))
			}
		})
	}
}

// TestHedgedCallsFollowOneAnother: what calls use one after the other says nothing of the call before, however that ended.
func TestHedgedCallsFollowOneAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustNew(t, policy.Options{Retries: tries{2, 0}, Hedging: delay(10 * time.Millisecond)})
		var mu sync.Mutex
		var kept []context.Context
		for i := range 200 {
			ctx, cancel := context.WithCancel(t.Context())
			kind := i % 5
			v, err := policy.Do(ctx, p, func(c context.Context) (int, error) {
				mu.Lock()
				kept = append(kept, c)
				mu.Unlock()
				switch kind {
				case 1:
					return 0, errUnavailable
				case 2:
					time.AfterFunc(time.Millisecond, cancel)
					<-c.Done()
					return 0, c.Err()
				case 3:
					time.Sleep(9 * time.Millisecond)
				case 4:
					time.Sleep(15 * time.Millisecond) // two attempts
				}
				return i, nil
			}, policy.Call{SideEffectFree: true})
			ended := err == nil && v == i
			if kind == 1 || kind == 2 {
				ended = err != nil && errors.Is(err, context.Canceled) == (kind == 2)
			}
			if !ended {
				t.Fatalf("call %d of kind %d: %d, %v", i, kind, v, err)
			}
			cancel()
			time.Sleep(time.Second)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, c := range kept {
			if c.Err() == nil {
				t.Fatal("the context of a call that has ended has not")
			}
		}
		if s := p.Snapshot(); s.Calls != 200 || s.Abandoned != 0 || s.Hedges != 40 {
			t.Errorf("%+v", s)
		}
	})
}

func BenchmarkHedgedDo(b *testing.B) {
	p := mustNew(b, policy.Options{Retries: tries{2, 0}, Hedging: delay(time.Second)})
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := policy.Do(ctx, p, func(context.Context) (int, error) { return 1, nil }, policy.Call{SideEffectFree: true}); err != nil {
			b.Fatal(err)
		}
	}
}
