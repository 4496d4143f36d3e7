package callctx

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
)

func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(policy.Now().Add(time.Second), nil)
		if at, ok := c.Deadline(); !ok || time.Until(at) != time.Second {
			t.Errorf("deadline %v, %v", at, ok)
		}
		if c.Err() != nil || c.asked.Load() != nil {
			t.Error("ended, or has a timer that nobody asked for")
		}
		before := runtime.NumGoroutine()
		child, cancel := context.WithCancel(c)
		defer cancel()
		if n := runtime.NumGoroutine(); n != before {
			t.Errorf("a derived context started %d goroutines", n-before)
		}
		ran := false
		context.AfterFunc(c, func() { ran = true })
		stop := context.AfterFunc(c, func() { t.Error("a stopped function ran") })
		if !stop() || stop() {
			t.Error("stop does not say whether it stopped the function")
		}
		began := time.Now()
		<-child.Done()
		<-c.Done()
		if took := time.Since(began); took != time.Second {
			t.Errorf("done after %v", took)
		}
		synctest.Wait()
		if !ran || !errors.Is(c.Err(), context.DeadlineExceeded) || !errors.Is(child.Err(), context.DeadlineExceeded) {
			t.Errorf("ran %v, %v, %v", ran, c.Err(), child.Err())
		}
		c.Cancel(context.Canceled) // too late to change why
		if !errors.Is(c.Err(), context.DeadlineExceeded) {
			t.Error(c.Err())
		}
	})
}

type valueKey struct{}

func TestContextCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(0, context.WithValue(context.Background(), valueKey{}, 5))
		if c.Value(valueKey{}) != 5 || new(Context).Value(1) != nil {
			t.Error("values are lost")
		}
		c.End()
		<-c.Done()
		if _, ok := c.Deadline(); ok || !errors.Is(c.Err(), context.Canceled) {
			t.Errorf("deadline %v, %v", ok, c.Err())
		}
		done := make(chan struct{})
		context.AfterFunc(c, func() { close(done) })
		<-done
		// A deadline that passed before anybody looked.
		late := New(policy.Now()-1, nil)
		<-late.Done()
		if !errors.Is(late.Err(), context.DeadlineExceeded) {
			t.Error(late.Err())
		}
	})
}

// Whoever asks while the context ends hears of it, and of one end only.
func TestAskedAsItEnds(t *testing.T) {
	other := errors.New("other")
	for i := range 2000 {
		c := New(0, nil)
		ends := [...]error{context.Canceled, other}
		var wg sync.WaitGroup
		wg.Go(c.End)
		wg.Go(func() { c.Cancel(other) })
		heard := make(chan struct{})
		wg.Go(func() { c.AfterFunc(func() { close(heard) }) })
		wg.Go(func() { <-c.Done() })
		if i%2 == 0 {
			wg.Go(func() { _ = c.Err() })
		}
		wg.Wait()
		<-heard
		err := c.Err()
		<-c.Done()
		if !errors.Is(err, ends[0]) && !errors.Is(err, ends[1]) || !errors.Is(c.Err(), err) {
			t.Fatalf("ended with %v, then with %v", err, c.Err())
		}
	}
}
