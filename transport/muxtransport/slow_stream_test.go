package muxtransport

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

// floodHandler sends messages of its size on streams, until they end.
type floodHandler struct{ size int }

func (floodHandler) Unary(context.Context, *transport.Incoming) transport.Outgoing {
	return transport.Outgoing{Codec: codec.Bytes{}, Message: []byte(nil)}
}

func (h floodHandler) Stream(_ context.Context, _ *transport.Incoming, s transport.ServerStream) transport.Outgoing {
	s.SetCodec(codec.Bytes{})
	b := make([]byte, h.size)
	for s.Send(&b) == nil {
		continue
	}
	return transport.Outgoing{}
}

// A reader that takes nothing, or little, keeps no more than its window, and neither does the sender for it; a stream beside it goes on.
func TestSlowStreamReader(t *testing.T) {
	for name, size := range map[string]int{"small messages": 100, "empty messages": 0, "messages larger than the window": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, floodHandler{size}, Options{}, memnet.Options{})
				defer r.stop()
				const window = 128 << 10
				c := r.dial(t, Options{StreamWindow: window, MaxMessage: 2 << 20})
				defer c.Close()
				open := func() *clientStream {
					s, err := c.Open(context.Background(), &transport.Request{Method: "m", Codec: codec.Bytes{}})
					if err != nil {
						t.Fatal(err)
					}
					return s.(*clientStream)
				}
				slow, quick := open(), open()
				var b []byte
				for i := range 200 {
					time.Sleep(time.Millisecond)
					// What the stream keeps, with what each message costs beside its content. Of a message that is larger than the window
					// all that is there is kept, because only the whole of it can be taken.
					c.mu.Lock()
					kept, partly := slow.in.cost+slow.taken, int64(len(slow.part.b))
					waiting := len(c.buf)
					c.mu.Unlock()
					if kept > window || partly > int64(max(size, window)) {
						t.Fatalf("look %d: a slow reader keeps %d bytes and a part of %d", i, kept, partly)
					}
					for _, sc := range r.server.all() {
						sc.mu.Lock()
						waiting = max(waiting, len(sc.buf))
						sc.mu.Unlock()
					}
					if waiting > pendingLimit+maxFrame {
						t.Fatalf("look %d: %d bytes wait to be sent", i, waiting)
					}
					if i%50 == 49 {
						if err := slow.Recv(&b); err != nil || len(b) != size {
							t.Fatalf("%d bytes, %v", len(b), err)
						}
					}
					if err := quick.Recv(&b); err != nil || len(b) != size {
						t.Fatalf("the other stream: %d bytes, %v", len(b), err)
					}
				}
			})
		})
	}
}
