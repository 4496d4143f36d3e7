package muxtransport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

// funcHandler serves unary calls with a function.
type funcHandler func(ctx context.Context, in *transport.Incoming) transport.Outgoing

func (f funcHandler) Unary(ctx context.Context, in *transport.Incoming) transport.Outgoing {
	return f(ctx, in)
}

func (funcHandler) Stream(_ context.Context, _ *transport.Incoming, s transport.ServerStream) transport.Outgoing {
	<-s.Context().Done()
	return transport.Outgoing{}
}

// rig is a server on an in-memory network, inside a bubble.
type rig struct {
	net    *memnet.Network
	server *Server
	stop   func()
}

func newRig(t *testing.T, h transport.Handler, o Options, no memnet.Options) *rig {
	t.Helper()
	o.Logger = slog.New(slog.DiscardHandler)
	s, err := NewServer(h, o)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{net: memnet.New(no), server: s}
	ln, err := r.net.Host("server").Listen(":80")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { s.ServeConn(c) })
		}
	})
	r.stop = func() {
		s.Close()
		ln.Close()
		wg.Wait()
		_ = s.Wait(context.Background())
	}
	return r
}

// raw opens a connection on which the test speaks for the client.
func (r *rig) raw(t *testing.T, first []byte) net.Conn {
	t.Helper()
	c, err := r.net.Host("client").Dial(context.Background(), "server:80")
	if err != nil {
		t.Fatal(err)
	}
	say(t, c, first)
	return c
}

func say(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) dial(t *testing.T, o Options) *clientConn {
	t.Helper()
	o.Dial = r.net.Host("client").Dial
	return dialed(t, o)
}

// dialed returns a connection to server:80.
func dialed(t *testing.T, o Options) *clientConn {
	t.Helper()
	d, err := NewDialer(o)
	if err != nil {
		t.Fatal(err)
	}
	c, serr := d.Dial(context.Background(), "server:80")
	if serr != nil {
		t.Fatal(serr)
	}
	return c.(*clientConn)
}

func unary(c transport.Conn, method string, payload []byte, timeout time.Duration) ([]byte, *status.Error) {
	var out []byte
	req := &transport.Request{Method: method, Codec: codec.Bytes{}, Message: &payload}
	if timeout > 0 {
		req.Deadline = policy.Now().Add(timeout)
	}
	err := c.Call(context.Background(), req, &transport.Reply{Message: &out})
	return out, err
}

