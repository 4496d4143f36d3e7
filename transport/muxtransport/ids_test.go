package muxtransport

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

// A stream that comes after 65,535 calls in the same place has an id of its own: with 0, what gives back its window would be the connection's, and
// the stream stand still.
func TestStreamAfterManyCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, drainHandler{}, Options{}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{})
		defer c.Close()
		for range 1<<16 - 1 {
			if _, err := unary(c, "a.B/C", nil, 0); err != nil {
				t.Fatal(err)
			}
		}
		s, err := c.Open(t.Context(), &transport.Request{Method: "a.B/S", Codec: codec.Bytes{}, Deadline: policy.Now().Add(time.Minute), PathAttempt: 1})
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 64<<10)
		for range 10 {
			if err := s.Send(&b); err != nil {
				t.Fatalf("on stream %#x: %v", s.(*clientStream).ca.id, err)
			}
			if err := s.Recv(new([]byte)); err != nil {
				t.Fatalf("on stream %#x: %v", s.(*clientStream).ca.id, err)
			}
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if err := s.Recv(new([]byte)); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
}
