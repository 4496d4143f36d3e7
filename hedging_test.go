package hull_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/status"
)

// TestNoHedgeAfterNegativePushback: a node of a hedged call says that the call must not be tried again, or that the failure was further down; then no attempt follows.
func TestNoHedgeAfterNegativePushback(t *testing.T) {
	for name, answer := range map[string]*status.Error{
		"pushback":   {Code: status.Unavailable, Message: "never again", Pushback: -1},
		"downstream": {Code: status.Unavailable, Message: "below", Origin: status.Downstream},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				var begun atomic.Int64
				var armed atomic.Bool
				for _, host := range []string{"a", "b", "c"} {
					w.Serve("shop", host, func(s *hull.Server) {
						hull.Handle(s, "shop.S/Get", func(ctx context.Context, _ *payRequest) (*payReply, error) {
							if !armed.Load() {
								return &payReply{1}, nil
							}
							if begun.Add(1) == 1 {
								time.Sleep(70 * time.Millisecond)
								return nil, answer
							}
							time.Sleep(time.Second)
							return &payReply{1}, nil
						}, hull.SideEffectFree())
					})
				}
				c := w.Client("caller", withDocument(t, "services: {shop: {methods: {shop.S/Get: {retry: {attempts: 3}, hedge: {mode: on, delay: 50ms, hedges: 2, extra: 100%}}}}}"))
				for range 10 { // which pay for hedges
					if _, err := hull.Call[payReply](t.Context(), c.To("shop"), "shop.S/Get", &payRequest{}); err != nil {
						t.Fatal(err)
					}
				}
				armed.Store(true)
				var info hull.CallInfo
				_, err := hull.Call[payReply](t.Context(), c.To("shop"), "shop.S/Get", &payRequest{}, hull.Info(&info))
				for i, a := range info.Attempts {
					if i > 0 && a.Began >= info.Attempts[0].Began+info.Attempts[0].Took {
						t.Errorf("attempt %d began after a node had said that no other must follow: %v\n%v", i+1, err, &info)
					}
				}
			})
		})
	}
}

// TestNoHedgeToTheSameNode: a hedge goes to another node; where there is none there is no hedge.
func TestNoHedgeToTheSameNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("shop", "a", func(s *hull.Server) {
			hull.Handle(s, "shop.S/Get", func(ctx context.Context, _ *payRequest) (*payReply, error) {
				time.Sleep(200 * time.Millisecond)
				return &payReply{1}, nil
			}, hull.SideEffectFree())
		})
		c := w.Client("caller", withDocument(t, "services: {shop: {methods: {shop.S/Get: {hedge: {mode: on, delay: 50ms, extra: 100%}}}}}"))
		var info hull.CallInfo
		_, err := hull.Call[payReply](t.Context(), c.To("shop"), "shop.S/Get", &payRequest{}, hull.Info(&info))
		if len(info.Attempts) != 1 {
			t.Errorf("%v\n%v", err, &info)
		}
	})
}

// TestHedgedRequestThatDoesNotEncode: what is told of such a call is about that call.
func TestHedgedRequestThatDoesNotEncode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", greeter)
		c := w.Client("caller", hull.WithSpec(hedged(time.Millisecond)))
		for range 2 { // the second time with what is left of the first
			var info hull.CallInfo
			_, err := hull.Call[helloReply](t.Context(), c.To("greeter"), "greeter.Greeter/Hello", &struct{ C chan int }{}, hull.SideEffectFree(), hull.Info(&info))
			if err == nil || info.Service != "greeter" || info.Method != "greeter.Greeter/Hello" || info.Err == nil {
				t.Errorf("%v: told of %q, %q, %v", err, info.Service, info.Method, info.Err)
			}
		}
	})
}
