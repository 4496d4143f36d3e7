package muxtransport

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

// fewHandler sends n messages of a stream and ends it.
type fewHandler struct {
	floodHandler
	n int
}

func (h fewHandler) Stream(_ context.Context, _ *transport.Incoming, s transport.ServerStream) transport.Outgoing {
	s.SetCodec(codec.Bytes{})
	b := make([]byte, h.size)
	for range h.n {
		if s.Send(&b) != nil {
			break
		}
	}
	return transport.Outgoing{}
}

// windowWhole expects that streams hold nothing of the connection's window.
func windowWhole(t *testing.T, c *clientConn) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.recv.left+c.recv.credit != c.recv.size || c.gathered != 0 {
		t.Errorf("of the connection's window of %d, %d are left and %d to be given back; %d bytes gathered", c.recv.size, c.recv.left, c.recv.credit, c.gathered)
	}
}

// TestGivenUpAfterTheEnd: a stream that has ended and of which messages are left gives the connection's window back when its caller's context ends.
func TestGivenUpAfterTheEnd(t *testing.T) {
	for name, receive := range map[string]func(t *testing.T, s transport.ClientStream){
		"nothing received": func(*testing.T, transport.ClientStream) {},
		"some received": func(t *testing.T, s transport.ClientStream) {
			var b []byte
			for range 3 {
				if err := s.Recv(&b); err != nil {
					t.Fatal(err)
				}
			}
		},
		"after one that did not decode": func(t *testing.T, s transport.ClientStream) {
			var b []byte
			if err := s.Recv(&b); err != nil {
				t.Fatal(err)
			}
			if err := s.Recv(new(int)); err == nil {
				t.Fatal("bytes were decoded into a number")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, fewHandler{floodHandler{1000}, 200}, Options{}, memnet.Options{})
				defer r.stop()
				c := r.dial(t, Options{})
				defer c.Close()
				for range 30 { // more than the connection's window in all
					ctx, cancel := context.WithCancel(t.Context())
					s, err := c.Open(ctx, &transport.Request{Method: "m", Codec: codec.Bytes{}})
					if err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					receive(t, s)
					cancel()
					synctest.Wait()
					got := s.Recv(new([]byte))
					if e, ok := errors.AsType[*status.Error](got); !ok || e.Code != status.Canceled || e.Fate != status.Processed {
						t.Errorf("after the caller gave up: %v", got)
						break
					}
				}
				windowWhole(t, c)
			})
		})
	}
}

// TestReceivedAfterTheEnd: what a stream brought before it ended is received, and its context's end does not change how it ended once all is.
func TestReceivedAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, fewHandler{floodHandler{1000}, 200}, Options{}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{})
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s, err := c.Open(ctx, &transport.Request{Method: "m", Codec: codec.Bytes{}})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		var b []byte
		for i := range 200 {
			if err := s.Recv(&b); err != nil {
				t.Fatal(i, err)
			}
		}
		cancel()
		synctest.Wait()
		if err := s.Recv(&b); !errors.Is(err, io.EOF) {
			t.Errorf("after all messages: %v", err)
		}
		windowWhole(t, c)
	})
}

// brokenOffHandler ends its stream in the middle of a message.
type brokenOffHandler struct{ floodHandler }

func (brokenOffHandler) Stream(_ context.Context, _ *transport.Incoming, s transport.ServerStream) transport.Outgoing {
	s.SetCodec(codec.Bytes{})
	small := []byte{1}
	if s.Send(&small) != nil {
		return transport.Outgoing{}
	}
	go func() {
		large := make([]byte, 3<<20)
		_ = s.Send(&large)
	}()
	var b []byte
	_ = s.Recv(&b)
	return transport.Outgoing{}
}

// TestEndInTheMiddleOfAMessage: what there is of the message is let go of with the stream.
func TestEndInTheMiddleOfAMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, brokenOffHandler{}, Options{}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{})
		defer c.Close()
		for range 10 {
			s, err := c.Open(t.Context(), &transport.Request{Method: "m", Codec: codec.Bytes{}})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // the stream's window is full of the large message
			b := []byte{1}
			if err := s.Send(&b); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if err := s.Recv(&b); err != nil || len(b) != 1 {
				t.Fatalf("the message before: %d bytes, %v", len(b), err)
			}
			if err := s.Recv(&b); !errors.Is(err, io.EOF) {
				t.Fatalf("after the end: %v", err)
			}
		}
		windowWhole(t, c)
	})
}
