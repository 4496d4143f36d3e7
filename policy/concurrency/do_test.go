package concurrency_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/status"
)

// fixed is a source of one's own.
type fixed int

func (f fixed) Limit(policy.Time) int                { return int(f) }
func (fixed) Sample(policy.Time, concurrency.Sample) {}
func (fixed) Refused(policy.Time)                    {}

// Around plain functions: who makes room for a more important call is told so, and all come out.
func TestClassesAroundFunctions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := pipeline(t, concurrency.Options{Source: fixed(1), Queue: 2, MaxWait: time.Second})
		work := func(context.Context) (int, error) { time.Sleep(10 * time.Millisecond); return 0, nil }
		var wg sync.WaitGroup
		var mu sync.Mutex
		var order []policy.Criticality
		begin := func(c policy.Criticality, want bool) {
			wg.Go(func() {
				_, err := policy.Do(t.Context(), p, work, policy.Call{Criticality: c})
				if (err == nil) != want {
					t.Errorf("%v: %v", c, err)
				}
				if err != nil {
					if r := status.From(err).Refusal; r == nil || r.Policy != "concurrency" || r.State != "full" {
						t.Errorf("%v: refused as %+v", c, r)
					}
					return
				}
				mu.Lock()
				order = append(order, c)
				mu.Unlock()
			})
			synctest.Wait()
		}
		begin(policy.Critical, true)
		begin(policy.Sheddable, false)
		begin(policy.SheddablePlus, true)
		begin(policy.CriticalPlus, true)
		wg.Wait()
		wantEmpty(t, l)
		if want := []policy.Criticality{policy.Critical, policy.CriticalPlus, policy.SheddablePlus}; !slices.Equal(order, want) {
			t.Errorf("served in the order %v, want %v", order, want)
		}
	})
}
