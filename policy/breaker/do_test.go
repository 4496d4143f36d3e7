package breaker_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/status"
)

func pipeline(t *testing.T, o breaker.Options) (*policy.Pipeline, *breaker.Breaker) {
	t.Helper()
	b, err := breaker.New(o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := retry.New(retry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.New(policy.Options{Breaker: policy.Slot{Name: "breaker", Gate: b}, Retries: r})
	if err != nil {
		t.Fatal(err)
	}
	return p, b
}

var errDown = &status.Error{Code: status.Unavailable, Fate: status.Processed}

func fails(context.Context) (int, error) { return 0, errDown }

func works(context.Context) (int, error) { return 1, nil }

// From the first failure to normal service again, around a plain function.
func TestOutageAndRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, b := pipeline(t, breaker.Options{})
		for range 20 {
			if _, err := policy.Do(t.Context(), p, fails); !errors.Is(err, errDown) {
				t.Fatal(err)
			}
		}
		_, err := policy.Do(t.Context(), p, works)
		e := status.From(err)
		if e.Refusal == nil || e.Refusal.Policy != "breaker" || e.Refusal.State != "open" || e.Refusal.RetryAfter <= 0 || e.Fate != status.NotSent {
			t.Fatalf("%v, want a refusal that says when to come back", err)
		}
		time.Sleep(e.Refusal.RetryAfter)
		start := time.Now()
		for b.State(policy.Now()) != breaker.Closed {
			_, _ = policy.Do(t.Context(), p, works)
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(start); took > 1100*time.Millisecond {
			t.Errorf("closed %v after it worked again, want little more than the ramp", took)
		}
	})
}

// Panics count as failures, and neither they nor Goexit keep a probe.
func TestPanicAndGoexitOfAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, b := pipeline(t, breaker.Options{})
		panics := func() {
			defer func() { _ = recover() }()
			_, _ = policy.Do(t.Context(), p, func(context.Context) (int, error) { panic("no") })
		}
		exits := func() {
			var wg sync.WaitGroup
			wg.Go(func() {
				_, _ = policy.Do(t.Context(), p, func(context.Context) (int, error) { runtime.Goexit(); return 0, nil })
			})
			wg.Wait()
		}
		for range 20 {
			panics()
		}
		for _, probe := range []func(){panics, exits} {
			s := b.Snapshot(policy.Now())
			if s.State != breaker.Open {
				t.Fatalf("%+v, want open", s)
			}
			time.Sleep(time.Until(s.Until.Clock()))
			probe()
			if s := b.Snapshot(policy.Now()); s.ProbeOut {
				t.Errorf("%+v: the probe is lost", s)
			}
		}
	})
}

// A call that was admitted before the breaker opened does not go on retrying through it.
func TestNoRetryThroughAnOpenBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, b := pipeline(t, breaker.Options{})
		attempts := 0
		_, err := policy.Do(t.Context(), p, func(context.Context) (int, error) {
			attempts++
			b.ForceOpen(policy.Now())
			return 0, errDown
		}, policy.Call{Idempotent: true})
		if attempts != 1 || !errors.Is(err, errDown) {
			t.Errorf("%d attempts, %v", attempts, err)
		}
	})
}

// Callers that cancel say nothing about the dependency, however many they are.
func TestCancelsDoNotOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, b := pipeline(t, breaker.Options{})
		for range 100 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Millisecond, cancel)
			_, err := policy.Do(ctx, p, func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() })
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			cancel()
		}
		if s := b.Snapshot(policy.Now()); s.State != breaker.Closed || s.Calls != 0 {
			t.Errorf("%+v", s)
		}
	})
}