// What clients may do wrong, how it ends, how long that takes and which counter tells.
func TestBadClients(t *testing.T) {
	named := callHead{method: 1, name: "a.B/C", codec: "bytes"}
	big := callHead{method: 1, name: "a.B/C", codec: "bytes", total: 5 << 20}
	tests := []struct {
		name   string
		say    []byte
		within time.Duration
		want   string // in the GOAWAY that comes before the end; "" = none
		count  func(Counters) int64
	}{
		{"another protocol", []byte("GET / HTTP/1.1\r\n\r\n"), 0, "", func(c Counters) int64 { return c.HandshakesFailed }},
		{"silence", nil, 5 * time.Second, "", func(c Counters) int64 { return c.HandshakesFailed }},
		{"half a preface", []byte(Magic), 5 * time.Second, "", func(c Counters) int64 { return c.HandshakesFailed }},
		{"no hello", appendFrame(preface{0, 1, 1}.bytes(), typePing, 0), 0, "", func(c Counters) int64 { return c.HandshakesFailed }},
		{"endless hello", append(preface{0, 1, 1}.bytes(), 0xff, 0xff, 0xff, typeHello, 0, 0, 0, 0), 0, "", func(c Counters) int64 { return c.HandshakesFailed }},
		{"frame too long", append(clientScript().b, 0xff, 0xff, 1, typeCall, 0, 0, 1, 0), 0, "none may be longer than 65536", func(c Counters) int64 { return c.ProtocolErrors }},
		{"frame never ends", append(clientScript().b, 100, 0, 0, typeCall, 0, 0, 1, 0), 10 * time.Second, "", func(c Counters) int64 { return c.ReadStalls }},
		{"unknown frame", clientScript().frame(99, 0).b, 0, "frame of type 99", func(c Counters) int64 { return c.ProtocolErrors }},
		{"broken head", clientScript().frame(typeCall, 0, 0xff).b, 0, "malformed", func(c Counters) int64 { return c.ProtocolErrors }},
		{"unknown method number", clientScript().call(typeCall, 0, callHead{method: 7, codec: "json"}, "").b, 0, "method number 7", func(c Counters) int64 { return c.ProtocolErrors }},
		{"id above the limit", clientScript().call(typeCall, 1000, named, "").b, 0, "malformed", func(c Counters) int64 { return c.ProtocolErrors }},
		{"id in use", clientScript().call(typeOpen, 5, named, "").call(typeOpen, 5, callHead{method: 1, codec: "bytes"}, "").b, 0, "in the place of a call under way", func(c Counters) int64 { return c.ProtocolErrors }},
		{"more than announced", clientScript().call(typeCall|flagMore, 5, callHead{method: 1, name: "x", codec: "json", total: 3}, "ab").frame(typePart|flagMore, 5, 1, 2).b, 0, "parts", func(c Counters) int64 { return c.ProtocolErrors }},
		{"window exceeded", overWindow(), 0, "more than the window", func(c Counters) int64 { return c.ProtocolErrors }},
		{"names without end", longNames(maxMethodBytes/maxNameLen + 1), 0, "names of methods", func(c Counters) int64 { return c.ProtocolErrors }},
		{"ping flood", pings(2 * pingsPerSecond), 0, "pings in a second", func(c Counters) int64 { return c.PingFloods }},
		{"announced too large", clientScript().call(typeCall|flagMore, 5, big, "x").b, 62 * time.Second, "", func(c Counters) int64 { return c.TooLarge }},
		{"no answer to pings", clientScript().b, 62 * time.Second, "", func(c Counters) int64 { return c.KeepaliveStalls }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, drainHandler{}, Options{}, memnet.Options{})
				defer r.stop()
				began := time.Now()
				c := r.raw(t, tt.say)
				defer c.Close()
				heard, err := io.ReadAll(c)
				if err != nil && !strings.Contains(err.Error(), "reset") {
					t.Error(err)
				}
				if took := time.Since(began); took > tt.within || took < tt.within-time.Second {
					t.Errorf("the connection ended after %v, want %v", took, tt.within)
				}
				if !bytes.Contains(heard, []byte(tt.want)) {
					t.Errorf("the server said %q before it closed, want %q", heard, tt.want)
				}
				synctest.Wait()
				if n := tt.count(r.server.Counters()); n != 1 {
					t.Errorf("counted %d times: %+v", n, r.server.Counters())
				}
				if n := r.server.Counters().Conns; n != 0 {
					t.Errorf("%d connections are open", n)
				}
			})
		})
	}
}

func overWindow() []byte {
	s := clientScript().call(typeOpen, 5, callHead{method: 1, name: "deaf", codec: "bytes"}, "")
	for range 5 {
		s.frame(typeData, 5, make([]byte, 60<<10)...)
	}
	return s.b
}

// longNames calls so many methods, each of which is to be remembered.
func longNames(n int) []byte {
	s := clientScript()
	for i := range n {
		s.call(typeCall, 1<<16, callHead{method: uint32(i + 1), name: longName(i), codec: "bytes"}, "")
	}
	return s.b
}

// longName is the name of a method, as long as it may be.
func longName(i int) string { return fmt.Sprintf("%0*d", maxNameLen, i) }

func pings(n int) []byte {
	s := clientScript()
	for range n {
		s.frame(typePing, 0, 1, 2, 3, 4, 5, 6, 7, 8)
	}
	return s.b
}

// What a client is told by servers that are not what it expects.
func TestBadServers(t *testing.T) {
	tests := []struct {
		name string
		say  []byte
		kind status.Kind
		want string
	}{
		{"another protocol", []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), status.Handshake, "does not speak this protocol"},
		{"newer versions only", preface{0, 2, 3}.bytes(), status.Handshake, "the server speaks 2 to 3, this client 1 to 1"},
		{"hangs up", nil, status.Dial, "EOF"},
		{"no hello", append(preface{1, 1, 1}.bytes(), make([]byte, headerLen)...), status.Handshake, "HELLO was expected"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			nc := &scriptConn{in: bytes.NewReader(tt.say), closed: make(chan struct{})}
			d, err := NewDialer(Options{Dial: func(context.Context, string) (net.Conn, error) { return nc, nil }})
			if err != nil {
				t.Fatal(err)
			}
			_, serr := d.Dial(context.Background(), "x:1")
			if serr == nil || serr.Kind != tt.kind || serr.Fate != status.NotSent || !strings.Contains(serr.Error(), tt.want) {
				t.Errorf("got %v, want a %v error that says %q", serr, tt.kind, tt.want)
			}
			if d.Counters().HandshakesFailed != 1 {
				t.Error("not counted")
			}
		})
	}
}

func TestDialGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Options{})
		ln, err := n.Host("server").Listen(":80") // accepts nothing, says nothing
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		d, err := NewDialer(Options{Dial: n.Host("client").Dial})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, serr := d.Dial(ctx, "server:80")
		if serr == nil || serr.Kind != status.Dial || serr.Fate != status.NotSent || time.Since(began) != 300*time.Millisecond {
			t.Errorf("after %v: %v", time.Since(began), serr)
		}
	})
}

// A client that takes no answers is cut off after the write timeout, and until then costs no more than its window.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, drainHandler{}, Options{}, memnet.Options{Buffer: 64 << 10})
		defer r.stop()
		c := r.raw(t, clientScript().call(typeCall, 0, callHead{method: 1, name: "m", codec: "bytes"}, "").b)
		defer c.Close()
		sent := 0
		var s script
		for i := range 100000 {
			s.b = s.b[:0]
			s.call(typeCall, uint32(i%1000), callHead{method: 1, codec: "bytes"}, strings.Repeat("x", 1000))
			n, err := c.Write(s.b)
			sent += n
			if err != nil {
				break
			}
		}
		synctest.Wait()
		if n := r.server.Counters().WriteStalls; n != 1 {
			t.Errorf("%d write stalls: %+v", n, r.server.Counters())
		}
		// A thousand calls wait with their answers, and what is above that is refused until 128 KiB of refusals wait too.
		if sent > 5<<20 {
			t.Errorf("the server took %d bytes from a client that takes no answers", sent)
		}
	})
}

// A caller that happens to be the one that writes does not stay longer than its deadline when the peer stops reading.
func TestWriterKeepsItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, drainHandler{}, Options{}, memnet.Options{Buffer: 16 << 10})
		defer r.stop()
		c := r.dial(t, Options{})
		defer c.Close()
		r.net.Host("server").Freeze()
		for i := range 20 {
			began := time.Now()
			_, err := unary(c, "m", make([]byte, 100<<10), 100*time.Millisecond)
			if took := time.Since(began); took > 105*time.Millisecond {
				t.Fatalf("call %d returned after %v: %v", i, took, err)
			}
			if err == nil || err.Code != status.DeadlineExceeded {
				t.Fatalf("call %d: %v", i, err)
			}
			if i >= 5 && err.Fate != status.NotSent {
				t.Errorf("call %d is behind a full buffer and its fate is %v", i, err.Fate)
			}
		}
		c.mu.Lock()
		if len(c.buf) > 2*pendingLimit {
			t.Errorf("%d bytes wait", len(c.buf))
		}
		c.mu.Unlock()
		r.net.Host("server").Thaw()
		time.Sleep(time.Second)
		if _, err := unary(c, "m", []byte("x"), time.Second); err != nil {
			t.Errorf("after the pause: %v", err)
		}
		if c.sh.handedOver.Load() == 0 {
			t.Error("no write was handed over")
		}
	})
}

// A peer that vanishes without a word is noticed: soon with calls under way, after a minute without.
func TestVanishedPeer(t *testing.T) {
	tests := []struct {
		name   string
		calls  int
		within time.Duration
	}{{"with a call", 1, 3*time.Second + 100*time.Millisecond}, {"idle", 0, 62*time.Second + 100*time.Millisecond}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, drainHandler{}, Options{}, memnet.Options{})
				defer r.stop()
				c := r.dial(t, Options{})
				defer c.Close()
				if _, err := unary(c, "m", nil, time.Second); err != nil {
					t.Fatal(err)
				}
				r.net.Pair("client", "server").Drop(true)
				began := time.Now()
				for range tt.calls {
					_, err := unary(c, "m", nil, time.Minute)
					if err == nil || err.Kind != status.Reset || err.Fate != status.Maybe {
						t.Errorf("the call ended with %v", err)
					}
				}
				<-c.Done()
				if took := time.Since(began); took > tt.within {
					t.Errorf("noticed after %v, want %v", took, tt.within)
				}
				if c.sh.keepaliveStalls.Load() != 1 {
					t.Error("not counted")
				}
			})
		})
	}
}

