package concurrency_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/concurrency"
)

func pipeline(t testing.TB, o concurrency.Options) (*policy.Pipeline, *concurrency.Limiter) {
	t.Helper()
	l, err := concurrency.New(o)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.New(policy.Options{Concurrency: policy.Slot{Name: "concurrency", Gate: l}})
	if err != nil {
		t.Fatal(err)
	}
	return p, l
}

func wantEmpty(t *testing.T, l *concurrency.Limiter) {
	t.Helper()
	if s := l.Snapshot(); s.InUse != 0 || s.Waiting != 0 {
		t.Errorf("left behind: %+v", s)
	}
}

// One panic leaves failsafe-go's bulkhead full for good, one Goexit does the same to others.
func TestPanicAndGoexitGiveThePlaceBack(t *testing.T) {
	p, l := pipeline(t, concurrency.Options{Limit: 1})
	for range 3 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic is lost")
				}
			}()
			_, _ = policy.Do(t.Context(), p, func(context.Context) (int, error) { panic("no") })
		}()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = policy.Do(t.Context(), p, func(context.Context) (int, error) { runtime.Goexit(); return 0, nil })
		})
		wg.Wait()
	}
	wantEmpty(t, l)
	if _, err := policy.Do(t.Context(), p, func(context.Context) (int, error) { return 1, nil }); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// hystrix-go gives the place back at the timeout though the work goes on: 20 run at a limit of 2.
func TestThePlaceIsHeldUntilTheWorkEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := pipeline(t, concurrency.Options{Limit: 2})
		end := make(chan struct{})
		refused := 0
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := policy.Detach(ctx, p, func(context.Context) (int, error) { <-end; return 0, nil })
			cancel()
			if err == nil {
				t.Error("no error")
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				refused++
			}
		}
		if s := l.Snapshot(); s.InUse != 2 || refused != 18 {
			t.Errorf("%+v and %d refused while 2 hang, want 2 in use and 18 refused", s, refused)
		}
		close(end)
		synctest.Wait()
		wantEmpty(t, l)
	})
}

// Whoever gives up waiting takes nobody's place, and whoever is told does not lose it.
func TestWaitersThatGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := pipeline(t, concurrency.Options{Limit: 1, Queue: 10, MaxWait: time.Second})
		work := func(context.Context) (int, error) { time.Sleep(300 * time.Millisecond); return 0, nil }
		var wg sync.WaitGroup
		var mu sync.Mutex
		ok, failed := 0, 0
		for i := range 8 {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if i%2 == 1 {
					time.AfterFunc(time.Duration(50*i)*time.Millisecond, cancel)
				}
				_, err := policy.Do(ctx, p, work)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					failed++
				} else {
					ok++
				}
			})
		}
		wg.Wait()
		wantEmpty(t, l)
		if ok < 2 || ok+failed != 8 {
			t.Errorf("%d served, %d not", ok, failed)
		}
	})
}
