package muxtransport

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

func TestNames(t *testing.T) {
	long := strings.Repeat("k", maxNameKey+1)
	sent, received := &sentNames{limit: 3}, &recvNames{limit: 3}
	for i, md := range []transport.Metadata{
		{{Key: "user", Value: "ada"}, {Key: "user", Value: "bob"}, {Key: "", Value: ""}},
		{{Key: long, Value: "x"}, {Key: "user", Value: ""}},
		{{Key: "third", Value: "x"}, {Key: "fourth", Value: strings.Repeat("v", 300)}, {Key: "fourth", Value: "x"}},
		{{Key: "third", Value: "x"}, {Key: "fourth", Value: "x"}, {Key: long, Value: "y"}},
	} {
		b := appendMetadata(nil, md, sent, 0)
		c := cursor{in: b}
		got, err := parseMetadata(&c, 1<<10, received, true, nil)
		if err != nil || !slices.Equal(got, md) || len(c.rest()) != 0 {
			t.Errorf("%d: %v became % x, then %v: %v", i, md, b, got, err)
		}
		if len(received.names) != sent.count || len(received.names) > 3 {
			t.Errorf("%d: %d keys remembered by one side, %v by the other", i, sent.count, received.names)
		}
	}
	if b := appendMetadata(nil, transport.Metadata{{Key: "user", Value: "ada"}}, sent, 0); !bytes.Equal(b, []byte("\x05\x01\x03ada")) {
		t.Errorf("a key that is known is sent as % x", b)
	}
	for name, block := range map[string]string{
		"a number that nobody gave": "\x02\x09\x00", "a key longer than the block": "\x02\x20\x00", "no value": "\x01\x01", "a number without end": "\x01\xff",
	} {
		c := cursor{in: []byte(block)}
		if _, err := parseMetadata(&c, 1<<10, received, true, nil); err == nil {
			t.Errorf("%s: parses", name)
		}
	}
}

// What is over the limit, or for a call that nobody waits for, has been heard all the same: the keys after it are the right ones.
func TestNamesOfLostHeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, funcHandler(func(ctx context.Context, in *transport.Incoming) transport.Outgoing {
			if in.Method == "late" {
				time.Sleep(time.Second)
			}
			return transport.Outgoing{Codec: codec.Bytes{}, Message: &in.Payload,
				Header: transport.Metadata{{Key: "h-" + in.Method, Value: "1"}}, Trailer: in.Metadata}
		}), Options{MaxHeader: 100}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{})
		defer c.Close()
		call := func(method string, timeout time.Duration, md ...transport.Field) (transport.Reply, *status.Error) {
			msg := []byte("x")
			rep := transport.Reply{Message: new([]byte)}
			err := c.Call(context.Background(), &transport.Request{Method: method, Codec: codec.Bytes{}, Message: &msg, Metadata: md,
				Deadline: policy.Now().Add(timeout)}, &rep)
			return rep, err
		}
		// The client knows the server's limit, so only a client that does not care gets there.
		peer := *c.peer
		peer.maxHeader = 1 << 10
		c.peer = &peer
		if _, err := call("quick", time.Second, transport.Field{Key: "large", Value: strings.Repeat("x", 200)}); err == nil || err.Kind != status.TooLarge {
			t.Errorf("metadata over the limit: %v", err)
		}
		if _, err := call("late", time.Millisecond, transport.Field{Key: "lost", Value: "1"}); err == nil || err.Kind != status.Timeout {
			t.Errorf("a call that takes too long: %v", err)
		}
		time.Sleep(2 * time.Second) // its answer comes and teaches the client a key
		for i := range 3 {
			md := transport.Metadata{{Key: "large", Value: fmt.Sprint(i)}, {Key: "lost", Value: "2"}, {Key: "new", Value: "3"}}
			rep, err := call("quick", time.Second, md...)
			if err != nil || !slices.Equal(rep.Trailer, md) || rep.Header.Get("h-quick") != "1" {
				t.Errorf("call %d: %v, %v: %v", i, rep.Header, rep.Trailer, err)
			}
		}
	})
}