// Two healthy ends keep an idle connection for ever, and keep no buffers for it.
func TestIdleConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, drainHandler{}, Options{}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{})
		defer c.Close()
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				if _, err := unary(c, "m", make([]byte, 1000), time.Second); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		time.Sleep(3 * time.Second)
		for _, sc := range r.server.all() {
			checkIdle(t, &sc.link)
			sc.mu.Lock()
			if sc.answers != nil {
				t.Errorf("an idle connection has room for %d bytes of answers", cap(sc.answers))
			}
			if sc.appended == 0 || sc.appended != sc.taken {
				t.Errorf("%d bytes were to be sent, and %d were", sc.appended, sc.taken)
			}
			sc.mu.Unlock()
		}
		checkIdle(t, &c.link)
		time.Sleep(10 * time.Minute)
		if !c.Usable() || r.server.Counters().Conns != 1 {
			t.Error("the connection is gone")
		}
		if _, err := unary(c, "m", []byte("x"), time.Second); err != nil {
			t.Error(err)
		}
	})
}

func checkIdle(t *testing.T, l *link) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fat.Load() || l.buf != nil || l.spare != nil {
		t.Errorf("an idle connection has a borrowed read buffer (%v) and write buffers of %d and %d bytes", l.fat.Load(), cap(l.buf), cap(l.spare))
	}
	if l.entry.hot.Load() {
		t.Error("an idle connection is being watched")
	}
}

// Calls that nobody waits for any more do not start.
func TestDeadOnArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran atomic.Int32
		r := newRig(t, funcHandler(func(context.Context, *transport.Incoming) transport.Outgoing {
			ran.Add(1)
			time.Sleep(50 * time.Millisecond)
			return transport.Outgoing{Codec: codec.Bytes{}, Message: []byte(nil)}
		}), Options{}, memnet.Options{})
		defer r.stop()
		late := callHead{method: 1, codec: "bytes", hasDeadline: true}
		c := r.raw(t, clientScript().call(typeCall, 0, callHead{method: 1, name: "m", codec: "bytes", hasDeadline: true}, "").
			call(typeOpen, 1, late, "").b)
		defer c.Close()
		time.Sleep(settleTime / 2) // not long enough for the connection to let its buffer go
		if ran.Load() != 0 || r.server.Counters().Expired != 2 {
			t.Errorf("%d handlers ran, %d calls expired", ran.Load(), r.server.Counters().Expired)
		}
		// Behind a handler that held the reader: by the time another goroutine reads on, 1 ms has passed.
		soon := callHead{method: 1, codec: "bytes", hasDeadline: true, timeout: 500 * time.Microsecond}
		var s script
		s.call(typeCall, 0, callHead{method: 1, codec: "bytes"}, "").call(typeCall, 1, soon, "")
		say(t, c, s.b)
		time.Sleep(time.Second)
		if n := r.server.Counters(); ran.Load() != 1 || n.Expired != 3 || n.Takeovers != 1 {
			t.Errorf("%d handlers ran: %+v", ran.Load(), n)
		}
		// Cancelled before it started.
		s.b = nil
		s.call(typeCall|flagMore, 2, callHead{method: 1, codec: "bytes", total: 10}, "x").frame(typeCancel, 2).frame(typePart, 2, make([]byte, 9)...)
		say(t, c, s.b)
		time.Sleep(time.Second)
		if n := r.server.Counters(); ran.Load() != 1 || n.Abandoned != 1 {
			t.Errorf("%d handlers ran: %+v", ran.Load(), n)
		}
	})
}

