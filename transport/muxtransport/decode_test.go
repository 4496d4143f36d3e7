package muxtransport

import (
	"context"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

// ownProto is somebody's own codec, which the reader must not run. It counts what it decodes.
type ownProto struct {
	codec.Proto
	n *int
}

func (p ownProto) Unmarshal(data []byte, v any) error {
	*p.n++
	return p.Proto.Unmarshal(data, v)
}

// Answers are the same whoever decodes them: those that the reader leaves to their callers, too.
func TestWhoDecodes(t *testing.T) {
	r := newRig(t, drainHandler{}, Options{}, memnet.Options{})
	defer r.stop()
	c := r.dial(t, Options{})
	defer c.Close()
	decoded, calls := 0, 0
	for _, cd := range []codec.Codec{codec.Proto{}, ownProto{n: &decoded}} {
		calls = 0
		for _, size := range []int{0, 1, 100, smallAnswer - 3, smallAnswer - 2, smallAnswer, 2 * partSize} {
			calls++
			want := strings.Repeat("x", size)
			got := wrapperspb.String("what was there before")
			err := c.Call(t.Context(), &transport.Request{Method: "m", Codec: cd, Message: wrapperspb.String(want)}, &transport.Reply{Message: got})
			if err != nil || got.Value != want {
				t.Errorf("%T, %d bytes: %d bytes, %v", cd, size, len(got.Value), err)
			}
		}
		for name, into := range map[string]any{
			"text":          new(wrapperspb.StringValue), // which has to be UTF-8
			"a nil pointer": (*wrapperspb.StringValue)(nil),
			"nothing":       nil,
			"no message":    new(int),
		} {
			calls++
			invalid := wrapperspb.Bytes([]byte{0xff})
			err := c.Call(t.Context(), &transport.Request{Method: "m", Codec: cd, Message: invalid}, &transport.Reply{Message: into})
			if err == nil || err.Code != status.Internal || err.Fate != status.Processed || err.Message != "the answer does not decode" {
				t.Errorf("%T, %s: %v", cd, name, err)
			}
		}
	}
	if decoded != calls {
		t.Errorf("a codec of one's own has decoded %d answers of %d", decoded, calls)
	}
}

// A caller that gives up just when its answer comes has its message for itself again when Call returns.
func TestGiveUpWhileDecoding(t *testing.T) {
	r := newRig(t, drainHandler{}, Options{}, memnet.Options{})
	defer r.stop()
	c := r.dial(t, Options{})
	defer c.Close()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			req := transport.Request{Method: "m", Codec: codec.Proto{}, Message: wrapperspb.String("theirs")}
			for range 500 {
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					for range rand.IntN(20) {
						runtime.Gosched()
					}
					cancel()
				}()
				m := new(wrapperspb.StringValue)
				err := c.Call(ctx, &req, &transport.Reply{Message: m})
				if err == nil && m.Value != "theirs" || err != nil && m.Value != "" {
					t.Errorf("%q, %v", m.Value, err)
				}
				m.Value = "mine"
				for range 5 {
					runtime.Gosched()
				}
				if m.Value != "mine" {
					t.Errorf("%q after Call had returned %v", m.Value, err)
				}
			}
		})
	}
	wg.Wait()
}
