package hystrix

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

type key struct{}

// TestContextOutlivesRun: what a function leaves behind under its context goes on when it has returned, and ends with the caller's.
func TestContextOutlivesRun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		circuit(t, t.Name(), CommandConfig{Timeout: 10})
		parent, cancel := context.WithCancelCause(context.WithValue(t.Context(), key{}, "value"))
		derive := func(ctx context.Context) context.Context {
			ctx, cancel := context.WithCancel(ctx)
			t.Cleanup(cancel)
			return ctx
		}
		var kept, child, grandchild, late context.Context
		var done <-chan struct{}
		called := make(chan struct{})
		err := DoC(parent, t.Name(), func(ctx context.Context) error {
			kept, done = ctx, ctx.Done() //nolint:fatcontext // what becomes of it later is the question
			child = derive(ctx)
			grandchild = derive(context.WithValue(ctx, key{}, "own"))
			context.AfterFunc(ctx, func() { close(called) })
			stopped := context.AfterFunc(ctx, func() { t.Error("called although it was stopped") })
			if !stopped() || stopped() {
				t.Error("want stop to say true once")
			}
			return nil
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		late = derive(kept)
		stop := context.AfterFunc(child, func() { t.Error("called although it was stopped") })
		time.Sleep(time.Second)
		all := []context.Context{kept, child, grandchild, late}
		for i, ctx := range all {
			if ctx.Err() != nil {
				t.Errorf("context %d ended when the function returned: %v", i, ctx.Err())
			}
		}
		if _, ok := kept.Deadline(); ok || kept.Value(key{}) != "value" {
			t.Error("it has a deadline of its own, or not its parent's values")
		}
		if !stop() {
			t.Error("stop came too late")
		}
		cancel(errRun)
		synctest.Wait()
		for i, ctx := range all {
			if !exactly(ctx.Err(), context.Canceled) || !exactly(context.Cause(ctx), errRun) {
				t.Errorf("context %d: %v, because of %v", i, ctx.Err(), context.Cause(ctx))
			}
		}
		<-done
		<-called
		if kept.Done() != done {
			t.Error("Done gives another channel now")
		}
	})
}

// TestContextEndsWithTheCommand: at its timeout, everything that was derived ends.
func TestContextEndsWithTheCommand(t *testing.T) {
	bubble(t, func(t *testing.T) {
		circuit(t, t.Name(), CommandConfig{Timeout: 10})
		var all []context.Context
		called := make(chan struct{})
		err := <-GoC(t.Context(), t.Name(), func(ctx context.Context) error {
			child, cancel := context.WithCancel(ctx)
			defer cancel()
			all = append(all, ctx, child)
			context.AfterFunc(ctx, func() { close(called) })
			<-child.Done()
			if !exactly(child.Err(), context.DeadlineExceeded) {
				t.Errorf("child: %v", child.Err())
			}
			late, cancelLate := context.WithCancel(ctx)
			defer cancelLate()
			all = append(all, late)
			return nil
		}, nil)
		<-called
		synctest.Wait()
		if !exactly(err, ErrTimeout) {
			t.Error(err)
		}
		for i, ctx := range all {
			if !exactly(ctx.Err(), context.DeadlineExceeded) || !exactly(context.Cause(ctx), context.DeadlineExceeded) {
				t.Errorf("context %d: %v, because of %v", i, ctx.Err(), context.Cause(ctx))
			}
			<-ctx.Done()
		}
	})
}

// TestCallersEndReachesRun while it runs, at the same time for Err and Done.
func TestCallersEndReachesRun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		circuit(t, t.Name(), CommandConfig{})
		for _, wait := range []bool{false, true} {
			parent, cancel := context.WithCancelCause(t.Context())
			errs := GoC(parent, t.Name(), func(ctx context.Context) error {
				if wait {
					<-ctx.Done()
				} else {
					done := ctx.Done()
					cancel(errRun)
					if ctx.Err() == nil {
						t.Error("does not know that its caller has given up")
					}
					<-done
				}
				if !exactly(ctx.Err(), context.Canceled) || !exactly(context.Cause(ctx), errRun) {
					t.Errorf("%v, because of %v", ctx.Err(), context.Cause(ctx))
				}
				return ctx.Err()
			}, nil)
			synctest.Wait()
			cancel(errRun)
			if err := <-errs; !exactly(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
}

// watched is a context that counts what waits for its end.
type watched struct {
	context.Context
	mu      sync.Mutex
	waiting int
}

// Value hides the context below, else what waits would wait there.
func (w *watched) Value(any) any { return nil }

func (w *watched) AfterFunc(f func()) func() bool {
	w.add(1)
	stop := context.AfterFunc(w.Context, f)
	return func() bool {
		if stop() {
			w.add(-1)
			return true
		}
		return false
	}
}

func (w *watched) add(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting += n
}

func (w *watched) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.waiting
}

// TestNothingStaysWithACallerWhoStays: a caller's context that never ends does not remember each command.
func TestNothingStaysWithACallerWhoStays(t *testing.T) {
	Flush()
	defer Flush()
	circuit(t, t.Name(), CommandConfig{Timeout: 60_000, MaxConcurrentRequests: 100})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := &watched{Context: ctx}
	dones := make(chan (<-chan struct{}), 100)
	for i := range cap(dones) {
		run := func(ctx context.Context) error {
			dones <- ctx.Done()
			child, cancel := context.WithCancel(ctx)
			defer cancel()
			return child.Err()
		}
		if i%2 == 0 {
			if err := DoC(w, t.Name(), run, nil); err != nil {
				t.Fatal(err)
			}
		} else if errs := GoC(w, t.Name(), run, func(context.Context, error) error { return nil }); len(errs) > 0 {
			t.Fatal(<-errs)
		}
	}
	var last <-chan struct{}
	for range 1000 {
		runtime.GC()
		runtime.Gosched()
		if last == nil && len(dones) == cap(dones) {
			for range cap(dones) {
				last = <-dones
			}
		}
		select {
		case <-last: // who holds only the channel learns that nobody works under that context any more
			if w.count() == 0 {
				return
			}
		default:
		}
	}
	t.Errorf("%d of 100 commands are still remembered", w.count())
}

// TestNothingStaysAfterATimeout, although the function goes on.
func TestNothingStaysAfterATimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		circuit(t, t.Name(), CommandConfig{Timeout: 10})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := &watched{Context: ctx}
		errs := GoC(w, t.Name(), hang, nil)
		if n := w.count(); n != 1 {
			t.Errorf("%d wait for the caller, want the command", n)
		}
		if err := <-errs; !exactly(err, ErrTimeout) || w.count() != 0 {
			t.Errorf("%v, and %d still wait for the caller", err, w.count())
		}
	})
}

// TestNotBegunAfterItsEnd: a command that was given up before its goroutine came to run does not begin.
func TestNotBegunAfterItsEnd(t *testing.T) {
	cmd := &command{run: func() error { t.Error("it begins"); return nil }}
	cmd.decide()
	cmd.work()
}