// Handlers that ignore that their caller has gone count until they return, so cancelling does not make room for more.
func TestRapidCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		running, most := 0, 0
		var mu sync.Mutex
		r := newRig(t, funcHandler(func(context.Context, *transport.Incoming) transport.Outgoing {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			<-gate
			return transport.Outgoing{Codec: codec.Bytes{}, Message: []byte(nil)}
		}), Options{MaxCalls: 10}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{})
		defer c.Close()
		shed := 0
		for range 100 {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
			var b []byte
			err := c.Call(ctx, &transport.Request{Method: "m", Codec: codec.Bytes{}, Message: b}, &transport.Reply{Message: &b})
			cancel()
			if err == nil {
				t.Fatal("a blocked handler answered")
			}
			if err.Kind == status.Shed && err.Fate == status.NotSent {
				shed++
			}
		}
		mu.Lock()
		if most > 10 || shed != 90 {
			t.Errorf("%d handlers ran at a time with a limit of 10, %d calls were shed", most, shed)
		}
		mu.Unlock()
		close(gate)
		time.Sleep(time.Second)
		// The handlers answered calls whose places in the table others have by now: nobody may get those answers.
		if n := c.InFlight(); n != 0 {
			t.Errorf("%d in flight", n)
		}
		if _, err := unary(c, "m", nil, time.Second); err != nil {
			t.Error(err)
		}
	})
}

// A method that holds the reader up is kept away from it for longer each time; a quick one beside it is not.
func TestPenaltyGrows(t *testing.T) {
	m := new(method)
	now := policy.Time(1)
	var got []time.Duration
	for range 8 {
		m.punish(now)
		got = append(got, time.Duration(m.goUntil.Load()-int64(now)))
		if m.inlineAt(now) {
			t.Error("on the reader right after holding it up")
		}
		now = policy.Time(m.goUntil.Load())
		if !m.inlineAt(now) {
			t.Error("not tried again")
		}
	}
	want := "[10ms 40ms 160ms 640ms 2.56s 10s 10s 10s]"
	if fmt.Sprint(got) != want {
		t.Errorf("penalties %v, want %s", got, want)
	}
	now = now.Add(time.Minute)
	m.punish(now)
	if !m.inlineAt(now) {
		t.Error("what happens once a minute is punished")
	}
	m.punish(now.Add(forgiven / 2))
	if got := time.Duration(m.penalty.Load()); got != minPenalty {
		t.Errorf("the second time in a row the penalty is %v, want %v", got, minPenalty)
	}
	now = policy.Time(m.goUntil.Load())
	for range 20 {
		m.note(time.Millisecond)
	}
	if m.inlineAt(now) {
		t.Error("a method that takes 1 ms runs on the reader")
	}
	for range 60 {
		m.note(time.Microsecond)
	}
	if !m.inlineAt(now) {
		t.Error("a method that has become quick does not run on the reader")
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{MaxMessage: -1}, {MaxHeader: 1 << 20}, {MaxCalls: 1 << 20}, {StreamWindow: 1}, {ConnWindow: -5}, {MaxBuffered: -1},
		{HandshakeTimeout: -1}, {KeepaliveIdle: -1}, {WriteTimeout: -time.Second}} {
		if _, err := NewDialer(o); err == nil {
			t.Errorf("NewDialer accepts %+v", o)
		}
		if _, err := NewServer(drainHandler{}, o); err == nil {
			t.Errorf("NewServer accepts %+v", o)
		}
	}
}

func TestPresentable(t *testing.T) {
	below := &status.Error{Code: status.Unavailable, Kind: status.Shed, Fate: status.NotSent, Origin: status.Downstream}
	if e := presentable(below); e.Fate != status.Processed || e.Kind != status.Answered {
		t.Errorf("a refusal of a node below travels as %v, %v", e.Kind, e.Fate)
	}
	if e := presentable(&status.Error{Code: status.OK, Cause: errors.New("why")}); e.Code != status.Unknown || e.Message != "why" {
		t.Errorf("an error without a code travels as %v", e)
	}
	long := &status.Error{Code: status.Internal, Message: strings.Repeat("x", 1<<20)}
	for range 100 {
		long.Details = append(long.Details, status.Detail{TypeURL: "t", Value: make([]byte, 1<<10)})
	}
	h := answerHead{status: presentable(long)}
	if n := len(h.append(nil, nil)); n > maxStatus+1<<10 {
		t.Errorf("a status of %d bytes travels", n)
	}
	if len(long.Details) != 100 || len(long.Message) != 1<<20 {
		t.Error("the handler's own error was changed")
	}
}

