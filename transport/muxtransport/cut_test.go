package muxtransport_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	"github.com/hull-go/hull/transport/muxtransport"
)

// runsHandler notes which requests started, and takes its time over those that say so.
type runsHandler struct {
	mu   sync.Mutex
	runs map[string]int
}

func (h *runsHandler) start(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runs[key]++
}

func (h *runsHandler) ran(key string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.runs[key]
}

func (h *runsHandler) Unary(_ context.Context, in *transport.Incoming) transport.Outgoing {
	h.start(strings.TrimRight(string(in.Payload), "."))
	if in.Method == "slow" {
		time.Sleep(10 * time.Millisecond)
	}
	return transport.Outgoing{Codec: codec.Bytes{}, Message: &in.Payload}
}

func (h *runsHandler) Stream(_ context.Context, in *transport.Incoming, s transport.ServerStream) transport.Outgoing {
	h.start(in.Metadata.Get("key"))
	s.SetCodec(codec.Bytes{})
	var b []byte
	for s.Recv(&b) == nil {
		if err := s.Send(&b); err != nil {
			return transport.Outgoing{Status: err}
		}
	}
	return transport.Outgoing{}
}

// lab is a client and a server on an in-memory network, inside a bubble.
type lab struct {
	net    *memnet.Network
	up     *memnet.Link // client to server
	down   *memnet.Link
	server *muxtransport.Server
	dialer *muxtransport.Dialer
	close  func()
}

func newLab(t *testing.T, h transport.Handler, client, server muxtransport.Options) *lab {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	l := &lab{net: memnet.New(memnet.Options{})}
	l.up, l.down = l.net.Link("client", "server"), l.net.Link("server", "client")
	ln, err := l.net.Host("server").Listen(":80")
	if err != nil {
		t.Fatal(err)
	}
	server.Logger = quiet
	if l.server, err = muxtransport.NewServer(h, server); err != nil {
		t.Fatal(err)
	}
	client.Dial = l.net.Host("client").Dial
	if l.dialer, err = muxtransport.NewDialer(client); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { l.server.ServeConn(c) })
		}
	})
	l.close = func() {
		l.server.Close()
		ln.Close()
		wg.Wait()
		time.Sleep(time.Second) // handlers that are still asleep
	}
	return l
}

