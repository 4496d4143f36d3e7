package muxtransport

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

// TestOwnStall: a process that stood still past its calls' deadlines first reads the answers that are there, and does not
// blame the node for those that are not.
func TestOwnStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, funcHandler(func(_ context.Context, in *transport.Incoming) transport.Outgoing {
			if in.Method == "late" {
				time.Sleep(time.Minute)
			}
			return transport.Outgoing{Codec: codec.Bytes{}, Message: []byte(nil)}
		}), Options{}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{})
		defer c.Close()
		r.net.Link("server", "client").Delay(100*time.Millisecond, 0)
		answered, late := make(chan *status.Error, 1), make(chan *status.Error, 1)
		go func() {
			_, err := unary(c, "quick", nil, time.Second)
			answered <- err
		}()
		go func() {
			_, err := unary(c, "late", nil, time.Second)
			late <- err
		}()
		synctest.Wait()
		// The timer goes off 30 s late: the answer is on its way to the reader, but has not been read.
		c.endLate(policy.Now().Add(30 * time.Second))
		if err := <-answered; err != nil {
			t.Errorf("the answer was there, and yet: %v", err)
		}
		if err := <-late; err == nil || err.Kind != status.Stalled || err.Code != status.DeadlineExceeded {
			t.Errorf("%v, want kind stalled", err)
		}
	})
}
