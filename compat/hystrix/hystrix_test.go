package hystrix

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
)

func TestErrorStrings(t *testing.T) {
	for err, want := range map[error]string{
		ErrMaxConcurrency: "hystrix: max concurrency",
		ErrCircuitOpen:    "hystrix: circuit open",
		ErrTimeout:        "hystrix: timeout",
		&fallbackError{fallback: errFallback, run: errRun}: "fallback failed with 'fallback_error'. run error was 'run_error'",
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
}

// TestHowCommandsEnd: what Do and Go return, and what is counted, for each way to end.
func TestHowCommandsEnd(t *testing.T) {
	both := "fallback failed with 'fallback_error'. run error was 'run_error'"
	tests := []struct {
		name     string
		run      func(context.Context) error
		fallback fallbackFuncC
		refuse   func(c *CircuitBreaker)
		ctx      func(context.Context) (context.Context, context.CancelFunc)
		want     string
		counted  map[event]int64
	}{
		{name: "success", run: func(context.Context) error { return nil }, counted: map[event]int64{success: 1}},
		{name: "failure", run: failC, want: "run_error", counted: map[event]int64{failure: 1}},
		{name: "failure, fallback", run: failC, fallback: func(_ context.Context, err error) error {
			if !exactly(err, errRun) {
				return err
			}
			return nil
		}, counted: map[event]int64{failure: 1, fallbackSuccess: 1}},
		{name: "failure, failing fallback", run: failC, fallback: failTooC, want: both, counted: map[event]int64{failure: 1, fallbackFailure: 1}},
		{name: "timeout", run: hang, want: "hystrix: timeout", counted: map[event]int64{timeout: 1}},
		{name: "timeout, fallback", run: hang, fallback: func(_ context.Context, err error) error {
			if !exactly(err, ErrTimeout) {
				return err
			}
			return nil
		}, counted: map[event]int64{timeout: 1, fallbackSuccess: 1}},
		{name: "open", run: failC, refuse: func(c *CircuitBreaker) { c.health.open(policy.Now(), 0) },
			want: "hystrix: circuit open", counted: map[event]int64{shortCircuit: 1}},
		{name: "full", run: failC, refuse: func(c *CircuitBreaker) { c.pool.take(1) },
			want: "hystrix: max concurrency", counted: map[event]int64{rejected: 1}},
		{name: "full, fallback", run: failC, refuse: func(c *CircuitBreaker) { c.pool.take(1) },
			fallback: func(context.Context, error) error { return nil }, counted: map[event]int64{rejected: 1, fallbackSuccess: 1}},
		{name: "caller's deadline", run: hang, ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 5*ms)
		}, want: "context deadline exceeded", counted: map[event]int64{deadlineExceeded: 1}},
		{name: "caller cancels", run: hang, ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(5*ms, cancel)
			return ctx, cancel
		}, want: "context canceled", counted: map[event]int64{canceled: 1}},
		{name: "caller cancels, fallback", run: hang, fallback: func(context.Context, error) error { return nil },
			ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(ctx)
				time.AfterFunc(5*ms, cancel)
				return ctx, cancel
			}, counted: map[event]int64{canceled: 1, fallbackSuccess: 1}},
		{name: "caller is gone", run: failC, ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx, cancel
		}, want: "context canceled", counted: map[event]int64{canceled: 1}},
		{name: "passes a cancellation on", run: func(ctx context.Context) error {
			<-ctx.Done()
			return errors.Join(errors.New("query"), ctx.Err())
		}, ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(5*ms, cancel)
			return ctx, cancel
		}, want: "context canceled", counted: map[event]int64{canceled: 1}},
		{name: "own cancellation, wrapped", run: func(context.Context) error { return errors.Join(context.Canceled) },
			want: "context canceled", counted: map[event]int64{failure: 1}},
		{name: "own cancellation", run: func(context.Context) error { return context.Canceled },
			want: "context canceled", counted: map[event]int64{canceled: 1}},
	}
	for _, tt := range tests {
		for _, how := range []string{"Do", "Go"} {
			t.Run(tt.name+"/"+how, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					c := circuit(t, t.Name(), CommandConfig{Timeout: 10, MaxConcurrentRequests: 1})
					if tt.refuse != nil {
						tt.refuse(c)
					}
					ctx := t.Context()
					if tt.ctx != nil {
						var cancel context.CancelFunc
						ctx, cancel = tt.ctx(ctx)
						defer cancel()
					}
					var err error
					if how == "Do" {
						err = DoC(ctx, t.Name(), tt.run, tt.fallback)
					} else {
						errs := GoC(ctx, t.Name(), tt.run, tt.fallback)
						time.Sleep(20 * ms)
						select {
						case err = <-errs:
						default:
						}
					}
					got := ""
					if err != nil {
						got = err.Error()
					}
					if got != tt.want {
						t.Errorf("error %q, want %q", got, tt.want)
					}
					if n := counted(c); !maps.Equal(n, tt.counted) {
						t.Errorf("counted %v, want %v", n, tt.counted)
					}
					if tt.refuse == nil && c.pool.active() != 0 {
						t.Errorf("%d places taken at the end", c.pool.active())
					}
				})
			})
		}
	}
}

