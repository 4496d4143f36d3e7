package muxtransport_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/muxtransport"
)

// metaHandler is a runsHandler that gives back the metadata.
type metaHandler struct{ *runsHandler }

func (h metaHandler) Unary(ctx context.Context, in *transport.Incoming) transport.Outgoing {
	out := h.runsHandler.Unary(ctx, in)
	out.Header, out.Trailer = in.Metadata, in.Metadata
	return out
}

// richCall makes a call with metadata, a trace context and a message that is compressed.
func richCall(c transport.Conn, key string, msg []byte) *status.Error {
	md := transport.Metadata{{Key: "traceparent", Value: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}, {Key: "key", Value: key}, {Key: "user", Value: "ada"}}
	var out []byte
	rep := transport.Reply{Message: &out}
	err := c.Call(context.Background(), &transport.Request{Method: "rich", Codec: codec.Bytes{}, Message: &msg, Metadata: md,
		Deadline: policy.Now().Add(time.Second)}, &rep)
	if err == nil && (!bytes.Equal(out, msg) || !sameFields(rep.Header, md) || !sameFields(rep.Trailer, md)) {
		return &status.Error{Code: status.DataLoss, Message: "not what was sent"}
	}
	return err
}

// judgeCut checks what became of a call that ran so often.
func judgeCut(t *testing.T, n int64, what string, runs int, err *status.Error) (ok bool) {
	t.Helper()
	switch {
	case err == nil && runs == 1:
		return true
	case err == nil || runs > 1:
		t.Errorf("cut at %d: %s ran %d times and ended with %v", n, what, runs, err)
	case err.Code != status.Unavailable || err.Fate == status.Processed:
		t.Errorf("cut at %d: %s ended with %v, %v", n, what, err, err.Fate)
	case err.Fate == status.NotSent && runs != 0:
		t.Errorf("cut at %d: %s is said not to be sent and ran: %v", n, what, err)
	}
	return false
}

// The same as TestCutAtEachByte for calls whose messages are compressed, and whose keys of metadata the first teaches and the
// second uses.
func TestCutRichCallAtEachByte(t *testing.T) {
	for _, cut := range cuts {
		for _, compression := range []string{"gzip", "zstd"} {
			t.Run(cut.name+", "+compression, func(t *testing.T) {
				n, clean := int64(0), false
				for ; !clean && n < 2000; n += stride {
					synctest.Test(t, func(t *testing.T) {
						h := metaHandler{&runsHandler{runs: map[string]int{}}}
						l := newLab(t, h, muxtransport.Options{Compression: compression, CompressFrom: 1}, muxtransport.Options{})
						defer l.close()
						c := l.dial(t)
						defer c.Close()
						cut.cut(l, n)
						clean = true
						for _, key := range []string{"one", "two"} {
							err := richCall(c, key, []byte(key+strings.Repeat(".", 300)))
							clean = judgeCut(t, n, key, h.ran(key), err) && clean
						}
					})
				}
				if n < 100 || !clean {
					t.Errorf("calls went through although the connection was cut after %d bytes: %v", n-stride, clean)
				}
			})
		}
	}
}

// The same for a compressed message in parts, at each byte around the frames' borders.
func TestCutCompressedParts(t *testing.T) {
	noise := make([]byte, 50<<10)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	msg := append(append([]byte("key"), noise...), bytes.Repeat([]byte("."), 50<<10)...)
	var places []int64
	for _, border := range []int64{0, 32 << 10, 50 << 10} {
		for n := max(border-20, 0); n < border+400; n += stride + n%3 {
			places = append(places, n)
		}
	}
	for _, cut := range cuts {
		t.Run(cut.name, func(t *testing.T) {
			succeeded := 0
			for _, n := range append(places, 60<<10) {
				synctest.Test(t, func(t *testing.T) {
					runs := 0
					l := newLab(t, callHandler(func() { runs++ }), muxtransport.Options{Compression: "zstd"}, muxtransport.Options{})
					defer l.close()
					c := l.dial(t)
					defer c.Close()
					cut.cut(l, n)
					err := richCall(c, "key", msg)
					if judgeCut(t, n, "the call", runs, err) {
						succeeded++
						if n < 50<<10 {
							t.Errorf("cut at %d: the call succeeded", n)
						}
					}
				})
			}
			if succeeded == 0 {
				t.Error("no call succeeded")
			}
		})
	}
}

// callHandler says that a call has begun, and gives back what it got.
type callHandler func()

func (h callHandler) Unary(_ context.Context, in *transport.Incoming) transport.Outgoing {
	h()
	return transport.Outgoing{Codec: codec.Bytes{}, Message: &in.Payload, Header: in.Metadata, Trailer: in.Metadata}
}

func (h callHandler) Stream(context.Context, *transport.Incoming, transport.ServerStream) transport.Outgoing {
	return transport.Outgoing{}
}

// A stream of compressed messages ends with what is true, and what was received before is what was sent.
func TestCutCompressedStreamAtEachByte(t *testing.T) {
	for _, cut := range cuts {
		t.Run(cut.name, func(t *testing.T) {
			n, clean := int64(0), false
			for ; !clean && n < 1000; n += stride {
				synctest.Test(t, func(t *testing.T) {
					h := &runsHandler{runs: map[string]int{}}
					l := newLab(t, h, muxtransport.Options{Compression: "gzip", CompressFrom: 1}, muxtransport.Options{})
					defer l.close()
					c := l.dial(t)
					defer c.Close()
					cut.cut(l, n)
					s, serr := c.Open(t.Context(), &transport.Request{Method: "stream", Codec: codec.Bytes{}, Metadata: transport.Metadata{{Key: "key", Value: "stream"}},
						Deadline: policy.Now().Add(time.Second)})
					if serr != nil {
						judgeCut(t, n, "the stream", h.ran("stream"), serr)
						return
					}
					msg := bytes.Repeat([]byte("message "), 20)
					for range 2 {
						if s.Send(&msg) != nil {
							break
						}
					}
					_ = s.CloseSend() // the stream may be over
					for got := 0; ; got++ {
						var b []byte
						err := s.Recv(&b)
						if err == nil && bytes.Equal(b, msg) {
							continue
						}
						if errors.Is(err, io.EOF) && got == 2 {
							clean = judgeCut(t, n, "the stream", h.ran("stream"), nil)
						} else if e, ok := errors.AsType[*status.Error](err); !ok {
							t.Errorf("cut at %d: after %d messages: %q, %v", n, got, b, err)
						} else {
							judgeCut(t, n, "the stream", h.ran("stream"), e)
						}
						break
					}
					if c.InFlight() != 0 {
						t.Errorf("cut at %d: %d streams are in flight", n, c.InFlight())
					}
				})
			}
			if n < 50 || !clean {
				t.Errorf("the stream went through although the connection was cut after %d bytes: %v", n-stride, clean)
			}
		})
	}
}
