package muxtransport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

// echoStreams sends back what it gets on streams.
type echoStreams struct{ floodHandler }

func (echoStreams) Stream(_ context.Context, _ *transport.Incoming, s transport.ServerStream) transport.Outgoing {
	s.SetCodec(codec.Bytes{})
	var b []byte
	for s.Recv(&b) == nil {
		if err := s.Send(&b); err != nil {
			return transport.Outgoing{Status: err}
		}
	}
	return transport.Outgoing{}
}

// Messages of all sizes, those around the edges of pages and frames among them, come out in order and whole, on two streams at once,
// whether they are received at once or late. The windows end as they began.
func TestMessagesOfAllSizes(t *testing.T) {
	sizes := []int{0, 1, 100, 100, 100, ownPage - headerLen, ownPage - headerLen + 1, 5000, maxInline, maxInline + 1, sharedPage, partSize + 1, 200_000}
	for _, seed := range []uint64{1, 2, 3, 4} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, echoStreams{}, Options{}, memnet.Options{})
			defer r.stop()
			c := r.dial(t, Options{StreamWindow: minWindow})
			defer c.Close()
			done := make(chan struct{})
			for i := range uint64(2) {
				s, err := c.Open(context.Background(), &transport.Request{Method: "m", Codec: codec.Bytes{}})
				if err != nil {
					t.Fatal(err)
				}
				const messages = 500
				message := func(rnd *rand.Rand, n int) []byte {
					size := 100
					if rnd.IntN(4) == 0 {
						size = sizes[rnd.IntN(len(sizes))]
					}
					b := bytes.Repeat([]byte{byte(n)}, size)
					return b
				}
				go func() {
					rnd := rand.New(rand.NewPCG(seed, i))
					for n := range messages {
						b := message(rnd, n)
						if err := s.Send(&b); err != nil {
							t.Error(err)
							break
						}
					}
					_ = s.CloseSend()
					done <- struct{}{}
				}()
				go func() {
					rnd, pauses := rand.New(rand.NewPCG(seed, i)), rand.New(rand.NewPCG(seed, 9+i))
					var b []byte
					for n := range messages {
						if pauses.IntN(50) == 0 {
							time.Sleep(time.Millisecond)
						}
						if err := s.Recv(&b); err != nil {
							t.Errorf("message %d: %v", n, err)
							break
						}
						if want := message(rnd, n); !bytes.Equal(b, want) {
							t.Errorf("message %d has %d bytes in the place of %d, or other ones", n, len(b), len(want))
							break
						}
					}
					if err := s.Recv(&b); !errors.Is(err, io.EOF) {
						t.Errorf("after the last message: %v", err)
					}
					st := &s.(*clientStream).stream
					c.mu.Lock()
					if st.taken != 0 || st.in.n != 0 || st.in.cost != 0 || len(st.in.pages) > 0 {
						t.Errorf("left in an inbox: %+v, taken %d", st.in, st.taken)
					}
					c.mu.Unlock()
					done <- struct{}{}
				}()
			}
			for range 4 {
				<-done
			}
			synctest.Wait()
			windowWhole(t, c)
		})
	}
}

// A stream that is aborted while Recv holds messages of it gives the connection's window back once, and hands out no more of them.
func TestAbortWhileReceiving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, floodHandler{100}, Options{}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{})
		defer c.Close()
		ctx, cancel := context.WithCancel(context.Background())
		s, err := c.Open(ctx, &transport.Request{Method: "m", Codec: codec.Bytes{}})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the window is full
		var b []byte
		for range 3 {
			if err := s.Recv(&b); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		synctest.Wait()
		if e, ok := errors.AsType[*status.Error](s.Recv(&b)); !ok || e.Code != status.Canceled {
			t.Errorf("after the end of the context: %v", e)
		}
		synctest.Wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.recv.left+c.recv.credit != c.recv.size {
			t.Errorf("of the connection's window of %d, %d are left and %d to be given back", c.recv.size, c.recv.left, c.recv.credit)
		}
	})
}