// hang takes a second, whatever its context says.
func hang(context.Context) error {
	time.Sleep(time.Second)
	return nil
}

// TestPlainFunctions: the variants without a context.
func TestPlainFunctions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := circuit(t, t.Name(), CommandConfig{})
		if err := Do(t.Name(), fail, recoverFrom); err != nil {
			t.Error(err)
		}
		if err := Do(t.Name(), fail, failToo); !errors.Is(err, errRun) || !errors.Is(err, errFallback) {
			t.Error(err)
		}
		out := make(chan int)
		errs := Go(t.Name(), func() error { out <- 1; return nil }, nil)
		if got := <-out; got != 1 {
			t.Error(got)
		}
		synctest.Wait()
		if len(errs) != 0 {
			t.Error("an error of a command that succeeded")
		}
		if err := <-Go(t.Name(), fail, nil); !exactly(err, errRun) {
			t.Error(err)
		}
		if n := counted(c); !maps.Equal(n, map[event]int64{success: 1, failure: 3, fallbackSuccess: 1, fallbackFailure: 1}) {
			t.Error(n)
		}
	})
}

// TestGoReturnsAtOnce also when the fallback of a refused command takes its time, which no timeout cuts short.
func TestGoReturnsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := circuit(t, t.Name(), CommandConfig{Timeout: 10})
		c.health.open(policy.Now(), 0)
		start := time.Now()
		calls := 0
		errs := Go(t.Name(), succeed, func(err error) error {
			calls++
			time.Sleep(100 * ms)
			return err
		})
		if d := time.Since(start); d != 0 {
			t.Errorf("Go took %v", d)
		}
		if err := <-errs; !errors.Is(err, ErrCircuitOpen) || time.Since(start) != 100*ms {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		time.Sleep(time.Second)
		if n := counted(c); calls != 1 || n[shortCircuit] != 1 || n[timeout] != 0 {
			t.Errorf("%d calls of the fallback, counted %v", calls, n)
		}
	})
}

// TestPlaceComesBackAtTheTimeout: kept as hystrix-go has it, although the function goes on.
func TestPlaceComesBackAtTheTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := circuit(t, t.Name(), CommandConfig{Timeout: 10, MaxConcurrentRequests: 1})
		never := make(chan struct{})
		err := <-Go(t.Name(), func() error { <-never; return errRun }, nil)
		if !exactly(err, ErrTimeout) || c.pool.active() != 0 {
			t.Errorf("%v, %d places taken", err, c.pool.active())
		}
		close(never)
		synctest.Wait()
		if n := counted(c); !maps.Equal(n, map[event]int64{timeout: 1}) {
			t.Errorf("counted %v: the late failure counts as well", n)
		}
	})
}

func TestMaxConcurrency(t *testing.T) {
	bubble(t, func(t *testing.T) {
		circuit(t, t.Name(), CommandConfig{MaxConcurrentRequests: 2})
		good, bad := 0, 0
		for range 3 {
			errs := Go(t.Name(), func() error { time.Sleep(500 * ms); return nil }, nil)
			synctest.Wait()
			select {
			case err := <-errs:
				if exactly(err, ErrMaxConcurrency) {
					bad++
				}
			default:
				good++
			}
		}
		if good != 2 || bad != 1 {
			t.Errorf("%d run, %d are refused", good, bad)
		}
		time.Sleep(time.Second)
	})
}

