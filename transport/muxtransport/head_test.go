package muxtransport

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
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

// The short way to read the head of a plain call reads what the long way does, and leaves all else to that.
func TestPlainHeadRead(t *testing.T) {
	for _, flags := range []byte{0, callDeadline, callSent, callDeadline | callSent, callAttempt, callCriticality, callMetadata, callName, callTotal, callMore} {
		for _, numbers := range [][]byte{{1, codecProto}, {127, codecJSON}, {128, 1, codecBytes}, {0, codecProto}, {1, codecNamed, 0}, {1, codecBytes + 1}, {1}, {}} {
			for _, rest := range [][]byte{{}, {5}, {5, 6, 7}, {0x80, 0x80, 0x80, 1, 0x85, 1, 'm', 's', 'g', '!', '!'}, bytes.Repeat([]byte{0xff}, 20)} {
				in := append(append([]byte{flags}, numbers...), rest...)
				cur := cursor{in: in}
				var want rawCall
				err := parseCall(&cur, 1<<10, nil, &want)
				h, msg, ok := parsePlain(in)
				if plain := err == nil && flags&^(callDeadline|callSent) == 0 && want.rawCodec == nil && want.method > 0 && want.method < 0x80; ok != plain {
					t.Errorf("%x: taken for plain: %v, %v", in, ok, err)
				}
				if ok && (h != plainCall{want.method, in[2], want.hasDeadline, want.timeout, want.sent} || codecNames[h.codec] != want.codec || !bytes.Equal(msg, cur.rest())) {
					t.Errorf("%x: %+v and %q, want %+v and %q", in, h, msg, want, cur.rest())
				}
			}
		}
	}
}

// The short way to write a plain answer writes what the long way does.
func TestPlainAnswer(t *testing.T) {
	for _, load := range []uint32{0, 1, 127, 128, 1 << 31} {
		for _, msg := range []string{"", "ahoy"} {
			ca := &serverCall{id: 0x10002, out: []byte(msg), head: answerHead{load: transport.Load{InFlight: load}}}
			if !ca.plain() {
				t.Errorf("%+v is not plain", ca.head)
			}
			c := &serverConn{answers: []byte("what waits")}
			c.buf = []byte("what waits")
			c.appendAnswer(ca, typeAnswer, ca.out, 0)
			if c.appendPlain(ca); !bytes.Equal(c.answers, c.buf) {
				t.Errorf("%d, %q: %x, want %x", load, msg, c.answers, c.buf)
			}
		}
	}
	for i, ca := range []*serverCall{
		{head: answerHead{status: &status.Error{}}},
		{head: answerHead{header: transport.Metadata{{Key: "k"}}}},
		{head: answerHead{trailer: transport.Metadata{{Key: "k"}}}},
		{progress: progress{packed: true}},
	} {
		if ca.plain() {
			t.Errorf("%d: %+v is taken for plain", i, ca.head)
		}
	}
}
