package muxtransport

import (
	"testing"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/transport"
)

// TestOverAfterEncoding: what a handler says of its end stands for that of its call only where encoding takes no time.
func TestOverAfterEncoding(t *testing.T) {
	const ended = policy.Time(1)
	for _, c := range []struct {
		name string
		out  transport.Outgoing
		size int
		pack compression
		want bool
	}{
		{"short", transport.Outgoing{Codec: codec.Proto{}, Ended: ended}, shortAnswer, packNone, true},
		{"not said", transport.Outgoing{Codec: codec.Proto{}}, 1, packNone, false},
		{"another codec", transport.Outgoing{Codec: codec.JSON{}, Ended: ended}, 1, packNone, false},
		{"no codec", transport.Outgoing{Ended: ended}, 1, packNone, false},
		{"long", transport.Outgoing{Codec: codec.Proto{}, Ended: ended}, shortAnswer + 1, packNone, false},
		{"compressed", transport.Outgoing{Codec: codec.Proto{}, Ended: ended}, 1, packLast, false},
	} {
		ca := &serverCall{out: make([]byte, c.size), pack: c.pack}
		if at := ca.over(&c.out); (at == ended) != c.want || at == 0 {
			t.Errorf("%s: over at %d", c.name, at)
		}
	}
}
