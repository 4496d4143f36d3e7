package muxtransport

import (
	"crypto/tls"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

// TestPollingStopsByItself is that polling costs little where it is in vain, and nothing while several calls are under way.
func TestPollingStopsByItself(t *testing.T) {
	var h habit
	tries := func(reads, frames int, found bool) (n int) {
		for range reads {
			if h.worth(frames) {
				n++
				h.tried(found)
			}
		}
		return n
	}
	if n := tries(1000, 1, true); n != 1000 {
		t.Errorf("%d of 1000 reads polled, although it paid each time", n)
	}
	if n := tries(1000, 2, true); n != 0 {
		t.Errorf("%d reads polled with several calls under way", n)
	}
	if n := tries(100_000, 1, false); n > 10+100_000/maxPause {
		t.Errorf("%d of 100000 reads polled in vain", n)
	}
	if n := tries(maxPause+1000, 1, true); n < 999 {
		t.Errorf("%d reads polled after it paid again", n)
	}
}

func TestPollingOption(t *testing.T) {
	for _, d := range []time.Duration{-1, maxPoll + 1} {
		if _, err := NewServer(nil, Options{BusyPoll: d}); err == nil {
			t.Errorf("BusyPoll of %v is taken", d)
		}
	}
}

// TestWhatIsPolled: a socket is, but not under TLS, which has read more of it than it has told.
func TestWhatIsPolled(t *testing.T) {
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err := new(net.Dialer).DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	o := Options{BusyPoll: maxPoll}
	if polled := newPolling(nc, &o) != nil; polled != canPoll {
		t.Errorf("a socket is polled: %v", polled)
	}
	if newPolling(tls.Client(nc, new(tls.Config)), &o) != nil {
		t.Error("a socket is polled under TLS")
	}
	if newPolling(nc, new(Options)) != nil {
		t.Error("a socket is polled unasked")
	}
}

// TestRunsAreCounted: messages that are taken in together are several frames for polling too.
func TestRunsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echoStreams{}, Options{}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{})
		defer c.Close()
		s, err := c.Open(t.Context(), &transport.Request{Method: "m", Codec: codec.Bytes{}})
		if err != nil {
			t.Fatal(err)
		}
		st := &s.(*clientStream).stream
		var read []byte
		for range 5 {
			read = appendFrame(read, typeData, st.id, 1, 2, 3)
		}
		rd := &reader{l: &c.link, buf: read, w: len(read), handed: 1}
		c.mu.Lock()
		n, e := c.takeRun(st, rd, dataRun)
		c.mu.Unlock()
		if n != 5 || e != nil || rd.handed != 6 || rd.r != len(read) {
			t.Errorf("%d messages, %v; %d frames and %d bytes handed out", n, e, rd.handed, rd.r)
		}
	})
}
