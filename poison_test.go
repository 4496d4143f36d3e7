package hull_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/status"
)

// TestNoNodeIsBlamedForARequest: a request that fails on every node it reaches, again and again, has no node avoided that serves all others.
func TestNoNodeIsBlamedForARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		for _, name := range []string{"a", "b", "c", "d"} {
			w.Serve("greeter", name, func(s *hull.Server) {
				hull.Handle(s, "greeter.Greeter/Find", func(_ context.Context, r *helloRequest) (*helloReply, error) {
					if r.Name == "death" {
						return nil, status.Errorf(status.Unavailable, "out of memory")
					}
					return &helloReply{Text: r.Name}, nil
				}, hull.Idempotent())
				greeter(s)
			})
		}
		c := w.Client("caller")
		to := c.To("greeter")
		attempts := 0
		for range 40 {
			var info hull.CallInfo
			if _, err := hull.Call[helloReply](t.Context(), to, "greeter.Greeter/Find", &helloRequest{Name: "death"}, hull.Info(&info)); err == nil {
				t.Fatal("it has an answer")
			}
			attempts += len(info.Attempts)
			for _, n := range to.Explain() {
				if n.State != balance.Ready {
					t.Fatalf("after %d attempts: %v", attempts, n)
				}
			}
			time.Sleep(time.Second)
		}
		if attempts < 60 {
			t.Errorf("%d attempts: nothing was tested", attempts)
		}
		var l load
		l.run(t, c, 100, time.Second)
		l.allOK(t, "the other method")
	})
}
