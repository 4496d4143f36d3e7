package muxtransport

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/internal/callctx"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

// What arrives late is looked at together with the cancels behind it: nothing starts that its caller has given up, although
// its deadline is far away, and what nobody has given up does start.
func TestCancelledMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran, streams atomic.Int32
		r := newRig(t, holdHandler{&ran, &streams}, Options{}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{KeepaliveTimeout: time.Minute})
		defer c.Close()
		if _, err := unary(c, "m", nil, time.Hour); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		// The server stands still: what the client says waits in between.
		r.net.Link("client", "server").Drop(true)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				if i%4 == 3 {
					s, err := c.Open(ctx, &transport.Request{Method: "s", Codec: codec.Bytes{}, PathAttempt: 1})
					if err == nil {
						_ = s.Recv(new([]byte))
					}
					return
				}
				size := 10
				if i%4 == 2 {
					size = 100 << 10 // in parts
				}
				var rep []byte
				err := c.Call(ctx, &transport.Request{Method: "m", Codec: codec.Bytes{}, Message: make([]byte, size),
					Deadline: policy.Now().Add(time.Hour), PathAttempt: 1}, &transport.Reply{Message: &rep})
				if err == nil || err.Code != status.Canceled {
					t.Errorf("call %d: %v", i, err)
				}
			})
		}
		patient := make(chan *status.Error, 1)
		go func() {
			_, err := unary(c, "m", nil, time.Hour)
			patient <- err
		}()
		time.Sleep(2 * time.Second)
		cancel()
		wg.Wait()
		r.net.Link("client", "server").Drop(false)
		if err := <-patient; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if ran.Load() != 2 || streams.Load() != 0 {
			t.Errorf("%d calls and %d streams ran; two calls had somebody waiting for them", ran.Load(), streams.Load())
		}
		if n := r.server.Counters(); n.Abandoned == 0 {
			t.Errorf("%+v", n)
		}
	})
}

type holdHandler struct{ ran, streams *atomic.Int32 }

func (h holdHandler) Unary(context.Context, *transport.Incoming) transport.Outgoing {
	h.ran.Add(1)
	return transport.Outgoing{Codec: codec.Bytes{}, Message: []byte(nil)}
}

func (h holdHandler) Stream(ctx context.Context, _ *transport.Incoming, s transport.ServerStream) transport.Outgoing {
	h.streams.Add(1)
	s.SetCodec(codec.Bytes{})
	<-ctx.Done()
	return transport.Outgoing{}
}

// Held calls start as soon as the client has answered a ping, or when something arrives that was not late, and at the latest
// after a while.
func TestHeldCallsStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran, streams atomic.Int32
		r := newRig(t, holdHandler{&ran, &streams}, Options{}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{KeepaliveTimeout: time.Hour})
		defer c.Close()
		if _, err := unary(c, "m", nil, time.Hour); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		link := r.net.Link("client", "server")
		link.Delay(80*time.Millisecond, 0)
		began := time.Now()
		if _, err := unary(c, "m", nil, time.Hour); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 80*time.Millisecond || took > 160*time.Millisecond {
			t.Errorf("a late call took %v; it should have waited for an answer to a ping", took)
		}
		// A connection that is never quiet, on which everything is late.
		var wg sync.WaitGroup
		var longest atomic.Int64
		for range 1000 {
			wg.Go(func() {
				began := time.Now()
				if _, err := unary(c, "m", nil, time.Hour); err != nil {
					t.Error(err)
				}
				for took := int64(time.Since(began)); ; {
					old := longest.Load()
					if took <= old || longest.CompareAndSwap(old, took) {
						break
					}
				}
			})
			time.Sleep(time.Millisecond / 2)
		}
		wg.Wait()
		if took := time.Duration(longest.Load()); took > 80*time.Millisecond+maxHeld+heldAgain {
			t.Errorf("the slowest call took %v", took)
		}
	})
}

// Calls that stood in the queue while the process stood still are looked at again before they start.
func TestQueueAfterStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran, streams atomic.Int32
		r := newRig(t, holdHandler{&ran, &streams}, Options{}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{})
		defer c.Close()
		if _, err := unary(c, "m", nil, time.Hour); err != nil {
			t.Fatal(err)
		}
		var sc *serverConn
		for _, sc = range r.server.all() {
		}
		// Two calls are in the queue, nobody is on the way to them yet, and the client has given one of them up.
		enqueue := func(id uint32) {
			ca := &serverCall{id: id, m: sc.methods[0], ctx: callctx.New(0, nil)}
			ca.in.Codec = "bytes"
			sc.mu.Lock()
			if err := sc.register(ca); err != nil {
				t.Error(err)
			}
			sc.running++
			sc.enqueue(ca, policy.Now())
			sc.mu.Unlock()
		}
		enqueue(7)
		enqueue(8)
		time.Sleep(time.Second)
		c.mu.Lock()
		before := len(c.buf)
		c.buf = appendFrame(c.buf, typeCancel, 7)
		c.added(before)
		c.mu.Unlock()
		go c.flush(false)
		go sc.work()
		time.Sleep(time.Second)
		if ran.Load() != 2 || r.server.Counters().Abandoned != 1 {
			t.Errorf("%d handlers ran, want 2: %+v", ran.Load(), r.server.Counters())
		}
	})
}