// A client whose methods have names for which a connection has no room says them again each time.
func TestMoreNamesThanRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, funcHandler(func(_ context.Context, in *transport.Incoming) transport.Outgoing {
			if strings.HasPrefix(in.Method, "slow") {
				time.Sleep(time.Second)
			}
			return transport.Outgoing{Codec: codec.Bytes{}, Message: []byte(in.Method)}
		}), Options{}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{})
		defer c.Close()
		const room = maxMethodBytes / maxNameLen
		for range 2 {
			for i := range room + 10 {
				if got, err := unary(c, longName(i), nil, time.Minute); err != nil || string(got) != longName(i) {
					t.Fatalf("method %d: %.20q, %v", i, got, err)
				}
			}
		}
		if n := r.server.Counters(); len(c.methods) != room || n.ProtocolErrors != 0 {
			t.Errorf("%d methods are remembered, want %d: %+v", len(c.methods), room, n)
		}
		// What is known of their handlers is remembered: a slow one holds up the reader once.
		var calls sync.WaitGroup
		for range 5 {
			calls.Go(func() {
				if _, err := unary(c, "slow.Slow/Slow", nil, time.Minute); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(2 * watchInterval)
		}
		calls.Wait()
		if n := r.server.Counters(); n.Takeovers != 1 {
			t.Errorf("a slow handler held up the reader %d times", n.Takeovers)
		}
	})
}

func TestTrace(t *testing.T) {
	for _, v := range []string{
		"", "x", aTrace[:54], aTrace + "-", strings.ToUpper(aTrace), "01" + aTrace[2:], strings.Replace(aTrace, "-00f", "x00f", 1),
		strings.Replace(aTrace, "4b", "4g", 1), strings.Replace(aTrace, "4b", "-b", 1),
	} {
		if isTrace(v) {
			t.Errorf("%q passes for a trace context", v)
		}
	}
	b := appendTrace(nil, aTrace)
	if len(b) != traceSize || traceString(b) != aTrace {
		t.Errorf("%s became % x, then %s", aTrace, b, traceString(b))
	}
	other := transport.Field{Key: "user", Value: "ada"}
	is := transport.Field{Key: traceKey, Value: aTrace}
	for _, tt := range []struct {
		md    transport.Metadata
		place int
	}{
		{nil, 0},
		{transport.Metadata{other}, 0},
		{transport.Metadata{is}, 1},
		{transport.Metadata{other, is, other}, 2},
		{transport.Metadata{is, is}, 0}, // which one is meant is not for this package to say
		{transport.Metadata{is, {Key: traceKey, Value: "x"}}, 0},
		{transport.Metadata{{Key: traceKey, Value: "x"}}, 0},
	} {
		if got := findTrace(tt.md); got != tt.place {
			t.Errorf("%v: place %d, want %d", tt.md, got, tt.place)
		}
		h := callHead{method: 1, codec: "json", metadata: tt.md, trace: findTrace(tt.md)}
		var parsed rawCall
		if err := parseCall(&cursor{in: h.append(nil, nil)}, 1<<10, nil, &parsed); err != nil || len(parsed.metadata) != len(tt.md) ||
			parsed.metadata.Get(traceKey) != tt.md.Get(traceKey) || parsed.metadata.Get("user") != tt.md.Get("user") {
			t.Errorf("%v became %v: %v", tt.md, parsed.metadata, err)
		}
	}
}

// The trace context and other metadata arrive with calls and streams, and cost what they should.
func TestMetadataOnTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got transport.Metadata
		r := newRig(t, funcHandler(func(_ context.Context, in *transport.Incoming) transport.Outgoing {
			got = in.Metadata
			return transport.Outgoing{Codec: codec.Bytes{}, Message: &in.Payload}
		}), Options{}, memnet.Options{})
		defer r.stop()
		s := &sizes{dial: r.net.Host("client").Dial}
		c := dialed(t, Options{Dial: s.Dial})
		defer c.Close()
		md := transport.Metadata{{Key: "authorization", Value: "Bearer 1"}, {Key: traceKey, Value: aTrace}, {Key: "tracestate", Value: "a=b"}}
		var cost []int64
		for range 2 {
			s.sent.Store(0)
			msg := []byte("x")
			if err := c.Call(t.Context(), &transport.Request{Method: "a.B/C", Codec: codec.Bytes{}, Message: &msg, Metadata: md},
				&transport.Reply{Message: new([]byte)}); err != nil {
				t.Fatal(err)
			}
			cost = append(cost, s.sent.Load())
			want := transport.Metadata{md[1], md[0], md[2]}
			if !slices.Equal(got, want) {
				t.Errorf("%v arrived as %v", md, got)
			}
		}
		// Header 8, flags 2, method 1, codec 1, trace context 25, metadata 1 + 1 + 9 + 1 + 4, message 1.
		if cost[1] != 54 {
			t.Errorf("calls cost %v bytes; want 54 from the second on", cost)
		}
	})
}