func TestSettings(t *testing.T) {
	Configure(map[string]CommandConfig{t.Name(): {Timeout: 30000}, t.Name() + "2": {MaxConcurrentRequests: 100,
		RequestVolumeThreshold: 30, SleepWindow: 7, ErrorPercentThreshold: 9}})
	all := GetCircuitSettings()
	if got, want := *all[t.Name()], (Settings{30 * time.Second, 10, 20, 5 * time.Second, 50}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got, want := *all[t.Name()+"2"], (Settings{time.Second, 100, 30, 7 * ms, 9}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if all[t.Name()] != GetCircuitSettings()[t.Name()] {
		t.Error("two readings, two settings")
	}
	var c CommandConfig
	err := json.Unmarshal([]byte(`{"timeout":1,"max_concurrent_requests":2,"request_volume_threshold":3,"sleep_window":4,"error_percent_threshold":5}`), &c)
	if want := (CommandConfig{1, 2, 3, 4, 5}); err != nil || c != want {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestSettingsOfUse: a command that was never configured gets the defaults of the moment, and shows up.
func TestSettingsOfUse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		old := DefaultTimeout
		DefaultTimeout = 77
		defer func() { DefaultTimeout = old }()
		times(t, 1, t.Name(), succeed, nil)
		if s := GetCircuitSettings()[t.Name()]; s == nil || s.Timeout != 77*ms {
			t.Errorf("%+v", s)
		}
	})
}

func TestImpossibleSettings(t *testing.T) {
	ConfigureCommand(t.Name(), CommandConfig{MaxConcurrentRequests: -1})
	if c, _, err := GetCircuit(t.Name()); err == nil || c != nil {
		t.Errorf("%v, %v", c, err)
	}
	if err := Do(t.Name(), succeed, nil); err == nil {
		t.Error("no error")
	}
	if err := <-Go(t.Name(), succeed, nil); err == nil {
		t.Error("no error")
	}
}

// TestReconfigure: settings of a circuit that exists count at once, and it keeps its state.
func TestReconfigure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := circuit(t, t.Name(), CommandConfig{})
		times(t, 19, t.Name(), fail, errRun)
		ConfigureCommand(t.Name(), CommandConfig{RequestVolumeThreshold: 19, SleepWindow: 100, Timeout: 5})
		if !c.IsOpen() {
			t.Fatal("closed with as many results as it needs now")
		}
		time.Sleep(101 * ms)
		start := time.Now()
		times(t, 1, t.Name(), func() error { time.Sleep(time.Second); return nil }, ErrTimeout)
		if d := time.Since(start); d != 5*ms || !c.IsOpen() {
			t.Errorf("timeout after %v", d)
		}
		time.Sleep(time.Second)
	})
}

func TestGetCircuit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := circuit(t, t.Name(), CommandConfig{})
		if b, created, err := GetCircuit(t.Name()); b != a || created || err != nil {
			t.Error(b, created, err)
		}
		Flush()
		if b, created, err := GetCircuit(t.Name()); b == a || !created || err != nil {
			t.Error(b, created, err)
		}
	})
}

// TestLogger: what hystrix-go logs, in its words.
func TestLogger(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := logged(t)
		circuit(t, t.Name(), CommandConfig{RequestVolumeThreshold: 1, SleepWindow: 100})
		times(t, 1, t.Name(), fail, errRun)
		times(t, 3, t.Name(), fail, ErrCircuitOpen)
		l.want(t, "hystrix-go: opening circuit %v")
		time.Sleep(101 * ms)
		times(t, 1, t.Name(), succeed, nil)
		l.want(t, "hystrix-go: allowing single test to possibly close circuit %v", "hystrix-go: closing circuit %v")
		SetLogger(nil)
		times(t, 2, t.Name(), succeed, nil)
		l.want(t)
	})
}
