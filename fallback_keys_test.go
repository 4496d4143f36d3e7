package hull_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/idempotency/storetest"
	"github.com/hull-go/hull/status"
)

// TestKeysEndAtTheService is a regression test: a call that failed at a service which shares keys went on to its fallback, another service, that knows
// nothing of the key, and took effect twice.
func TestKeysEndAtTheService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		var ran atomic.Int64
		serve := func(err error) func(s *hull.Server) {
			return func(s *hull.Server) {
				hull.Handle(s, "p.P/Pay", func(context.Context, *payRequest) (*payReply, error) {
					ran.Add(1)
					return &payReply{}, err
				})
			}
		}
		w.Serve("pay", "a", serve(status.Errorf(status.Unavailable, "half done")), hull.WithIdempotency(idempotency.Options{Store: storetest.NewMem()}))
		w.Serve("pay2", "b", serve(nil))
		c := w.Client("caller", withDocument(t, "services: {pay: {fallback: {service: pay2}}}"))
		if _, err := hull.Call[payReply](t.Context(), c.To("pay"), "p.P/Pay", &payRequest{}, hull.IdempotencyKey("order-1")); status.CodeOf(err) != status.Unavailable || ran.Load() != 1 {
			t.Errorf("%v, and it ran %d times", err, ran.Load())
		}
		w.Node("a").Stop() // nothing is begun now
		if _, err := hull.Call[payReply](t.Context(), c.To("pay"), "p.P/Pay", &payRequest{}, hull.IdempotencyKey("order-2")); err != nil || ran.Load() != 2 {
			t.Errorf("%v, and it ran %d times", err, ran.Load())
		}
	})
}

// TestStaleAnswersWhoeverAsks is a regression test: a call that asked for its story, or for fewer attempts, did not find the answer that was kept.
func TestStaleAnswersWhoeverAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("shop", "a", func(s *hull.Server) {
			hull.Handle(s, "s.S/Price", func(context.Context, *payRequest) (*payReply, error) { return &payReply{7}, nil }, hull.SideEffectFree())
		})
		c := w.Client("caller", withDocument(t, "services: {shop: {fallback: {stale: 1h}}}")).To("shop")
		price := func(opts ...hull.CallOption) (*payReply, error) {
			return hull.Call[payReply](t.Context(), c, "s.S/Price", &payRequest{1}, opts...)
		}
		if _, err := price(); err != nil {
			t.Fatal(err)
		}
		w.Node("a").Kill()
		var story hull.CallInfo
		for name, opts := range map[string][]hull.CallOption{"plain": nil, "fewer attempts": {hull.MaxAttempts(1)}, "explained": {hull.Explained(&story)}} {
			if rep, err := price(opts...); err != nil || rep.Receipt != 7 {
				t.Errorf("%s: %v, %v", name, rep, err)
			}
		}
	})
}

// TestFallbacksAreRemembered is a regression test: what answered instead was not among what a client remembers of a failure.
func TestFallbacksAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		failing := func(s *hull.Server) {
			hull.Handle(s, "s.S/Price", func(context.Context, *payRequest) (*payReply, error) {
				return nil, status.Errorf(status.Internal, "bad")
			})
		}
		w.Serve("shop", "a", failing)
		w.Serve("cart", "b", failing)
		w.Serve("cart2", "c", func(s *hull.Server) {
			hull.Handle(s, "s.S/Price", func(context.Context, *payRequest) (*payReply, error) { return &payReply{}, nil }, hull.Idempotent())
		})
		c := w.Client("caller", withDocument(t, "services: {shop: {fallback: {answer: {Receipt: 7}}}, cart: {idempotent: true, fallback: {service: cart2}}}"))
		for service, want := range map[string]string{"shop": "answer", "cart": "service cart2"} {
			if _, err := hull.Call[payReply](t.Context(), c.To(service), "s.S/Price", &payRequest{}); err != nil {
				t.Fatal(err)
			}
			if got := c.Recent().Failures[0]; got.Service != service || got.Fallback != want {
				t.Errorf("%s: remembered with fallback %q, want %q", got.Service, got.Fallback, want)
			}
		}
	})
}
