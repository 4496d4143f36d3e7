package muxtransport

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

func TestResets(t *testing.T) {
	var r resets
	now := policy.Time(1e9)
	in := &transport.Incoming{Received: now}
	for i := range 20 {
		if flood := r.note(in, now.Add(time.Duration(i)*10*time.Millisecond), 10); flood != (i >= 10) {
			t.Errorf("%d in a second: %v", i+1, flood)
		}
	}
	// Time gives everything back: who goes on and on below the limit is never cut off.
	r = resets{}
	for i := range 10_000 {
		if r.note(in, now.Add(time.Duration(i)*101*time.Millisecond), 10) {
			t.Fatalf("after %d at 10 per second", i)
		}
	}
	// Neither do calls count that end as calls do when everything is slow.
	in.Deadline = now.Add(time.Second)
	r = resets{}
	for range 100 {
		if r.note(in, now.Add(750*time.Millisecond), 10) || r.note(in, now.Add(2*time.Second), 10) {
			t.Fatal("a call that ran out of time")
		}
	}
	for range 10 {
		r.note(in, now.Add(700*time.Millisecond), 10)
	}
	if !r.note(in, now.Add(700*time.Millisecond), 10) {
		t.Error("calls that had time left do not count")
	}
}

// A client that opens calls or streams only to cancel them is told so, and cut off.
func TestResetFlood(t *testing.T) {
	for _, typ := range []byte{typeCall | flagMore, typeOpen} { // requests that never arrive whole, and streams
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, funcHandler(func(context.Context, *transport.Incoming) transport.Outgoing {
				t.Error("a request was taken for whole")
				return transport.Outgoing{}
			}), Options{MaxResets: 100}, memnet.Options{})
			defer r.stop()
			head := callHead{method: 1, name: "a.B/C", codec: "bytes"}
			if typ == typeCall|flagMore {
				head.total = 10
			}
			nc := r.raw(t, clientScript().call(typ, 1<<16, head, "").b)
			defer nc.Close()
			head.name = ""
			for n := uint32(1); n <= 101; n++ {
				say(t, nc, (&script{}).frame(typeCancel, n<<16).call(typ, (n+1)<<16, head, "").b)
				time.Sleep(time.Millisecond)
				if c := r.server.Counters(); c.Conns != 1 && n <= 100 {
					t.Fatalf("cut off after %d: %+v", n, c)
				}
			}
			said, err := io.ReadAll(nc)
			if err != nil || !strings.Contains(string(said), "opened and cancelled in a second") {
				t.Errorf("the server said %q: %v", said, err)
			}
			if c := r.server.Counters(); c.ResetFloods != 1 || c.ProtocolErrors != 1 || c.Conns != 0 {
				t.Errorf("%+v", c)
			}
		})
	}
}

// How many pings are a flood is an option.
func TestPingFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, drainHandler{}, Options{MaxPings: 300}, memnet.Options{})
		defer r.stop()
		for floods, n := range []int{300, 301} {
			nc := r.raw(t, pings(n))
			synctest.Wait()
			if c := r.server.Counters(); c.PingFloods != int64(floods) || c.Conns != int64(1-floods) {
				t.Errorf("%d pings: %+v", n, c)
			}
			nc.Close()
			synctest.Wait()
		}
	})
}

// GOAWAY says that it was a flood.
func TestFloodReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, drainHandler{}, Options{}, memnet.Options{})
		defer r.stop()
		s := clientScript()
		for range 2 * pingsPerSecond {
			s.frame(typePing, 0, 1, 2, 3, 4, 5, 6, 7, 8)
		}
		nc := r.raw(t, s.b)
		defer nc.Close()
		said, err := io.ReadAll(nc)
		if err != nil {
			t.Fatal(err)
		}
		for said = said[prefaceLen:]; len(said) > 0; said = said[frameSize(said):] {
			if f := parseFrame(said[:frameSize(said)]); f.typ == typeGoAway && f.payload[1] == goAwayFlood {
				return
			}
		}
		t.Error("no GOAWAY with the reason for it")
	})
}
