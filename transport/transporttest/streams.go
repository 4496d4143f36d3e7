package transporttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

func runStreams(t *testing.T, h Harness) {
	list := []testCase{
		{"bidirectional", Limits{}, testBidi},
		{"many to one", Limits{}, testCollect},
		{"one to many", Limits{}, testEmit},
		{"error", Limits{}, testStreamError},
		{"cancel", Limits{}, testStreamCancel},
		{"deadline", Limits{}, testStreamDeadline},
		{"large messages", Limits{}, testLargeMessages},
		{"message too large", Limits{MaxMessage: 64 << 10}, testMessageTooLarge},
		{"slow reader", Limits{}, testSlowReader},
		{"panic", Limits{}, testStreamPanic},
		{"cut", Limits{}, testStreamCut},
		{"drain", Limits{}, testStreamDrain},
		{"load", Limits{}, testStreamLoad},
	}
	if h.NoStreams {
		list = []testCase{{"declined", Limits{}, func(t *testing.T, w *world) {
			_, err := w.dial().Open(bg, request("Bidi", ""))
			if err == nil || err.Code != status.Unimplemented || err.Fate != status.NotSent {
				t.Errorf("Open: %v", err)
			}
		}}}
	}
	for _, c := range list {
		t.Run(c.name, func(t *testing.T) {
			run := func(t *testing.T) {
				w := newWorld(t, h, c.limits)
				defer w.stop()
				c.run(t, w)
			}
			if h.Virtual {
				synctest.Test(t, run)
			} else {
				run(t)
			}
		})
	}
}

func open(ctx context.Context, t *testing.T, c transport.Conn, req *transport.Request) transport.ClientStream {
	t.Helper()
	s, err := c.Open(ctx, req)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

func send(t *testing.T, s transport.ClientStream, msg string) {
	t.Helper()
	b := []byte(msg)
	if err := s.Send(&b); err != nil {
		t.Fatalf("send: %v", err)
	}
}

func closeSend(t *testing.T, s transport.ClientStream) {
	t.Helper()
	if err := s.CloseSend(); err != nil {
		t.Errorf("close send: %v", err)
	}
}

func receive(t *testing.T, s transport.ClientStream) string {
	t.Helper()
	var b []byte
	if err := s.Recv(&b); err != nil {
		t.Fatalf("receive: %v", err)
	}
	return string(b)
}

// ended checks that a stream has ended well.
func ended(t *testing.T, s transport.ClientStream) {
	t.Helper()
	var b []byte
	for range 2 {
		if err := s.Recv(&b); !errors.Is(err, io.EOF) {
			t.Fatalf("receive after the end: %v, want io.EOF", err)
		}
	}
	if s.Context().Err() == nil {
		t.Error("the stream has ended and its context has not")
	}
}

// failed receives to the end and returns the status.
func failed(t *testing.T, s transport.ClientStream) *status.Error {
	t.Helper()
	var b []byte
	for {
		if err := s.Recv(&b); err != nil {
			e, ok := errors.AsType[*status.Error](err)
			if !ok {
				t.Fatalf("the stream ended with %v, want an error of the call", err)
			}
			return e
		}
	}
}

func testBidi(t *testing.T, w *world) {
	s := open(bg, t, w.dial(), request("Bidi", ""))
	for i := range 50 {
		msg := strings.Repeat("m", i*7)
		send(t, s, msg)
		if got := receive(t, s); got != msg {
			t.Fatalf("got %q, want %q", got, msg)
		}
	}
	closeSend(t, s)
	var b []byte
	if err := s.Send(&b); err == nil {
		t.Error("sending after CloseSend succeeded")
	}
	ended(t, s)
}

func testCollect(t *testing.T, w *world) {
	s := open(bg, t, w.dial(), request("Collect", ""))
	for range 1000 {
		send(t, s, "12345")
	}
	closeSend(t, s)
	if got := receive(t, s); got != "5000" {
		t.Errorf("got %q", got)
	}
	ended(t, s)
	if s.Trailer().Get("trail") != "sum" {
		t.Errorf("trailer %q", s.Trailer())
	}
}

func testEmit(t *testing.T, w *world) {
	req := request("Emit", "")
	req.Metadata = transport.Metadata{{Key: "say", Value: "hello"}}
	s := open(bg, t, w.dial(), req)
	send(t, s, "300 100")
	closeSend(t, s)
	if h, err := s.Header(); err != nil || h.Get("head") != "hello" {
		t.Errorf("header %q, %v", h, err)
	}
	for range 300 {
		if got := receive(t, s); len(got) != 100 {
			t.Fatalf("got %d bytes", len(got))
		}
	}
	ended(t, s)
}

func testStreamError(t *testing.T, w *world) {
	c := w.dial()
	s := open(bg, t, c, request("Error", ""))
	// Whether the end is known with the header depends on the wire.
	if h, _ := s.Header(); h.Get("head") != "late" {
		t.Errorf("header %q", h)
	}
	err := failed(t, s)
	expect(t, err, status.FailedPrecondition, status.Answered, status.Processed)
	checkRich(t, err)
	if s.Trailer().Get("trail") != "err" {
		t.Errorf("trailer %q", s.Trailer())
	}
	b := []byte("late")
	if err := s.Send(&b); !errors.Is(err, io.EOF) {
		t.Errorf("sending on a stream that has ended: %v, want io.EOF", err)
	}
	s = open(bg, t, c, request("Nothing", ""))
	expect(t, failed(t, s), status.Unimplemented, status.NoMethod, status.NotSent)
}

func testStreamCancel(t *testing.T, w *world) {
	c := w.dial()
	ctx, cancel := context.WithCancel(bg)
	s := open(ctx, t, c, request("Wait", ""))
	<-w.h.started
	cancel() // with nobody in Recv
	if err := <-w.h.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler's context ended with %v", err)
	}
	expect(t, failed(t, s), status.Canceled, status.Cancelled, status.Maybe)
	<-s.Context().Done()
	if c.InFlight() != 0 || !c.Usable() {
		t.Errorf("%d in flight, usable %v", c.InFlight(), c.Usable())
	}
	if _, err := c.Open(ctx, request("Bidi", "")); err == nil || err.Fate != status.NotSent {
		t.Errorf("open with an ended context: %v", err)
	}
}

