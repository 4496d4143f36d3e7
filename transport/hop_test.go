package transport_test

import (
	"math"
	"slices"
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

// TestHopIsNotMetadata is that a handler which passes its caller's metadata on says nothing of the call tree with it: what a layer above
// claimed would hide what is true here.
func TestHopIsNotMetadata(t *testing.T) {
	passed := transport.Metadata{{Key: "a", Value: "1"}, {Key: transport.HeaderAttempt, Value: "1"}, {Key: transport.HeaderCriticality, Value: "CRITICAL_PLUS"}, {Key: "b", Value: "2"}}
	kept := slices.Clone(passed)
	md := transport.AppendHop(passed[:len(passed):len(passed)], 3, policy.Sheddable)
	if attempt, c := transport.ReadHop(md.Get); attempt != 3 || c != policy.Sheddable {
		t.Errorf("attempt %d, %v; want 3, %v", attempt, c, policy.Sheddable)
	}
	if attempt, c := transport.ReadHop(transport.AppendHop(passed, 1, policy.Critical).Get); attempt != 1 || c != policy.Critical {
		t.Errorf("attempt %d, %v; want what is usual", attempt, c)
	}
	if md.Get("a") != "1" || md.Get("b") != "2" || !slices.Equal(passed, kept) {
		t.Errorf("%v from %v", md, passed)
	}
}

// TestFactsAreNotMetadata is that metadata which a handler got from elsewhere cannot speak for the server.
func TestFactsAreNotMetadata(t *testing.T) {
	passed := transport.Metadata{{Key: "a", Value: "1"}, {Key: transport.HeaderFate, Value: status.NotSent.String()},
		{Key: transport.HeaderOrigin, Value: status.Downstream.String()}, {Key: transport.HeaderKind, Value: status.Shed.String()}}
	md := transport.AppendFacts(passed, &status.Error{Code: status.Internal, Fate: status.Processed})
	var e status.Error
	transport.ReadFacts(md.Get, &e)
	if e.Fate != status.Processed || e.Origin != status.Self || e.Kind != status.Answered || md.Get("a") != "1" {
		t.Errorf("%+v from %v", e, md)
	}
	asked := transport.Metadata{{Key: transport.HeaderPushback, Value: "60000"}}
	for own, want := range map[time.Duration]time.Duration{time.Second: time.Second, -1: -1, 0: time.Minute} { // 0: the handler's own words, for all that is known
		md = transport.AppendFacts(asked, &status.Error{Code: status.Unavailable, Fate: status.Processed, Pushback: own})
		e = status.Error{}
		if transport.ReadFacts(md.Get, &e); e.Pushback != want || len(md) != 1 {
			t.Errorf("a server that says %v beside a minute of its handler's says %v", own, md)
		}
	}
}

// TestKindsOfOneSide is that a peer cannot say what only this side can know: that it was not reached, for instance.
func TestKindsOfOneSide(t *testing.T) {
	for _, k := range []status.Kind{status.Dial, status.Handshake, status.Unsent, status.Reset, status.Refused, status.NoNode} {
		var e status.Error
		transport.ReadFacts(transport.Metadata{{Key: transport.HeaderKind, Value: k.String()}}.Get, &e)
		if e.Kind != status.Answered {
			t.Errorf("a peer says %v", e.Kind)
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
	endless := status.Error{Fate: status.Processed, Pushback: math.MaxInt64}
	transport.ReadFacts(transport.AppendFacts(nil, &endless).Get, &e)
	if e.Pushback != 24*time.Hour {
		t.Errorf("a pushback without end became %v", e.Pushback)
	}
}
