package rate_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/rate"
	"github.com/hull-go/hull/status"
)

func pipeline(t testing.TB, o rate.Options, gates ...policy.Slot) (*policy.Pipeline, *rate.Limiter) {
	t.Helper()
	l, err := rate.New(o)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.New(policy.Options{Rate: policy.Slot{Name: "rate", Gate: l}, Gates: gates})
	if err != nil {
		t.Fatal(err)
	}
	return p, l
}

func nothing(context.Context) (int, error) { return 0, nil }

// Calls leave evenly, and one that cannot go before its deadline takes nobody's turn.
func TestCallsWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := pipeline(t, rate.Options{Limit: 10, Shape: rate.LeakyBucket, MaxWait: time.Second})
		begin := time.Now()
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				if _, err := policy.Do(t.Context(), p, nothing); err != nil {
					t.Errorf("call %d: %v", i, err)
				}
			})
		}
		synctest.Wait()
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			_, err := policy.Do(ctx, p, nothing)
			cancel()
			if err == nil {
				t.Error("a call goes before its turn")
			}
		}
		wg.Wait()
		if took := time.Since(begin); took != 400*time.Millisecond {
			t.Errorf("five calls took %v, want 400ms", took)
		}
		if s := l.Snapshot(); s.Delayed != 7 || s.Returned != 3 {
			t.Errorf("%+v", s)
		}
	})
}

// Who gives up waiting leaves the turn to the next.
func TestCancelledWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := pipeline(t, rate.Options{Limit: 1, MaxWait: time.Second})
		_, _ = policy.Do(t.Context(), p, nothing)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		if _, err := policy.Do(ctx, p, nothing); status.CodeOf(err) != status.Canceled {
			t.Errorf("%v, want a cancellation", err)
		}
		begin := time.Now()
		if _, err := policy.Do(t.Context(), p, nothing); err != nil || time.Since(begin) != 900*time.Millisecond {
			t.Errorf("%v after %v, want the turn that was given back", err, time.Since(begin))
		}
		if s := l.Snapshot(); s.Returned != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// closed refuses everything.
type closed struct{}

func (closed) Admit(policy.Time, rand.Source, *policy.Call) policy.Verdict {
	return policy.Verdict{Decision: policy.Refuse, State: "closed", Reason: "it is closed"}
}
func (closed) Done(policy.Time, rand.Source, policy.Permit, policy.Outcome) {}

// What a later gate refuses does not use up the limit.
func TestRefusedFurtherOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := pipeline(t, rate.Options{Limit: 2}, policy.Slot{Name: "closed", Gate: closed{}})
		for range 10 {
			if _, err := policy.Do(t.Context(), p, nothing); status.From(err).Refusal.Policy != "closed" {
				t.Errorf("%v", err)
			}
		}
		if n := l.Left(policy.Now(), nil); n != 2 {
			t.Errorf("%d left of 2", n)
		}
	})
}

func TestRefusalSaysWhenToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := pipeline(t, rate.Options{Limit: 60, Per: time.Minute, Burst: 1})
		_, _ = policy.Do(t.Context(), p, nothing)
		time.Sleep(400 * time.Millisecond)
		_, err := policy.Do(t.Context(), p, nothing)
		e := status.From(err)
		if e.Code != status.ResourceExhausted || e.Refusal == nil || e.Refusal.RetryAfter != 600*time.Millisecond {
			t.Fatalf("%v %+v", err, e.Refusal)
		}
		time.Sleep(e.Refusal.RetryAfter)
		if _, err := policy.Do(t.Context(), p, nothing); err != nil {
			t.Error(err)
		}
	})
}

// A panic uses up what it was given, no more.
func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := pipeline(t, rate.Options{Limit: 2})
		func() {
			defer func() { _ = recover() }()
			_, _ = policy.Do(t.Context(), p, func(context.Context) (int, error) { panic("no") })
		}()
		if n := l.Left(policy.Now(), nil); n != 1 {
			t.Errorf("%d left of 2", n)
		}
	})
}