// A message that is cut stays text, and one whose details were left out says so.
func TestPresentableIsText(t *testing.T) {
	for i := range 4 {
		said := strings.Repeat("x", i) + strings.Repeat("é€", maxStatus)
		if e := presentable(&status.Error{Code: status.Internal, Message: said}); !utf8.ValidString(e.Message) || len(e.Message) < maxStatus/2 {
			t.Errorf("%d: the message of %d bytes ends in % x", i, len(e.Message), e.Message[len(e.Message)-8:])
		}
	}
	if e := presentable(&status.Error{Code: status.Internal, Message: strings.Repeat("\x80", maxStatus)}); len(e.Message) != maxStatus/2+len("…") {
		t.Errorf("of what is no text %d bytes are left", len(e.Message))
	}
	small, large := status.Detail{TypeURL: "small", Value: []byte{1}}, status.Detail{TypeURL: "large", Value: make([]byte, maxStatus)}
	for _, tt := range []struct {
		message string
		details []status.Detail
		kept    int
		want    string
	}{
		{"no", []status.Detail{small, small}, 2, "no"},
		{"no", []status.Detail{small, large, small}, 1, "no (details left out: 16411 bytes, at most 16384 with the message)"},
		{"", []status.Detail{large}, 0, "details left out: 16397 bytes, at most 16384 with the message"},
	} {
		e := presentable(&status.Error{Code: status.FailedPrecondition, Message: tt.message, Details: tt.details})
		if e.Message != tt.want || len(e.Details) != tt.kept {
			t.Errorf("%d details with %q are %d with %q", len(tt.details), tt.message, len(e.Details), e.Message)
		}
	}
}

// What waits for its handler or for its remaining parts is bounded in bytes, not only in number.
func TestBufferedBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		r := newRig(t, funcHandler(func(context.Context, *transport.Incoming) transport.Outgoing {
			<-gate
			return transport.Outgoing{Codec: codec.Bytes{}, Message: []byte(nil)}
		}), Options{MaxBuffered: 1 << 20}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{})
		defer c.Close()
		var wg sync.WaitGroup
		var ok, shed atomic.Int32
		for range 20 {
			wg.Go(func() {
				_, err := unary(c, "m", make([]byte, 100<<10), time.Minute)
				switch {
				case err == nil:
					ok.Add(1)
				case err.Kind == status.Shed && err.Fate == status.NotSent:
					shed.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		time.Sleep(time.Second)
		close(gate)
		wg.Wait()
		if ok.Load() != 10 || shed.Load() != 10 {
			t.Errorf("%d calls succeeded and %d were shed; 1 MiB holds 10 of 100 KiB", ok.Load(), shed.Load())
		}
		synctest.Wait()
		for _, sc := range r.server.all() {
			sc.mu.Lock()
			if sc.buffered != 0 || sc.running != 0 {
				t.Errorf("%d bytes and %d handlers are still counted", sc.buffered, sc.running)
			}
			sc.mu.Unlock()
		}
	})
}

// Calls above the count of GOAWAY end at once and may be repeated; those below go on. Then the client hangs up.
func TestGoAwayCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Options{})
		ln, err := n.Host("server").Listen(":80")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		d, err := NewDialer(Options{Dial: n.Host("client").Dial})
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() {
			nc, err := ln.Accept()
			if err != nil {
				served <- err
				return
			}
			defer nc.Close()
			say(t, nc, serverScript().b)
			time.Sleep(time.Second) // both calls have been sent
			say(t, nc, appendGoAway(nil, 1, goAwayDraining, "bye"))
			time.Sleep(time.Second)
			say(t, nc, new(script).answer(typeAnswer, 1<<16, answerHead{}, "late").b)
			_, err = io.Copy(io.Discard, nc)
			served <- err
		}()
		c, serr := d.Dial(context.Background(), "server:80")
		if serr != nil {
			t.Fatal(serr)
		}
		began := time.Now()
		first := make(chan *status.Error, 1)
		go func() {
			out, err := unary(c, "m", nil, time.Minute)
			if string(out) != "late" {
				t.Errorf("the accepted call got %q", out)
			}
			first <- err
		}()
		synctest.Wait()
		_, serr = unary(c, "m", nil, time.Minute)
		if serr == nil || serr.Kind != status.Draining || serr.Fate != status.NotSent || time.Since(began) != time.Second {
			t.Errorf("the call that was not accepted, after %v: %v", time.Since(began), serr)
		}
		if serr := <-first; serr != nil {
			t.Errorf("the accepted call: %v", serr)
		}
		<-c.Done()
		if err := <-served; err != nil {
			t.Errorf("the client did not close properly: %v", err)
		}
	})
}
