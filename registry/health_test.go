package registry_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
)

func TestFollow(t *testing.T) {
	for name, ill := range map[string]func(ctx context.Context) error{
		"says so": func(context.Context) error { return errors.New("the disk is full") },
		"panics":  func(context.Context) error { panic("the disk is gone") },
		"exits":   func(context.Context) error { runtime.Goexit(); return nil },
		"hangs":   func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"is deaf": func(context.Context) error { time.Sleep(20 * time.Second); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := memregistry.New()
				r := newRegistry(t, e, registry.Options{})
				defer r.Close()
				g, err := r.Register(t.Context(), node("a"))
				if err != nil {
					t.Fatal(err)
				}
				var isIll atomic.Bool
				var now, most atomic.Int64
				ended := make(chan error, 1)
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					ended <- g.Follow(ctx, registry.Health{Every: time.Second, Failures: 3, Check: func(ctx context.Context) error {
						defer now.Add(-1)
						most.Store(max(most.Load(), now.Add(1)))
						if isIll.Load() {
							return ill(ctx)
						}
						return nil
					}})
				}()
				listed := func(what string, want ...string) {
					t.Helper()
					if ids := watched(t, e); !slices.Equal(ids, want) {
						t.Errorf("%s: %v, want %v", what, ids, want)
					}
				}
				time.Sleep(time.Minute)
				listed("well", "a")
				isIll.Store(true)
				time.Sleep(1500 * time.Millisecond)
				listed("ill for a moment", "a")
				time.Sleep(10 * time.Second)
				listed("ill")
				isIll.Store(false)
				time.Sleep(25 * time.Second)
				listed("well again", "a")
				if n := most.Load(); n != 1 {
					t.Errorf("%d checks at once", n)
				}
				cancel()
				if err := <-ended; !errors.Is(err, context.Canceled) {
					t.Errorf("at the end: %v", err)
				}
				listed("when nobody asks any more", "a")
			})
		})
	}
}

// What is decided while the engine is down is made good, and the end of the registration is that of what follows it.
func TestFollowWhileTheEngineIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memregistry.New()
		r := newRegistry(t, e, registry.Options{})
		defer r.Close()
		g, err := r.Register(t.Context(), node("a"))
		if err != nil {
			t.Fatal(err)
		}
		var ill atomic.Bool
		ended := make(chan error, 1)
		go func() {
			ended <- g.Follow(t.Context(), registry.Health{Check: func(context.Context) error {
				if ill.Load() {
					return errors.New("ill")
				}
				return nil
			}})
		}()
		e.SetDown(true)
		ill.Store(true)
		time.Sleep(time.Minute)
		e.SetDown(false)
		time.Sleep(5 * time.Second)
		if ids := watched(t, e); len(ids) != 0 {
			t.Errorf("the withdrawal is not made good: %v", ids)
		}
		ill.Store(false)
		time.Sleep(10 * time.Second)
		if ids := watched(t, e); !slices.Equal(ids, []string{"a"}) {
			t.Errorf("well again: %v", ids)
		}
		if err := g.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, registry.ErrClosed) {
			t.Errorf("at the end: %v", err)
		}
	})
}

func TestFollowOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(t, memregistry.New(), registry.Options{})
		defer r.Close()
		g, err := r.Register(t.Context(), node("a"))
		if err != nil {
			t.Fatal(err)
		}
		check := func(context.Context) error { return nil }
		for _, h := range []registry.Health{{}, {Check: check, Every: -1}, {Check: check, Timeout: -1}, {Check: check, Failures: -1}} {
			if err := g.Follow(t.Context(), h); err == nil || errors.Is(err, context.Canceled) {
				t.Errorf("%+v: %v", h, err)
			}
		}
	})
}