func testStreamDeadline(t *testing.T, w *world) {
	c := w.dial()
	w.expectDeadline(w.untilDeadline(func(left time.Duration) *status.Error {
		req := request("Wait", "")
		req.Deadline = policy.Now().Add(left)
		s, err := c.Open(bg, req)
		if err != nil {
			return err
		}
		return failed(t, s)
	}))
	w.h.awaitEnd()
}

// Messages far above the windows go through, both ways.
func testLargeMessages(t *testing.T, w *world) {
	s := open(bg, t, w.dial(), request("Bidi", ""))
	for _, size := range []int{40 << 10, 300 << 10, 4 << 20} {
		msg := strings.Repeat("0123456789", size/10+1)[:size]
		send(t, s, msg)
		if got := receive(t, s); got != msg {
			t.Fatalf("%d bytes came back as %d", size, len(got))
		}
	}
	closeSend(t, s)
	ended(t, s)
}

func testMessageTooLarge(t *testing.T, w *world) {
	c := w.dial()
	s := open(bg, t, c, request("Collect", ""))
	b := make([]byte, 64<<10+1)
	err := s.Send(&b)
	if err == nil || err.Code != status.ResourceExhausted || err.Kind != status.TooLarge {
		t.Errorf("sending a message over the limit: %v", err)
	}
	b = b[1:]
	if err := s.Send(&b); err != nil {
		t.Errorf("sending one of just the limit: %v", err)
	}
	closeSend(t, s)
	if got := receive(t, s); got != "65536" {
		t.Errorf("got %q", got)
	}
	ended(t, s)
	req := request("Emit", "")
	req.MaxReply = 1000
	s = open(bg, t, c, req)
	send(t, s, "1 1001")
	expect(t, failed(t, s), status.ResourceExhausted, status.TooLarge, status.Processed)
	if _, _, err := call(bg, c, request("Echo", "x")); err != nil {
		t.Errorf("the connection did not survive: %v", err)
	}
}

