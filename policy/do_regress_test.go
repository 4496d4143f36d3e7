package policy_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// TestFunctionsThatReturnTheCause: a function that returns context.Cause(ctx) when its context has ended means the same as one that
// returns ctx.Err().
func TestFunctionsThatReturnTheCause(t *testing.T) {
	errEnough := errors.New("enough")
	waits := func(ctx context.Context) (int, error) {
		<-ctx.Done()
		return 0, context.Cause(ctx)
	}
	t.Run("the attempt's time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			brk, n := &gate{}, 0
			p := mustNew(t, policy.Options{Retries: tries{2, 0}, Timeouts: fixed(20 * ms), Breaker: policy.Slot{Name: "breaker", Gate: brk}})
			v, err := policy.Do(t.Context(), p, func(ctx context.Context) (int, error) {
				if n++; n == 1 {
					return waits(ctx)
				}
				return 7, nil
			}, policy.Call{Idempotent: true})
			if v != 7 || err != nil {
				t.Errorf("%v, %v: want the second attempt's answer", v, err)
			}
			_, err = policy.Do(t.Context(), p, waits)
			if e := status.From(err); e.Kind != status.Timeout || !errors.Is(err, policy.ErrAttemptTimeout) {
				t.Errorf("%v of kind %v", err, e.Kind)
			}
		})
	})
	t.Run("the caller's end", func(t *testing.T) {
		for name, start := range map[string]func(context.Context) (context.Context, context.CancelFunc){
			"cancel": func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancelCause(ctx)
				stop := time.AfterFunc(20*ms, func() { cancel(errEnough) }).Stop
				return ctx, func() { stop() }
			},
			"deadline": func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeoutCause(ctx, 20*ms, errEnough)
			},
		} {
			synctest.Test(t, func(t *testing.T) {
				brk := &gate{}
				p := mustNew(t, policy.Options{Breaker: policy.Slot{Name: "breaker", Gate: brk}, Timeouts: fixed(time.Second)})
				ctx, cancel := start(t.Context())
				defer cancel()
				_, err := policy.Do(ctx, p, waits)
				if !errors.Is(err, errEnough) {
					t.Errorf("%s: %v", name, err)
				}
				if len(brk.outcomes) != 1 || brk.outcomes[0] != policy.Ignored {
					t.Errorf("%s: the breaker saw %v: the caller's own end is nobody's failure", name, brk.outcomes)
				}
			})
		}
	})
	t.Run("a hedge's loser", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			seen := &classes{}
			p := mustNew(t, policy.Options{Retries: tries{2, 0}, Hedging: delay(10 * ms), Timeouts: seen})
			n := make(chan int, 2)
			n <- 1
			n <- 2
			v, err := policy.Do(t.Context(), p, func(ctx context.Context) (int, error) {
				if k := <-n; k == 2 {
					return k, nil
				}
				return waits(ctx)
			}, policy.Call{Idempotent: true, SideEffectFree: true})
			synctest.Wait()
			if v != 2 || err != nil {
				t.Errorf("%v, %v", v, err)
			}
			if got := seen.sorted(); len(got) != 2 || got[0] != policy.ClassOK || got[1] != policy.ClassLoser {
				t.Errorf("classes %v: want ok and loser", got)
			}
		})
	})
}

// classes are Timeouts that give no time and note the classes of attempts.
type classes struct {
	fixed
	mu   sync.Mutex
	seen []policy.Class
}

func (c *classes) Done(_ policy.Time, e policy.Ended) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, e.Class)
}

func (c *classes) sorted() []policy.Class {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(slices.Values(c.seen))
}
