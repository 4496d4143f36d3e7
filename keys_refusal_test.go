package hull_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// brokenStore is one that cannot be reached.
type brokenStore struct{ idempotency.Store }

var errBrokenStore = errors.New("no route to the store")

func (brokenStore) Claim(context.Context, idempotency.Claim) (r idempotency.Record, err error) {
	return r, errBrokenStore
}
func (brokenStore) Release(context.Context, string, string) error { return errBrokenStore }

func (brokenStore) Alive(context.Context, string, time.Duration) error { return errBrokenStore }

// TestFullWindowSendsElsewhere is a regression test: that a key was refused because its node has no room for more was answered as if the call had been
// processed, and the call failed though another node had room.
func TestFullWindowSendsElsewhere(t *testing.T) {
	for protocol, dialer := range eachDialer() {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var shop till
				w := hulltest.New(t)
				w.Serve("shop", "small", shop.serve, hull.WithIdempotency(idempotency.Options{MaxBytes: 1}))
				w.Serve("shop", "large", shop.serve)
				d, err := dialer(w.Network.Host("caller").Dial)
				if err != nil {
					t.Fatal(err)
				}
				c := w.Client("caller", hull.WithDialer(d))
				elsewhere := 0
				for i := range 50 {
					var info hull.CallInfo
					_, err := pay(t.Context(), c, i, hull.IdempotencyKey(fmt.Sprint(i)), hull.Info(&info))
					if err != nil {
						t.Fatalf("%v, %+v", err, info.Attempts)
					}
					if elsewhere += len(info.Attempts) - 1; len(info.Attempts) > 1 && info.Attempts[0].Class != policy.ClassShed {
						t.Errorf("the first attempt was %v", info.Attempts[0].Class)
					}
				}
				if elsewhere == 0 || shop.count.Load() != 50 {
					t.Errorf("%d calls began elsewhere, %d payments", elsewhere, shop.count.Load())
				}
			})
		})
	}
}

// TestBrokenStoreHurtsKeysOnly is a regression test: refusals of calls with keys, for want of their store, opened the breaker of calls that have none.
func TestBrokenStoreHurtsKeysOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var shop till
		w := hulltest.New(t)
		w.Serve("shop", "a", shop.serve, hull.WithIdempotency(idempotency.Options{Store: brokenStore{}}))
		c := w.Client("caller", withDocument(t, "defaults: {throttle: {mode: off}}"))
		for i := range 60 {
			_, err := pay(t.Context(), c, i, hull.IdempotencyKey(fmt.Sprint(i)))
			if e := status.From(err); e == nil || e.Fate != status.NotSent || e.Kind != status.Shed {
				t.Fatalf("without a store: %v", err)
			}
		}
		for i := range 50 {
			if _, err := pay(t.Context(), c, i); err != nil {
				t.Fatalf("a call without a key: %v", err)
			}
		}
	})
}

// TestPanicsAreFailures is a regression test: a server did not count handlers that panicked or called Goexit among its failures.
func TestPanicsAreFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("shop", "a", func(s *hull.Server) {
			hull.Handle(s, "shop.Till/Panic", func(context.Context, *payRequest) (*payReply, error) { panic("out of paper") })
			hull.Handle(s, "shop.Till/Exit", func(context.Context, *payRequest) (*payReply, error) { runtime.Goexit(); return nil, nil })
		})
		c := w.Client("caller")
		for _, method := range []string{"Panic", "Exit"} {
			if _, err := hull.Call[payReply](t.Context(), c.To("shop"), "shop.Till/"+method, &payRequest{}); err == nil {
				t.Errorf("%s: no error", method)
			}
		}
		if s := n.Server.Snapshot(); s.Failures != 2 || s.InFlight != 0 {
			t.Errorf("%d failures, %d calls in flight", s.Failures, s.InFlight)
		}
	})
}

// TestEmptyKeyIsRefused is a regression test: a call whose key was empty by mistake was made without one.
func TestEmptyKeyIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var shop till
		w := hulltest.New(t)
		w.Serve("shop", "a", shop.serve)
		if _, err := pay(t.Context(), w.Client("caller"), 7, hull.IdempotencyKey("")); status.CodeOf(err) != status.InvalidArgument || shop.count.Load() != 0 {
			t.Errorf("%v, %d payments", err, shop.count.Load())
		}
	})
}

// TestKeysAreAskedOfTheSameProcess is a regression test: a node was replaced under its name and address while a call was under way, and when the old
// connection broke the call was made again to the new process, which had never heard of its key.
func TestKeysAreAskedOfTheSameProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		var ran atomic.Int64
		release := make(chan struct{})
		n := w.Serve("shop", "a", func(s *hull.Server) {
			hull.Handle(s, "shop.Till/Pay", func(context.Context, *payRequest) (*payReply, error) {
				if ran.Add(1) == 1 {
					<-release
				}
				return &payReply{}, nil
			})
		})
		c := w.Client("caller")
		done := make(chan error)
		go func() {
			_, err := pay(t.Context(), c, 7, hull.IdempotencyKey("one"), hull.Timeout(30*time.Second))
			done <- err
		}()
		time.Sleep(20 * time.Millisecond)
		w.Network.Pair("caller", "a").Drop(true) // the process ends and is not heard
		n.Kill()
		close(release)
		n.Restart()
		time.Sleep(500 * time.Millisecond)
		if _, err := pay(t.Context(), c, 8, hull.Select("zone=none")); err == nil { // any call has the client see what discovery says
			t.Error("a node of no zone was found")
		}
		w.Network.Pair("caller", "a").Drop(false)
		w.Network.Pair("caller", "a").Cut() // what the machine says to packets of the old connection
		if err := <-done; ran.Load() != 1 || status.FateOf(err) != status.Maybe {
			t.Errorf("it ran %d times: %v", ran.Load(), err)
		}
	})
}
