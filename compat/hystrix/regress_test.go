package hystrix

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
)

// Each test here is named after a bug of hystrix-go, and fails there.

// TestFlushLeavesNoGoroutine: each circuit of hystrix-go has two goroutines that outlive it. Here bubble fails if one is left.
func TestFlushLeavesNoGoroutine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for range 10 {
			own := collect(circuit(t, t.Name(), CommandConfig{}))
			times(t, 5, t.Name(), succeed, nil)
			Flush()
			synctest.Wait()
			if len(own.results) != 5 || len(own.resets) != 1 {
				t.Errorf("collector was told of %d commands and %d resets", len(own.results), len(own.resets))
			}
		}
	})
}

// TestTimeoutEndsTheContextOfRun, and not that of the fallback.
func TestTimeoutEndsTheContextOfRun(t *testing.T) {
	for _, background := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			parent := t.Context()
			if background {
				parent = context.Background()
			}
			circuit(t, t.Name(), CommandConfig{Timeout: 10})
			start := time.Now()
			var ran error
			err := DoC(parent, t.Name(), func(ctx context.Context) error {
				<-ctx.Done()
				ran = ctx.Err()
				if d := time.Since(start); d != 10*ms {
					t.Errorf("context ended after %v", d)
				}
				return nil
			}, func(ctx context.Context, err error) error {
				if ctx.Err() != nil {
					t.Errorf("the fallback's context has ended: %v", ctx.Err())
				}
				return err
			})
			synctest.Wait()
			if !errors.Is(err, ErrTimeout) || !exactly(ran, context.DeadlineExceeded) {
				t.Errorf("Do: %v, context: %v", err, ran)
			}
		})
	}
}

// TestLateSuccessDoesNotClose: what began before the circuit opened proves nothing.
func TestLateSuccessDoesNotClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := circuit(t, t.Name(), CommandConfig{RequestVolumeThreshold: 5, Timeout: 1000})
		before := time.Now()
		errs := Go(t.Name(), func() error { time.Sleep(100 * ms); return nil }, nil)
		time.Sleep(ms)
		times(t, 5, t.Name(), fail, errRun)
		if !c.IsOpen() {
			t.Fatal("not open")
		}
		time.Sleep(200 * ms)
		if len(errs) != 0 || counted(c)[success] != 1 {
			t.Fatal("the slow command did not succeed")
		}
		if !c.IsOpen() {
			t.Error("a success that began before closed the circuit")
		}
		if err := c.ReportEvent([]string{"success"}, before, time.Second); err != nil || !c.IsOpen() {
			t.Errorf("open %v, %v, after a late success was reported", c.IsOpen(), err)
		}
		if err := c.ReportEvent([]string{"success"}, time.Now(), time.Second); err != nil || c.IsOpen() {
			t.Errorf("open %v, %v, after a success that began later was reported", c.IsOpen(), err)
		}
	})
}

// TestLateFailuresDoNotOpen: what began before the circuit closed again is not held against what follows.
func TestLateFailuresDoNotOpen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := circuit(t, t.Name(), CommandConfig{RequestVolumeThreshold: 2, SleepWindow: 100, MaxConcurrentRequests: 100, Timeout: 10000})
		for range 10 {
			Go(t.Name(), func() error { time.Sleep(500 * ms); return errRun }, nil)
		}
		times(t, 2, t.Name(), fail, errRun)
		times(t, 1, t.Name(), fail, ErrCircuitOpen)
		time.Sleep(200 * ms)
		times(t, 1, t.Name(), succeed, nil)
		time.Sleep(time.Second)
		if n := counted(c); n[failure] != 10 || c.IsOpen() {
			t.Errorf("open %v after late failures; counted %v", c.IsOpen(), n)
		}
	})
}

// TestPlaceIsFreeWhenDoReturns: in hystrix-go the next command may be refused.
func TestPlaceIsFreeWhenDoReturns(t *testing.T) {
	Flush()
	defer Flush()
	c := circuit(t, t.Name(), CommandConfig{MaxConcurrentRequests: 1, ErrorPercentThreshold: 101, Timeout: 60_000})
	for i := range 2000 {
		run, want := succeed, error(nil)
		if i%2 == 1 {
			run, want = fail, errRun
		}
		if err := Do(t.Name(), run, nil); !exactly(err, want) {
			t.Fatalf("command %d: %v", i, err)
		}
		if n := counted(c); n[success]+n[failure] == 0 {
			t.Fatalf("command %d is not counted when Do returns: %v", i, n)
		}
	}
}

// TestPanicIsAnError: in hystrix-go it kills the process.
func TestPanicIsAnError(t *testing.T) {
	boom := errors.New("boom")
	bubble(t, func(t *testing.T) {
		l := logged(t)
		c := circuit(t, t.Name(), CommandConfig{Timeout: 100})
		explode := func() error { panic(boom) }
		check := func(err error) {
			t.Helper()
			p, ok := errors.AsType[*PanicError](err)
			if !ok || p.Value != any(boom) || !errors.Is(err, boom) || !strings.Contains(string(p.Stack), "TestPanicIsAnError") {
				t.Errorf("%#v", err)
			}
			if c.pool.active() != 0 {
				t.Error("its place is not given back")
			}
		}
		check(Do(t.Name(), explode, nil))
		check(<-Go(t.Name(), explode, nil))
		check(Do(t.Name(), fail, func(error) error { panic(boom) }))
		check(<-Go(t.Name(), fail, func(error) error { panic(boom) }))
		if err := Do(t.Name(), explode, recoverFrom); err != nil {
			t.Errorf("%v in spite of a fallback", err)
		}
		if err := Do(t.Name(), func() error { panic("no error") }, nil); err == nil || err.Error() != "hystrix: panic: no error" || errors.Unwrap(err) != nil {
			t.Error(err)
		}
		if n := counted(c); !maps.Equal(n, map[event]int64{failure: 6, fallbackFailure: 2, fallbackSuccess: 1}) {
			t.Error(n)
		}
		times(t, 1, t.Name(), func() error { time.Sleep(time.Second); panic(boom) }, ErrTimeout)
		time.Sleep(time.Second)
		l.want(t, "hystrix: a command of circuit %v panicked after it was given up: %v")
	})
}

