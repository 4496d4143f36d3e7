package muxtransport_test

import (
	"bytes"
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/muxtransport"
)

const pollTime = 50 * time.Microsecond

// TestPollingReads is that calls over a real socket get their answers whether or not polling finds them, and that a call which is given up while a
// reader polls is.
func TestPollingReads(t *testing.T) {
	ln := listenTCP(t)
	serveOn(t, ln, echoHandler{}, muxtransport.Options{BusyPoll: pollTime})
	d, err := muxtransport.NewDialer(muxtransport.Options{BusyPoll: pollTime})
	if err != nil {
		t.Fatal(err)
	}
	c, e := d.Dial(t.Context(), ln.Addr().String())
	if e != nil {
		t.Fatal(e)
	}
	defer c.Close()
	for i := range 3000 {
		in := []byte{byte(i), byte(i >> 8)}
		var out []byte
		rep := transport.Reply{Message: &out}
		if e := c.Call(t.Context(), &transport.Request{Method: "m", Codec: codec.Bytes{}, Message: in, Deadline: policy.Now().Add(time.Minute)}, &rep); e != nil {
			t.Fatal(i, e)
		}
		if !bytes.Equal(in, out) {
			t.Fatalf("call %d: %x, want %x", i, out, in)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if e := c.Call(ctx, &transport.Request{Method: "m", Codec: codec.Bytes{}, Message: []byte{1}}, &transport.Reply{Message: new([]byte)}); e == nil || e.Code != status.Canceled {
		t.Errorf("a call that nobody waits for: %v", e)
	}
	if n := d.Counters(); runtime.GOOS == "linux" && n.Polled+n.PolledInVain == 0 {
		t.Errorf("no read polled: %+v", n)
	}
}