func (l *lab) dial(t *testing.T) transport.Conn {
	t.Helper()
	c, err := l.dialer.Dial(context.Background(), "server:80")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// oneCall makes a call with a payload that begins with key.
func oneCall(c transport.Conn, method, key string, size int) *status.Error {
	b := []byte(key + strings.Repeat(".", max(size-len(key), 0)))
	var out []byte
	return c.Call(context.Background(), &transport.Request{Method: method, Codec: codec.Bytes{}, Message: &b,
		Deadline: policy.Now().Add(time.Second)}, &transport.Reply{Message: &out})
}

// cuts are the ways in which a connection can break after a number of bytes.
var cuts = []struct {
	name string
	cut  func(l *lab, n int64)
	// sure: the client's system says how many bytes it took, so that an incomplete request is known not to have been sent.
	sure bool
}{
	{"to the server, seen by the writer", func(l *lab, n int64) { l.up.BreakAfter(n) }, true},
	{"to the server, in flight", func(l *lab, n int64) { l.up.CutAfter(n) }, false},
	{"to the client", func(l *lab, n int64) { l.down.CutAfter(n) }, false},
	{"to the client, seen by the writer", func(l *lab, n int64) { l.down.BreakAfter(n) }, false},
}

// A connection cut after any byte ends its call exactly once, with a status that is true.
func TestCutAtEachByte(t *testing.T) {
	for _, cut := range cuts {
		for _, v := range []struct {
			calls int
			lone  bool // callers read themselves from the first call on
		}{{1, false}, {5, false}, {1, true}, {5, true}} {
			t.Run(fmt.Sprintf("%s, %d calls, lone %v", cut.name, v.calls, v.lone), func(t *testing.T) {
				clean := false
				n := int64(0)
				for ; !clean; n++ {
					if n > 2000 {
						t.Fatal("no connection survived")
					}
					synctest.Test(t, func(t *testing.T) { clean = cutOnce(t, cut.cut, cut.sure, n, v.calls, v.lone) })
				}
				if n < 20 {
					t.Errorf("calls went through although the connection was cut after %d bytes", n-1)
				}
			})
		}
	}
}

// oneRequest is the size of the frame of a call that uses a method for the first time: header, flags, method number,
// name, codec, deadline, payload.
const oneRequest = 8 + 1 + 1 + 6 + 1 + 3 + 30

// cutOnce makes calls on a connection that breaks after n bytes. It reports whether all of them succeeded.
func cutOnce(t *testing.T, cut func(*lab, int64), sure bool, n int64, calls int, lone bool) bool {
	h := &runsHandler{runs: map[string]int{}}
	l := newLab(t, h, muxtransport.Options{}, muxtransport.Options{})
	defer l.close()
	if lone {
		muxtransport.LoneAtOnce(l.dialer)
	}
	c := l.dial(t)
	defer c.Close()
	synctest.Wait()
	cut(l, n)
	errs := make([]*status.Error, calls)
	var wg sync.WaitGroup
	for i := range calls {
		method := "quick"
		if i%2 == 1 {
			method = "slow"
		}
		wg.Go(func() { errs[i] = oneCall(c, method, fmt.Sprint("call ", i), 30) })
	}
	wg.Wait()
	smallest := int64(oneRequest) // of several calls most need not name their method
	if calls > 1 {
		smallest -= 6
	}
	clean := true
	for i, err := range errs {
		runs := h.ran(fmt.Sprint("call ", i))
		if runs > 1 {
			t.Errorf("cut at %d: call %d ran %d times", n, i, runs)
		}
		if err == nil {
			if runs != 1 {
				t.Errorf("cut at %d: call %d succeeded and ran %d times", n, i, runs)
			}
			continue
		}
		clean = false
		if err.Fate == status.NotSent && runs != 0 {
			t.Errorf("cut at %d: call %d is said not to be sent and ran: %v", n, i, err)
		}
		if err.Fate == status.Processed {
			t.Errorf("cut at %d: call %d is said to be answered: %v", n, i, err)
		}
		if sure && n < smallest && (err.Fate != status.NotSent || err.Kind != status.Unsent) {
			t.Errorf("cut at %d: call %d was not sent whole and its error does not say so: %v (%v)", n, i, err, err.Fate)
		}
		if sure && n >= oneRequest*int64(calls) && err.Fate == status.NotSent {
			t.Errorf("cut at %d: call %d was sent whole and is said not to be", n, i)
		}
		if runs == 1 && err.Kind != status.Reset {
			t.Errorf("cut at %d: call %d ended with kind %v, want reset", n, i, err.Kind)
		}
	}
	if c.InFlight() != 0 {
		t.Errorf("cut at %d: %d calls are in flight", n, c.InFlight())
	}
	return clean
}

// The same for a request and an answer in parts, around the frames' borders.
func TestCutLargeMessage(t *testing.T) {
	const size = 100 << 10
	for _, cut := range cuts {
		t.Run(cut.name, func(t *testing.T) {
			for _, n := range []int64{0, 1, 100, 32 << 10, 32<<10 + 8, 32<<10 + 40, 64 << 10, 96 << 10, 96<<10 + 20, size - 1, size, size + 20, size + 40, size + 60, size + 100} {
				synctest.Test(t, func(t *testing.T) {
					h := &runsHandler{runs: map[string]int{}}
					l := newLab(t, h, muxtransport.Options{}, muxtransport.Options{})
					defer l.close()
					c := l.dial(t)
					defer c.Close()
					cut.cut(l, n)
					err := oneCall(c, "quick", "call", size)
					runs := h.ran("call")
					if err != nil && err.Fate == status.NotSent && runs != 0 || err == nil && runs != 1 {
						t.Errorf("cut at %d: ran %d times: %v", n, runs, err)
					}
					if err == nil && n < size {
						t.Errorf("cut at %d: the call succeeded", n)
					}
				})
			}
		})
	}
}

// openFrame is the size of the OPEN of cutStream: header, flags, method number, name, codec, deadline, metadata.
const openFrame = 8 + 1 + 1 + 7 + 1 + 3 + 12

// A stream is Maybe from its opening frame on, and NotSent before.
func TestCutStreamAtEachByte(t *testing.T) {
	for _, cut := range cuts {
		t.Run(cut.name, func(t *testing.T) {
			for n := int64(0); n < 150; n++ {
				synctest.Test(t, func(t *testing.T) {
					h := &runsHandler{runs: map[string]int{}}
					l := newLab(t, h, muxtransport.Options{}, muxtransport.Options{})
					defer l.close()
					c := l.dial(t)
					defer c.Close()
					cut.cut(l, n)
					err := cutStream(c)
					if err != nil && err.Fate == status.NotSent && h.ran("stream") != 0 {
						t.Errorf("cut at %d: the stream is said not to be sent and ran: %v", n, err)
					}
					if cut.sure && n < openFrame && (err == nil || err.Fate != status.NotSent) {
						t.Errorf("cut at %d: the stream was not opened and its error does not say so: %v", n, err)
					}
					if c.InFlight() != 0 {
						t.Errorf("cut at %d: %d streams are in flight", n, c.InFlight())
					}
				})
			}
		})
	}
}

// cutStream sends and receives two messages and returns how the stream ended.
func cutStream(c transport.Conn) *status.Error {
	s, err := c.Open(context.Background(), &transport.Request{Method: "stream", Codec: codec.Bytes{},
		Metadata: transport.Metadata{{Key: "key", Value: "stream"}}, Deadline: policy.Now().Add(time.Second)})
	if err != nil {
		return err
	}
	b := []byte("message")
	for range 2 {
		if s.Send(&b) != nil {
			break
		}
	}
	_ = s.CloseSend() // the stream may be over
	for {
		if err := s.Recv(&b); err != nil {
			if e, ok := errors.AsType[*status.Error](err); ok {
				return e
			}
			return nil
		}
	}
}

// A connection cut in the handshake fails the dial, and nothing is left of it.
func TestCutInHandshake(t *testing.T) {
	for _, cut := range cuts {
		t.Run(cut.name, func(t *testing.T) {
			for n := int64(0); n < 25; n++ {
				synctest.Test(t, func(t *testing.T) {
					l := newLab(t, echoHandler{}, muxtransport.Options{}, muxtransport.Options{})
					defer l.close()
					cut.cut(l, n)
					c, err := l.dialer.Dial(context.Background(), "server:80")
					if err == nil {
						c.Close()
						t.Fatalf("cut at %d: dialling succeeded", n)
					}
					if err.Fate != status.NotSent || err.Kind != status.Handshake && err.Kind != status.Dial {
						t.Errorf("cut at %d: %v (%v)", n, err, err.Fate)
					}
				})
			}
		})
	}
}