// TestGoexit: in hystrix-go Do never returns, and the place is lost.
func TestGoexit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := circuit(t, t.Name(), CommandConfig{MaxConcurrentRequests: 1})
		leave := func() error { runtime.Goexit(); return nil }
		times(t, 1, t.Name(), leave, errGoexit)
		if err := <-Go(t.Name(), leave, nil); !exactly(err, errGoexit) {
			t.Error(err)
		}
		if err := <-Go(t.Name(), fail, func(error) error { runtime.Goexit(); return nil }); !errors.Is(err, errGoexit) || !errors.Is(err, errRun) {
			t.Error(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = Do(t.Name(), fail, func(error) error { runtime.Goexit(); return nil })
			t.Error("Do returned on a goroutine that its fallback ended")
		})
		wg.Wait()
		if n := counted(c); c.pool.active() != 0 || !maps.Equal(n, map[event]int64{failure: 4, fallbackFailure: 2}) {
			t.Errorf("counted %v, %d places taken", n, c.pool.active())
		}
	})
}

// TestCallersWhoGiveUpSayNothing: in hystrix-go they dilute the failures, and the circuit stays closed.
func TestCallersWhoGiveUpSayNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := circuit(t, t.Name(), CommandConfig{})
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		for range 100 {
			if err := DoC(gone, t.Name(), failC, nil); !exactly(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		if c.IsOpen() {
			t.Fatal("open although nothing is known")
		}
		times(t, 20, t.Name(), fail, errRun)
		if !c.IsOpen() {
			t.Errorf("closed after 20 failures of 20; counted %v", counted(c))
		}
		if e := c.commandEvent(policy.Now()); e.ErrorPercentage != 100 || e.RequestCount != 120 {
			t.Errorf("the dashboard shows %d%% of %d", e.ErrorPercentage, e.RequestCount)
		}
	})
}

// TestBothCausesCanBeUnwrapped: in hystrix-go they are text.
func TestBothCausesCanBeUnwrapped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := circuit(t, t.Name(), CommandConfig{})
		c.health.open(policy.Now(), 0)
		err := Do(t.Name(), succeed, failToo)
		var refused CircuitError
		if !errors.Is(err, errFallback) || !errors.Is(err, ErrCircuitOpen) || !errors.As(err, &refused) || refused.Message != "circuit open" {
			t.Errorf("%v", err)
		}
	})
}

// TestTimedOutIsNotFast: in hystrix-go a timeout counts as 0 ms of running.
func TestTimedOutIsNotFast(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := circuit(t, t.Name(), CommandConfig{Timeout: 300, RequestVolumeThreshold: 2})
		own := collect(c)
		times(t, 2, t.Name(), func() error { time.Sleep(time.Second); return nil }, ErrTimeout)
		times(t, 8, t.Name(), succeed, ErrCircuitOpen)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		e := c.commandEvent(policy.Now())
		if e.LatencyExecuteMean != 300 || e.LatencyTotalMean != 60 {
			t.Errorf("mean %d ms of running, %d ms in total; want 300 and 60", e.LatencyExecuteMean, e.LatencyTotalMean)
		}
		if r := own.results[0]; r.RunDuration != 300*ms || r.TotalDuration != 300*ms {
			t.Errorf("collector was told %+v", r)
		}
	})
}

// TestParallel: under load nothing is lost and nothing is left.
func TestParallel(t *testing.T) {
	Flush()
	defer Flush()
	c := circuit(t, t.Name(), CommandConfig{MaxConcurrentRequests: 8, ErrorPercentThreshold: 101, Timeout: 60_000})
	const workers, each = 8, 500
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				switch (w + i) % 4 {
				case 0:
					_ = Do(t.Name(), succeed, nil)
				case 1:
					_ = Do(t.Name(), fail, recoverFrom)
				case 2:
					if err := <-Go(t.Name(), fail, nil); !exactly(err, errRun) {
						t.Error(err)
					}
				case 3:
					ctx, cancel := context.WithCancel(t.Context())
					_ = DoC(ctx, t.Name(), func(ctx context.Context) error { cancel(); <-ctx.Done(); return ctx.Err() }, nil)
				}
				if i%50 == 0 {
					c.commandEvent(policy.Now())
					ConfigureCommand(t.Name(), CommandConfig{ErrorPercentThreshold: 101, Timeout: 60_000})
				}
			}
		})
	}
	wg.Wait()
	n := c.metrics.stats.Load().read(policy.Now())
	want := tally{success: workers * each / 4, failure: workers * each / 2, canceled: workers * each / 4, fallbackSuccess: workers * each / 4}
	if n != want {
		t.Errorf("counted %v, want %v", n, want)
	}
	if c.pool.active() != 0 {
		t.Errorf("%d places taken at the end", c.pool.active())
	}
}
