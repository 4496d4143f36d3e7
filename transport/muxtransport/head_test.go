package muxtransport

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/transport"
)

// namedCodec has no number.
type namedCodec struct{ codec.Bytes }

func (namedCodec) Name() string { return "named" }

// The short way to write the head of a plain call writes what the long way does, and no other call takes it.
func TestPlainHead(t *testing.T) {
	const now policy.Time = 1e18
	for _, codec := range []codec.Codec{codec.Proto{}, codec.JSON{}, codec.Bytes{}, namedCodec{}} {
		for _, left := range []time.Duration{0, 1, time.Microsecond, time.Second, 24 * time.Hour} {
			for _, sent := range []time.Duration{0, 1, time.Millisecond, 100 * 24 * time.Hour} {
				for i, req := range []transport.Request{
					{},
					{PathAttempt: 1},
					{PathAttempt: 2},
					{Criticality: policy.Sheddable},
					{Compressor: "gzip"},
					{Metadata: transport.Metadata{{Key: "k", Value: "v"}}},
				} {
					for _, total := range []int{0, 1 << 20} {
						head := func(short bool) []byte {
							c := &clientConn{methods: map[string]uint32{}, began: now.Add(-sent)}
							c.peer, c.sh = &hello{unpacks: packAll}, new(shared)
							req.Method, req.Codec = "a.B/C", codec
							c.number(req.Method)
							ca := &call{plain: short && plain(&req)}
							if left != 0 {
								ca.deadline = now.Add(left)
							}
							return c.appendHead([]byte("what waits"), ca, &req, now, total)
						}
						if got, want := head(true), head(false); !bytes.Equal(got, want) {
							t.Errorf("%s: %x, want %x", fmt.Sprint(codec.Name(), left, sent, i, total), got, want)
						}
					}
				}
			}
		}
	}
}
