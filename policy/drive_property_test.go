package policy_test

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

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/status"
)

// permits is a gate that counts permits, for tests with goroutines.
type permits struct{ out atomic.Int64 }

func (g *permits) Admit(policy.Time, rand.Source, *policy.Call) policy.Verdict {
	g.out.Add(1)
	return policy.Verdict{}
}
func (g *permits) Done(policy.Time, rand.Source, policy.Permit, policy.Outcome) { g.out.Add(-1) }

// stories counts what an observer is told.
type stories struct{ n atomic.Int64 }

func (s *stories) Call(policy.Time, *policy.Call, *policy.Story) { s.n.Add(1) }

// opener is a Runner made of a function.
type opener func(ctx context.Context, a policy.Attempt) error

func (o opener) Run(ctx context.Context, a policy.Attempt) error { return o(ctx, a) }

// TestExecutorsKeepTheirPromises runs functions that do anything that a function may do through all executors, whose pipelines
// share a bulkhead with a line, while callers give up at any moment. The bubble fails if a goroutine is left.
func TestExecutorsKeepTheirPromises(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		limit := must(concurrency.New(concurrency.Options{Limit: 12, Queue: 12, MaxWait: 15 * ms}))
		budget := must(retry.NewBudget(retry.BudgetOptions{Capacity: 100_000}))
		brk, seen := &permits{}, &stories{}
		var pipes []*policy.Pipeline
		for i := range 3 {
			o := policy.Options{Key: fmt.Sprint(i), Retries: must(retry.New(retry.Options{Attempts: 4, Base: ms})), Budget: budget, Observer: seen,
				Breaker:     policy.Slot{Name: "breaker", Gate: brk},
				Concurrency: policy.Slot{Name: "concurrency", Gate: limit}, Timeouts: fixed(20 * ms)}
			if i > 0 {
				o.Hedging = delay(4 * ms)
			}
			if i == 2 { // waits at the call's level too
				o.Concurrency = policy.Slot{}
				o.Gates = []policy.Slot{{Name: "bulkhead", Gate: limit}}
			}
			pipes = append(pipes, mustNew(t, o))
		}
		const calls = 1500
		var wg sync.WaitGroup
		r := rand.New(rand.NewPCG(seed, 3))
		for id := range calls {
			seed := r.Uint64()
			wg.Go(func() { oneCall(t, pipes, id, seed) })
			if r.IntN(2) == 0 {
				time.Sleep(time.Duration(r.IntN(4)) * ms)
			}
		}
		wg.Wait()
		time.Sleep(time.Minute) // whoever was abandoned ends
		synctest.Wait()
		if n := limit.Snapshot(); n.InUse != 0 || n.Waiting != 0 {
			t.Errorf("the bulkhead is left with %d in use and %d waiting", n.InUse, n.Waiting)
		}
		if n := brk.out.Load(); n != 0 {
			t.Errorf("%d permits of the breaker are still out", n)
		}
		var total policy.Snapshot
		for _, p := range pipes {
			n := p.Snapshot()
			total.Calls += n.Calls
			total.Abandoned += n.Abandoned
			total.Attempts += n.Attempts
			total.Hedges += n.Hedges
			total.Retries += n.Retries
			total.Refused += n.Refused
		}
		if total.Calls != calls || total.Abandoned != 0 || seen.n.Load() != calls {
			t.Errorf("%d calls, %d abandoned, %d stories; want %d, 0, %d", total.Calls, total.Abandoned, seen.n.Load(), calls, calls)
		}
		t.Logf("%+v, %+v", total, limit.Snapshot())
	})
}

// oneCall makes one call with a random executor, function and caller.
func oneCall(t *testing.T, pipes []*policy.Pipeline, id int, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 4))
	p := pipes[r.IntN(len(pipes))]
	c := policy.Call{Method: fmt.Sprint(id), SideEffectFree: r.IntN(2) == 0}
	c.Idempotent = c.SideEffectFree || r.IntN(2) == 0
	ctx := context.Background()
	var gone time.Time
	switch r.IntN(4) {
	case 0:
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.IntN(40))*ms)
		defer cancel()
	case 1:
		after := time.Duration(r.IntN(40)-1) * ms
		gone = time.Now().Add(max(after, 0))
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		if after < 0 {
			cancel()
		} else {
			stop := time.AfterFunc(after, cancel)
			defer stop.Stop()
		}
		defer cancel()
	}
	var mu sync.Mutex
	var ended time.Time
	var done []error // of executions that have ended
	began := 0
	fn := func(ctx context.Context) (int, error) {
		mu.Lock()
		if began++; began > 1 && !c.Idempotent && (len(done) < began-1 || status.FateOf(done[began-2]) != status.NotSent) {
			t.Errorf("call %d runs again though it is not idempotent", id)
		}
		if !ended.IsZero() && time.Now().After(ended) { // at the very moment another goroutine may not know it yet
			t.Errorf("call %d begins an attempt after its end", id)
		}
		if !gone.IsZero() && time.Now().After(gone) {
			t.Errorf("call %d begins an attempt after its caller was gone", id)
		}
		if d, ok := ctx.Deadline(); ok && !time.Now().Before(d) {
			t.Errorf("call %d begins an attempt at its deadline", id)
		}
		took, kind := time.Duration(r.IntN(15))*ms, r.IntN(24)
		mu.Unlock()
		var err error
		switch kind {
		case 0: // hangs, but listens
			<-ctx.Done()
			err = ctx.Err()
		case 1: // does not listen
			time.Sleep(50 * ms)
		default:
			select {
			case <-time.After(took):
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		switch kind {
		case 2:
			panic(id)
		case 3:
			runtime.Goexit()
		case 4, 5:
			err = errUnavailable
		case 6, 7, 8:
			err = errRefusedConn
		}
		mu.Lock()
		done = append(done, err)
		mu.Unlock()
		return id, err
	}
	over := make(chan struct{})
	go func() { // Goexit may end it
		defer close(over)
		defer func() {
			if v := recover(); v != nil && !strings.Contains(fmt.Sprint(v), fmt.Sprint(id)) {
				t.Errorf("call %d got another's panic: %v", id, v)
			}
			mu.Lock()
			ended = time.Now()
			mu.Unlock()
		}()
		var v int
		var err error
		switch r.IntN(4) {
		case 0:
			v, err = policy.Do(ctx, p, fn, c)
		case 1:
			v, err = policy.DoElse(ctx, p, fn, func(context.Context, error) (int, error) {
				if errors.Is(ctx.Err(), context.Canceled) {
					t.Errorf("call %d: a fallback for a caller that is gone", id)
				}
				return id, nil
			}, c)
		case 2:
			v, err = policy.Detach(ctx, p, fn, c)
		case 3:
			var o *policy.Opened
			if o, err = p.Open(ctx, c, opener(func(ctx context.Context, a policy.Attempt) error {
				ctx, cancel := context.WithDeadline(ctx, a.Deadline.Clock())
				defer cancel()
				_, err := fn(ctx)
				return err
			})); err == nil {
				v = id
				time.Sleep(time.Duration(id%7) * ms)
				o.End([]error{nil, errUnavailable, errCancelled}[id%3])
			}
		}
		if err == nil && v != id {
			t.Errorf("call %d got the value of %d", id, v)
		}
		mu.Lock()
		defer mu.Unlock()
		if status.FateOf(err) == status.NotSent {
			for _, e := range done {
				if status.FateOf(e) != status.NotSent {
					t.Errorf("call %d: %v says that nothing was sent, but an attempt ended with %v", id, err, e)
				}
			}
		}
	}()
	<-over
}
