package transport_test

import (
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

func TestHop(t *testing.T) {
	for attempt := 1; attempt < 4; attempt++ {
		for c := policy.Critical; c < 4; c++ {
			md := transport.AppendHop(nil, attempt, c)
			if gotAttempt, got := transport.ReadHop(md.Get); gotAttempt != attempt || got != c {
				t.Errorf("%d, %v became %v, then %d, %v", attempt, c, md, gotAttempt, got)
			}
		}
	}
	if md := transport.AppendHop(nil, 1, policy.Critical); len(md) != 0 {
		t.Errorf("what is usual is said: %v", md)
	}
	for _, bad := range []string{"x", "-1", "0", "99999999999999999999"} {
		md := transport.Metadata{{Key: transport.HeaderAttempt, Value: bad}, {Key: transport.HeaderCriticality, Value: bad}}
		if attempt, c := transport.ReadHop(md.Get); attempt != 1 || c != policy.Critical {
			t.Errorf("%q: %d, %v", bad, attempt, c)
		}
	}
}

func TestFacts(t *testing.T) {
	tests := []status.Error{
		{Fate: status.Processed},
		{Fate: status.NotSent, Kind: status.Shed, Pushback: 1500 * time.Millisecond},
		{Fate: status.Processed, Origin: status.Downstream},
		{Fate: status.Processed, Kind: status.Stalled, Pushback: -1},
		{Fate: status.Processed, Pushback: time.Millisecond},
	}
	for _, want := range tests {
		md := transport.AppendFacts(nil, &want)
		var got status.Error
		transport.ReadFacts(md.Get, &got)
		if got.Fate != want.Fate || got.Kind != want.Kind || got.Origin != want.Origin || got.Pushback != want.Pushback {
			t.Errorf("%+v became %v, then %+v", want, md, got)
		}
	}
	var e status.Error
	transport.ReadFacts(transport.Metadata{{Key: transport.HeaderPushback, Value: "soon"}}.Get, &e)
	if e.Pushback >= 0 {
		t.Errorf("a pushback that cannot be read is %v; want: do not retry", e.Pushback)
	}
	if md := transport.AppendFacts(nil, &status.Error{Fate: status.Processed, Pushback: time.Microsecond}); md.Get(transport.HeaderPushback) != "1" {
		t.Errorf("pushback is rounded down: %v", md)
	}
}
