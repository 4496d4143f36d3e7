package muxtransport

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

func TestAge(t *testing.T) {
	start := policy.Time(1e18)
	const ms = time.Millisecond
	a := newAge(start.Add(200 * ms)) // the handshake was slow
	for i, step := range []struct{ sent, received, want time.Duration }{
		{1 * ms, 101 * ms, 0},                 // the quickest so far
		{2 * ms, 105 * ms, 3 * ms},            // 3 ms slower than the first
		{0, 106 * ms, 0},                      // does not say
		{10 * ms, 109 * ms, 0},                // the quickest so far
		{11 * ms, 111 * ms, 1 * ms},           // measured by that
		{20 * ms, 300_119 * ms, 300_000 * ms}, // a pause of five minutes
		{300_030 * ms, 300_129 * ms, 0},       // after it
		{361_000 * ms, 361_109 * ms, 10 * ms}, // another minute, by the one before
		{423_000 * ms, 423_110 * ms, 1 * ms},  // the quickest has been forgotten: the clocks may have drifted
	} {
		if got := a.of(step.sent, start.Add(step.received)); got != step.want {
			t.Errorf("step %d: age %v, want %v", i, got, step.want)
		}
	}
}

// A server that stood still starts nothing that its callers gave up meanwhile, and what they still wait for has only the
// time that is really left.
func TestNothingStartsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran atomic.Int32
		var left atomic.Int64
		r := newRig(t, funcHandler(func(_ context.Context, in *transport.Incoming) transport.Outgoing {
			ran.Add(1)
			left.Store(int64(in.Deadline.Sub(in.Received)))
			return transport.Outgoing{Codec: codec.Bytes{}, Message: []byte(nil)}
		}), Options{}, memnet.Options{})
		defer r.stop()
		// A client that vanishes does not cancel what it sent, so that only its age can tell.
		c := r.dial(t, Options{KeepaliveTimeout: time.Minute})
		defer c.Close()
		if _, err := unary(c, "m", nil, time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		r.net.Link("client", "server").Drop(true)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, err := unary(c, "m", nil, time.Second); err == nil || err.Code != status.DeadlineExceeded {
					t.Error(err)
				}
			})
		}
		var patient *status.Error
		wg.Go(func() { _, patient = unary(c, "m", nil, 10*time.Second) })
		time.Sleep(5 * time.Second)
		r.net.Link("client", "server").Drop(false)
		wg.Wait()
		if ran.Load() != 2 || r.server.Counters().Expired != 10 {
			t.Errorf("%d handlers ran, want 2: %+v", ran.Load(), r.server.Counters())
		}
		if d := time.Duration(left.Load()); patient != nil || d > 5*time.Second || d < 4900*time.Millisecond {
			t.Errorf("the call that waits 10 s: %v; its handler saw %v left after 5 s", patient, d)
		}
	})
}
