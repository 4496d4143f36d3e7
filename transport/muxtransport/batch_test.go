package muxtransport

import (
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

// TestAnswersOfOneRead: what the reader has answered goes out before whatever keeps it from answering the rest of what it has read.
func TestAnswersOfOneRead(t *testing.T) {
	call := func(s *script, id uint32, size int) *script {
		head := callHead{method: 1, codec: "bytes"}
		if id == 1 {
			head.name = "x"
		}
		return s.call(typeCall, id, head, string(make([]byte, size)))
	}
	const (
		large = 3 // the answer comes in parts
		stuck = 4 // the handler takes a second
	)
	handler := funcHandler(func(_ context.Context, in *transport.Incoming) transport.Outgoing {
		answer := make([]byte, len(in.Payload))
		switch len(in.Payload) {
		case large:
			answer = make([]byte, 2*partSize+1)
		case stuck:
			time.Sleep(time.Second)
		}
		return transport.Outgoing{Codec: codec.Bytes{}, Message: answer}
	})
	stuckInTurn := call(call(call(clientScript(), 1, 0), 2, 1), 3, 2)
	for m := range uint32(12) { // each in a method of its own, which is not known to be slow
		stuckInTurn.call(typeCall, 4+m, callHead{method: 2 + m, name: fmt.Sprint("slow", m), codec: "bytes"}, string(make([]byte, stuck)))
	}
	for _, tt := range []struct {
		name string
		say  *script
		want []string // types and ids of what the server says within a few milliseconds, and the size that heads announce
	}{
		{"large answer", call(call(call(call(clientScript(), 1, 0), 2, 1), 3, large), 4, 1), []string{"4 1", "4 2", "4 3 of 65537", "5 3", "5 3", "4 4"}},
		{"stuck handler", call(call(call(call(clientScript(), 1, 0), 2, 1), 3, stuck), 4, 1), []string{"4 1", "4 2", "4 4"}},
		{"stuck handlers", stuckInTurn, []string{"4 1", "4 2", "4 3"}},
		{"malformed frame", call(call(clientScript(), 1, 0), 2, 1).frame(99, 0), []string{"4 1", "4 2", "14 0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, handler, Options{}, memnet.Options{})
				defer r.stop()
				c := r.raw(t, tt.say.b)
				defer c.Close()
				if _, err := io.CopyN(io.Discard, c, int64(prefaceLen)); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				var heard []string
				for len(heard) < len(tt.want) {
					b := make([]byte, maxFrame)
					if _, err := io.ReadFull(c, b[:headerLen]); err != nil {
						t.Fatal(err)
					}
					b = b[:frameSize(b)]
					if _, err := io.ReadFull(c, b[headerLen:]); err != nil {
						t.Fatal(err)
					}
					f := parseFrame(b)
					if f.typ == typeHello {
						continue
					}
					said := fmt.Sprintf("%d %d", f.typ, f.id)
					var h answerHead
					if f.typ == typeAnswer {
						if err := parseAnswer(&cursor{in: f.payload}, 1<<20, nil, &h); err != nil {
							t.Error(err)
						}
					}
					if h.total > 0 {
						said += fmt.Sprintf(" of %d", h.total)
					}
					heard = append(heard, said)
				}
				if took := time.Since(began); took > 10*time.Millisecond || !slices.Equal(heard, tt.want) {
					t.Errorf("after %v: %q, want %q", took, heard, tt.want)
				}
				time.Sleep(2 * time.Second) // until the last of the stuck handlers has begun and ended
			})
		})
	}
}
