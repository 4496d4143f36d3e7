package load

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// run runs a generator for d of virtual time.
func run(t *testing.T, o Options, d time.Duration, during func(*Generator)) {
	t.Helper()
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.Run(ctx)
	}()
	if during != nil {
		during(g)
	}
	time.Sleep(d)
	cancel()
	<-done
}

// The rate does not fall when calls take long: that is what an open loop is.
func TestRateIsKept(t *testing.T) {
	for name, took := range map[string]time.Duration{"quick": 0, "slow": 3 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				var late atomic.Int64
				run(t, Options{Rate: 300, Call: func(_ context.Context, _ uint64, due time.Time) {
					if time.Since(due) > time.Millisecond {
						late.Add(1)
					}
					calls.Add(1)
					time.Sleep(took)
				}}, 10*time.Second-time.Microsecond, nil)
				if n := calls.Load(); n != 3000 {
					t.Errorf("%d calls in 10 s, want 3000", n)
				}
				if n := late.Load(); n > 0 {
					t.Errorf("%d calls began late", n)
				}
			})
		})
	}
}

func TestCallsBeyondTheLimitAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls, dropped atomic.Int64
		run(t, Options{
			Rate: 100, MaxInFlight: 50,
			Call: func(ctx context.Context, _ uint64, _ time.Time) {
				calls.Add(1)
				<-ctx.Done()
			},
			Drop: func(uint64) { dropped.Add(1) },
		}, time.Second-time.Microsecond, nil)
		if calls.Load() != 50 || dropped.Load() != 50 {
			t.Errorf("%d calls, %d dropped; want 50 and 50", calls.Load(), dropped.Load())
		}
	})
}

func TestSetRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		run(t, Options{Call: func(context.Context, uint64, time.Time) { calls.Add(1) }}, time.Second-time.Microsecond, func(g *Generator) {
			time.Sleep(time.Minute)
			if calls.Load() != 0 {
				t.Error("there are calls at rate 0")
			}
			for _, bad := range []float64{-1, MaxRate + 1} {
				if g.SetRate(bad) == nil {
					t.Errorf("rate %v is accepted", bad)
				}
			}
			if err := g.SetRate(10); err != nil || g.Rate() != 10 {
				t.Error(err)
			}
		})
		if n := calls.Load(); n != 10 {
			t.Errorf("%d calls in the second after SetRate(10)", n)
		}
	})
}

// A machine that slept does not make up for the calls of an hour.
func TestAfterAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		g, err := New(Options{Rate: 100, Call: func(context.Context, uint64, time.Time) { calls.Add(1) }, Drop: func(uint64) {}})
		if err != nil {
			t.Fatal(err)
		}
		first := true
		call := g.o.Call
		g.places = make(chan struct{}) // no place: Drop is called on Run's own goroutine
		g.o.Drop = func(n uint64) {
			if first {
				first = false
				time.Sleep(time.Hour)
			}
			call(t.Context(), n, time.Now())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour+time.Second-time.Microsecond)
		defer cancel()
		g.Run(ctx)
		if n := calls.Load(); n < 100 || n > 102 {
			t.Errorf("%d calls, want 101", n)
		}
	})
}

func TestCallIsRequired(t *testing.T) {
	if _, err := New(Options{Rate: 1}); err == nil {
		t.Error("a Generator without Call is made")
	}
}
