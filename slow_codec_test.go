package hull_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/status"
)

// slowly is a request that takes its time to be encoded, and is small then.
type slowly struct{ D time.Duration }

func (s slowly) MarshalJSON() ([]byte, error) {
	time.Sleep(s.D)
	return []byte(`{"name":"ada"}`), nil
}

type leftReply struct{ Left time.Duration }

// TestSlowEncoding: what a small request's encoding takes is the call's time, and gone when it is sent.
func TestSlowEncoding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		runs := 0
		w.Serve("greeter", "a", func(s *hull.Server) {
			hull.Handle(s, "greeter.Greeter/Left", func(ctx context.Context, r *helloRequest) (*leftReply, error) {
				runs++
				at, _ := ctx.Deadline()
				return &leftReply{time.Until(at)}, nil
			})
		})
		to := w.Client("caller").To("greeter")
		ask := func(d, timeout time.Duration) (*leftReply, error) {
			return hull.Call[leftReply](t.Context(), to, "greeter.Greeter/Left", slowly{d}, hull.Timeout(timeout))
		}
		if _, err := ask(0, time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // the connection's clock does not begin with the call
		runs = 0
		if _, err := ask(150*time.Millisecond, 100*time.Millisecond); err == nil || status.FateOf(err) != status.NotSent {
			t.Errorf("encoded when its time was over: %v, fate %v", err, status.FateOf(err))
		}
		if runs != 0 {
			t.Errorf("%d handlers ran", runs)
		}
		for i := range 4 * 60 {
			r, err := ask(50*time.Millisecond, 500*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			if r.Left > 450*time.Millisecond {
				t.Fatalf("after %d calls the handler has %v, its caller 450ms at most", i, r.Left)
			}
			time.Sleep(time.Second)
		}
	})
}