// A peer that does not read stops the one who sends, and nobody else on the connection.
func testSlowReader(t *testing.T, w *world) {
	c := w.dial()
	ctx, cancel := context.WithCancel(bg)
	s := open(ctx, t, c, request("Stuck", ""))
	<-w.h.started
	sent := make(chan int, 1)
	go func() {
		b := make([]byte, 10<<10)
		_, _ = rand.NewChaCha8([32]byte{}).Read(b) // windows count bytes on the wire, so that nothing must be gained by compressing
		n := 0
		for s.Send(&b) == nil {
			n += len(b)
		}
		sent <- n
	}()
	for range 20 {
		if _, _, err := call(bg, c, request("Echo", "x")); err != nil {
			t.Error(err)
		}
		other := open(bg, t, c, request("Bidi", ""))
		send(t, other, "ping")
		receive(t, other)
		closeSend(t, other)
		ended(t, other)
	}
	cancel()
	if n := <-sent; n > 8<<20 {
		t.Errorf("%d bytes went to a peer that reads nothing", n)
	}
	expect(t, failed(t, s), status.Canceled, status.Cancelled, status.Maybe)
	w.h.release()
}

func testStreamPanic(t *testing.T, w *world) {
	c := w.dial()
	s := open(bg, t, c, request("Panic", ""))
	expect(t, failed(t, s), status.Internal, status.Panicked, status.Processed)
	if _, _, err := call(bg, c, request("Echo", "")); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

func testStreamCut(t *testing.T, w *world) {
	s := open(bg, t, w.dial(), request("Wait", ""))
	<-w.h.started
	w.cut()
	err := failed(t, s)
	expect(t, err, status.Unavailable, status.Reset, status.Maybe)
	w.h.awaitEnd()
}

func testStreamDrain(t *testing.T, w *world) {
	c := w.dial()
	s := open(bg, t, c, request("Bidi", ""))
	send(t, s, "x")
	receive(t, s)
	drained := make(chan error, 1)
	go func() { drained <- w.server.Drain(bg) }()
	for c.Usable() {
		send(t, s, "still")
		receive(t, s)
	}
	_, err := c.Open(bg, request("Bidi", ""))
	expect(t, err, status.Unavailable, status.Draining, status.NotSent)
	send(t, s, "old streams go on")
	receive(t, s)
	closeSend(t, s)
	ended(t, s)
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

func testStreamLoad(t *testing.T, w *world) {
	c := w.dial()
	var wg sync.WaitGroup
	for g := range 20 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(bg)
			defer cancel()
			s, err := c.Open(ctx, request("Bidi", ""))
			if err != nil {
				t.Error(err)
				return
			}
			wg.Go(func() {
				for i := range 100 {
					b := fmt.Appendf(nil, "%d/%d %s", g, i, strings.Repeat("x", (g*i*37)%9000))
					if err := s.Send(&b); err != nil {
						t.Errorf("stream %d: send %d: %v", g, i, err)
						return
					}
				}
				closeSend(t, s)
			})
			var b []byte
			for i := 0; ; i++ {
				err := s.Recv(&b)
				if errors.Is(err, io.EOF) && i == 100 {
					return
				}
				if err != nil {
					t.Errorf("stream %d: receive %d: %v", g, i, err)
					return
				}
				if want := fmt.Sprintf("%d/%d %s", g, i, strings.Repeat("x", (g*i*37)%9000)); string(b) != want {
					t.Errorf("stream %d: message %d is %q", g, i, b)
				}
			}
		})
	}
	wg.Wait()
	if n := c.InFlight(); n != 0 {
		t.Errorf("%d streams in flight after all have ended", n)
	}
}
