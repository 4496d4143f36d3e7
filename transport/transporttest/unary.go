package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// cases are the properties of unary calls and connections.
func cases() []testCase {
	return []testCase{
		{"echo", Limits{}, testEcho},
		{"request facts", Limits{}, testFacts},
		{"metadata", Limits{}, testMetadata},
		{"error", Limits{}, testError},
		{"false claims", Limits{}, testFalseClaims},
		{"unknown method", Limits{}, testUnknownMethod},
		{"encoding fails", Limits{}, testEncodingFails},
		{"deadline", Limits{}, testDeadline},
		{"deadline of the context", Limits{}, testContextDeadline},
		{"late before it starts", Limits{}, testLateAtStart},
		{"deadline in the handler", Limits{}, testHandlerDeadline},
		{"cancel", Limits{}, testCancel},
		{"cancel before", Limits{}, testCancelBefore},
		{"sizes", Limits{}, testSizes},
		{"request too large", Limits{MaxMessage: 100 << 10}, testRequestTooLarge},
		{"answer too large", Limits{}, testAnswerTooLarge},
		{"metadata too large", Limits{MaxHeader: 1 << 10}, testMetadataTooLarge},
		{"calls at the limit", Limits{MaxCalls: 8}, testCallLimit},
		{"blocked handler", Limits{}, testBlockedHandler},
		{"panic", Limits{}, testPanic},
		{"goexit", Limits{}, testGoexit},
		{"cut", Limits{}, testCut},
		{"close", Limits{}, testClose},
		{"server closes", Limits{}, testServerClose},
		{"drain the server", Limits{}, testDrainServer},
		{"drain in vain", Limits{}, testDrainTimeout},
		{"drain the connection", Limits{}, testDrainConn},
		{"dial refused", Limits{}, testDialRefused},
		{"load", Limits{}, testLoad},
	}
}

var bg = context.Background()

func testEcho(t *testing.T, w *world) {
	c := w.dial()
	for _, payload := range []string{"", "ahoy", strings.Repeat("x", 5000)} {
		got, _, err := call(bg, c, request("Echo", payload))
		if err != nil || got != payload {
			t.Fatalf("got %d bytes, %v; sent %d", len(got), err, len(payload))
		}
	}
	if !c.Usable() || c.InFlight() != 0 {
		t.Errorf("usable %v, %d in flight; want true, 0", c.Usable(), c.InFlight())
	}
}

func testFacts(t *testing.T, w *world) {
	c := w.dial()
	req := request("Echo", "x")
	req.PathAttempt, req.Criticality = 3, policy.Sheddable
	before := policy.Now()
	if _, _, err := call(bg, c, req); err != nil {
		t.Fatal(err)
	}
	in := w.h.seen()
	if in.Method != "test.Suite/Echo" || in.Codec != "bytes" || in.PathAttempt != 3 || in.Criticality != policy.Sheddable {
		t.Errorf("the server saw %q, codec %q, attempt %d, %v", in.Method, in.Codec, in.PathAttempt, in.Criticality)
	}
	if in.Received < before || in.Peer == nil {
		t.Errorf("received %d before it was sent at %d, or from nobody (%v)", in.Received, before, in.Peer)
	}
	if left := in.Deadline.Sub(in.Received); left <= 0 || left > 20*time.Second {
		t.Errorf("the server saw %v left of 20 s", left)
	}
	req = request("Echo", "x")
	req.Deadline = 0
	if _, _, err := call(bg, c, req); err != nil {
		t.Fatal(err)
	}
	if in := w.h.seen(); in.Deadline != 0 || in.PathAttempt != 1 || in.Criticality != policy.Critical {
		t.Errorf("the server saw deadline %d, attempt %d, %v; none was given", in.Deadline, in.PathAttempt, in.Criticality)
	}
}

func testMetadata(t *testing.T, w *world) {
	c := w.dial()
	req := request("Meta", "")
	req.Metadata = transport.Metadata{{Key: "say", Value: "hello"}, {Key: "x-bin", Value: "\x00\x01\xfe"}, {Key: "say", Value: "again"}}
	_, rep, err := call(bg, c, req)
	if err != nil {
		t.Fatal(err)
	}
	got, want := w.h.seen().Metadata, req.Metadata
	if w.can.Unordered {
		got, want = byKey(got), byKey(want)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the server saw %q, want %q", got, want)
	}
	if rep.Header.Get("head") != "hello" || rep.Header.Get("n") != "3" || rep.Trailer.Get("trail-bin") != "\x00\xff" || rep.Load.InFlight != 7 {
		t.Errorf("got header %q, trailer %q, load %v", rep.Header, rep.Trailer, rep.Load)
	}
}

// byKey sorts metadata by its keys; values of one key keep their order.
func byKey(m transport.Metadata) transport.Metadata {
	m = slices.Clone(m)
	slices.SortStableFunc(m, func(a, b transport.Field) int { return strings.Compare(a.Key, b.Key) })
	return m
}

func testError(t *testing.T, w *world) {
	c := w.dial()
	_, rep, err := call(bg, c, request("Error", ""))
	expect(t, err, status.FailedPrecondition, status.Answered, status.Processed)
	checkRich(t, err)
	if rep.Trailer.Get("trail") != "err" {
		t.Errorf("trailer %q", rep.Trailer)
	}
}

func checkRich(t *testing.T, err *status.Error) {
	t.Helper()
	want := richError()
	if err.Message != want.Message || err.Origin != want.Origin || err.Pushback != want.Pushback || fmt.Sprint(err.Details) != fmt.Sprint(want.Details) {
		t.Errorf("got %+v, want %+v", err, want)
	}
}

func testFalseClaims(t *testing.T, w *world) {
	c := w.dial()
	// A handler that passes an error of its own call on has run: NotSent would have it run again.
	_, _, err := call(bg, c, request("Lie", ""))
	expect(t, err, status.Unavailable, status.Answered, status.Processed)
	// One that sheds says so.
	_, _, err = call(bg, c, request("Shed", ""))
	expect(t, err, status.ResourceExhausted, status.Shed, status.NotSent)
}

func testUnknownMethod(t *testing.T, w *world) {
	_, _, err := call(bg, w.dial(), request("Nothing", ""))
	expect(t, err, status.Unimplemented, status.NoMethod, status.NotSent)
}

func testEncodingFails(t *testing.T, w *world) {
	c := w.dial()
	req := request("Echo", "")
	req.Message = 42
	_, _, err := call(bg, c, req)
	if err == nil || err.Code != status.Internal || err.Fate != status.NotSent {
		t.Errorf("a request that does not encode: %v", err)
	}
	_, _, err = call(bg, c, request("BadCodec", ""))
	expect(t, err, status.Internal, status.Answered, status.Processed)
	err = c.Call(bg, request("Echo", "x"), &transport.Reply{Message: new(int)})
	expect(t, err, status.Internal, status.Answered, status.Processed)
	if got, _, err := call(bg, c, request("Echo", "still here")); err != nil || got != "still here" {
		t.Errorf("the connection did not survive: %v", err)
	}
}

func testDeadline(t *testing.T, w *world) {
	c := w.dial()
	var late time.Duration
	err := w.untilDeadline(func(left time.Duration) *status.Error {
		req := request("Wait", "")
		req.Deadline = policy.Now().Add(left)
		_, _, err := call(bg, c, req)
		late = policy.Now().Sub(req.Deadline)
		return err
	})
	w.expectDeadline(err)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error("errors.Is(err, context.DeadlineExceeded) is false")
	}
	// Where time is real the machine may be late, too, so that only virtual time shows how exact the transport is.
	if late < 0 || late > 10*time.Second || w.virtual && late > 5*time.Millisecond {
		t.Errorf("the call ended %v after its deadline", late)
	}
	w.h.awaitEnd() // the handler's context has ended too
	if got, _, err := call(bg, c, request("Echo", "x")); err != nil || got != "x" {
		t.Errorf("the next call: %q, %v", got, err)
	}
}

func testContextDeadline(t *testing.T, w *world) {
	c := w.dial()
	w.expectDeadline(w.untilDeadline(func(left time.Duration) *status.Error {
		ctx, cancel := context.WithTimeout(bg, left)
		defer cancel()
		req := request("Wait", "")
		req.Deadline = 0
		_, _, err := call(ctx, c, req)
		return err
	}))
	if in := w.h.seen(); in.Deadline == 0 {
		t.Error("the deadline of the context did not travel")
	}
	w.h.awaitEnd()
}

func testLateAtStart(t *testing.T, w *world) {
	c := w.dial()
	req := request("Echo", "")
	req.Deadline = policy.Now() - 1
	_, _, err := call(bg, c, req)
	expect(t, err, status.DeadlineExceeded, status.Timeout, status.NotSent)
	if w.h.ran("Echo") != 0 {
		t.Error("the handler ran")
	}
}

func testHandlerDeadline(t *testing.T, w *world) {
	c := w.dial()
	err := w.untilDeadline(func(left time.Duration) *status.Error {
		req := request("Wait", "")
		req.Deadline = policy.Now().Add(left)
		_, _, err := call(bg, c, req)
		return err
	})
	if err == nil {
		t.Fatal("no error")
	}
	// Which of the two it is told first, the deadline or the caller's cancellation, is a matter of a moment.
	if err := <-w.h.ended; !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		t.Errorf("the handler's context ended with %v", err)
	}
}

func testCancel(t *testing.T, w *world) {
	c := w.dial()
	ctx, cancel := context.WithCancel(bg)
	go func() {
		<-w.h.started
		cancel()
	}()
	_, _, err := call(ctx, c, request("Wait", ""))
	expect(t, err, status.Canceled, status.Cancelled, status.Maybe)
	if err := <-w.h.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler's context ended with %v", err)
	}
	if c.InFlight() != 0 || !c.Usable() {
		t.Errorf("%d in flight, usable %v", c.InFlight(), c.Usable())
	}
}

func testCancelBefore(t *testing.T, w *world) {
	c := w.dial()
	ctx, cancel := context.WithCancel(bg)
	cancel()
	_, _, err := call(ctx, c, request("Echo", ""))
	expect(t, err, status.Canceled, status.Cancelled, status.NotSent)
	if w.h.ran("Echo") != 0 {
		t.Error("the handler ran")
	}
}

func testSizes(t *testing.T, w *world) {
	c := w.dial()
	var wg sync.WaitGroup
	for _, size := range []int{1, 1023, 32 << 10, 32<<10 + 1, 64 << 10, 65 << 10, 1 << 20, 4 << 20} {
		wg.Go(func() {
			payload := strings.Repeat("0123456789abcdef", size/16+1)[:size]
			got, _, err := call(bg, c, request("Echo", payload))
			if err != nil || got != payload {
				t.Errorf("%d bytes: got %d, %v", size, len(got), err)
			}
		})
	}
	wg.Wait()
}

func testRequestTooLarge(t *testing.T, w *world) {
	c := w.dial()
	_, _, err := call(bg, c, request("Echo", strings.Repeat("x", 100<<10+1)))
	expect(t, err, status.ResourceExhausted, status.TooLarge, status.NotSent)
	if w.h.ran("Echo") != 0 {
		t.Error("the handler ran")
	}
	if _, _, err := call(bg, c, request("Echo", strings.Repeat("x", 100<<10))); err != nil {
		t.Errorf("a request of just the limit: %v", err)
	}
}

func testAnswerTooLarge(t *testing.T, w *world) {
	c := w.dial()
	_, _, err := call(bg, c, request("Large", "4194305"))
	expect(t, err, status.ResourceExhausted, status.TooLarge, status.Processed)
	for _, size := range []string{"2001", "200000"} {
		req := request("Large", size)
		req.MaxReply = 2000
		_, _, err = call(bg, c, req)
		expect(t, err, status.ResourceExhausted, status.TooLarge, status.Processed)
	}
	if _, _, err := call(bg, c, request("Echo", "x")); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

func testMetadataTooLarge(t *testing.T, w *world) {
	c := w.dial()
	req := request("Meta", "")
	req.Metadata = transport.Metadata{{Key: "say", Value: strings.Repeat("x", 1<<10)}}
	_, _, err := call(bg, c, req)
	expect(t, err, status.ResourceExhausted, status.TooLarge, status.NotSent)
	if _, _, err := call(bg, c, request("Echo", "x")); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

func testCallLimit(t *testing.T, w *world) {
	c := w.dial()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, _, err := call(bg, c, request("Block", "")); err != nil {
				t.Error(err)
			}
		})
	}
	for range 8 {
		<-w.h.started
	}
	req, room := request("Echo", ""), false
	if w.can.CallsWait {
		req.Deadline = policy.Now().Add(100 * time.Millisecond)
		_, _, err := call(bg, c, req)
		room = w.can.Widens && w.connections() > 1
		// A limit that the caller has not heard of yet is learned by being refused, which leaves a doubt.
		if err == nil && !room || err != nil && (err.Code != status.DeadlineExceeded || err.Kind != status.Timeout || err.Fate == status.Processed) {
			t.Errorf("a call above the limit: %v", err)
		}
	} else {
		_, _, err := call(bg, c, req)
		expect(t, err, status.ResourceExhausted, status.Shed, status.NotSent)
	}
	if w.h.ran("Echo") != 0 && !room {
		t.Error("a call above the limit ran")
	}
	w.h.release()
	wg.Wait()
	if _, _, err := call(bg, c, request("Echo", "")); err != nil {
		t.Errorf("after the limit: %v", err)
	}
}

// A handler that blocks, even for ever, delays nobody else.
func testBlockedHandler(t *testing.T, w *world) {
	c := w.dial()
	for range 5 { // quick ones first, so that the transport is at its most trusting
		if _, _, err := call(bg, c, request("Echo", "")); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if _, _, err := call(bg, c, request("Block", "")); err != nil {
				t.Error(err)
			}
		})
		<-w.h.started
		for range 5 {
			began := time.Now()
			if _, _, err := call(bg, c, request("Echo", "")); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); w.virtual && took > 3*time.Millisecond {
				t.Errorf("a call beside a blocked one took %v", took)
			}
			for len(w.h.started) > 0 {
				<-w.h.started
			}
		}
	}
	w.h.release()
	wg.Wait()
}

func testPanic(t *testing.T, w *world) {
	c := w.dial()
	for range 3 {
		_, _, err := call(bg, c, request("Panic", ""))
		expect(t, err, status.Internal, status.Panicked, status.Processed)
		if _, _, err := call(bg, c, request("Echo", "")); err != nil {
			t.Errorf("the next call: %v", err)
		}
	}
}

func testGoexit(t *testing.T, w *world) {
	c := w.dial()
	for range 3 {
		_, _, err := call(bg, c, request("Goexit", ""))
		expect(t, err, status.Internal, status.Panicked, status.Processed)
		if _, _, err := call(bg, c, request("Echo", "")); err != nil {
			t.Errorf("the next call: %v", err)
		}
	}
}

func testCut(t *testing.T, w *world) {
	c := w.dial()
	go func() {
		<-w.h.started
		w.cut()
	}()
	_, _, err := call(bg, c, request("Wait", ""))
	expect(t, err, status.Unavailable, status.Reset, status.Maybe)
	w.h.awaitEnd() // the handler learns of it
	if w.can.Replaces {
		if _, _, err := call(bg, c, request("Echo", "")); err != nil {
			t.Errorf("the next call: %v", err)
		}
		return
	}
	<-c.Done()
	if c.Usable() {
		t.Error("a connection that is gone is usable")
	}
	_, _, err = call(bg, c, request("Echo", ""))
	if err == nil || err.Fate != status.NotSent {
		t.Errorf("a call on a connection that is gone: %v", err)
	}
	if _, _, err := call(bg, w.dial(), request("Echo", "")); err != nil {
		t.Errorf("on a new connection: %v", err)
	}
}

func testClose(t *testing.T, w *world) {
	c := w.dial()
	go func() {
		<-w.h.started
		c.Close()
	}()
	_, _, err := call(bg, c, request("Wait", ""))
	if err == nil || err.Fate != status.Maybe {
		t.Errorf("a call on a connection that its owner closed: %v", err)
	}
	w.h.awaitEnd()
	<-c.Done()
	if err := c.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

func testServerClose(t *testing.T, w *world) {
	c := w.dial()
	go func() {
		<-w.h.started
		w.server.Close()
	}()
	_, _, err := call(bg, c, request("Wait", ""))
	if err == nil || err.Fate == status.NotSent {
		t.Errorf("a call whose server closed: %v", err)
	}
	w.h.awaitEnd()
}

func testDrainServer(t *testing.T, w *world) {
	c := w.dial()
	idle := w.dial()
	if _, _, err := call(bg, idle, request("Echo", "")); err != nil { // a server may wait for those that have not said anything yet
		t.Fatal(err)
	}
	<-w.h.started
	res := make(chan *status.Error, 1)
	go func() {
		_, _, err := call(bg, c, request("Block", ""))
		res <- err
	}()
	<-w.h.started
	drained := make(chan error, 1)
	go func() { drained <- w.server.Drain(bg) }()
	<-idle.Done()
	if w.can.NoGoAway {
		if _, _, err := call(bg, c, request("Echo", "")); err == nil || err.Fate == status.Processed {
			t.Errorf("a call of a server that drains: %v", err)
		}
	}
	// New calls are refused once GOAWAY has arrived, and not before it is said; either way no handler starts twice.
	for c.Usable() && !w.can.Replaces {
		if _, _, err := call(bg, c, request("Echo", "")); err != nil {
			expect(t, err, status.Unavailable, status.Draining, status.NotSent)
		}
	}
	_, _, err := call(bg, c, request("Echo", ""))
	if !w.can.NoGoAway {
		expect(t, err, status.Unavailable, status.Draining, status.NotSent)
	} else if err == nil || err.Fate != status.NotSent && !w.can.Replaces {
		t.Errorf("a call on a connection that is not usable: %v", err)
	}
	select {
	case err := <-res:
		t.Fatalf("the call under way ended with %v", err)
	case err := <-drained:
		t.Fatalf("drained before the call under way ended: %v", err)
	default:
	}
	w.h.release()
	if err := <-res; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	if err := <-drained; err != nil {
		t.Errorf("drain: %v", err)
	}
	if !w.can.Replaces {
		<-c.Done()
	}
}

func testDrainTimeout(t *testing.T, w *world) {
	c := w.dial()
	res := make(chan *status.Error, 1)
	go func() {
		_, _, err := call(bg, c, request("Wait", ""))
		res <- err
	}()
	<-w.h.started
	ctx, cancel := context.WithTimeout(bg, 50*time.Millisecond)
	defer cancel()
	if err := w.server.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drain: %v", err)
	}
	if err := <-res; err == nil || err.Fate == status.NotSent {
		t.Errorf("the call that was cut off: %v", err)
	}
	w.h.awaitEnd()
}

func testDrainConn(t *testing.T, w *world) {
	c := w.dial()
	res := make(chan *status.Error, 1)
	go func() {
		_, _, err := call(bg, c, request("Block", ""))
		res <- err
	}()
	<-w.h.started
	c.Drain()
	if c.Usable() {
		t.Error("usable while draining")
	}
	_, _, err := call(bg, c, request("Echo", ""))
	expect(t, err, status.Unavailable, status.Draining, status.NotSent)
	w.h.release()
	if err := <-res; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	<-c.Done()
	idle := w.dial()
	idle.Drain()
	<-idle.Done()
}

func testDialRefused(t *testing.T, w *world) {
	w.ln.Close()
	_, err := w.dialer.Dial(bg, w.addr)
	expect(t, err, status.Unavailable, status.Dial, status.NotSent)
	ctx, cancel := context.WithCancel(bg)
	cancel()
	if _, err := w.dialer.Dial(ctx, w.addr); err == nil || err.Fate != status.NotSent {
		t.Errorf("dial with an ended context: %v", err)
	}
}

// testLoad makes all kinds of calls at the same time and checks that each gets its own answer.
func testLoad(t *testing.T, w *world) {
	c := w.dial()
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			for i := range 60 {
				payload := bytes.Repeat([]byte{byte('a' + (g+i)%26)}, (g*61+i*977)%3000)
				if i%20 == 7 {
					payload = bytes.Repeat(payload, 40)
				}
				req := request("Echo", string(payload))
				switch i % 10 {
				case 3:
					req = request("Sleep", "2ms")
					payload = []byte("slept")
				case 5:
					req = request("Wait", "")
					req.Deadline = policy.Now().Add(4 * time.Millisecond)
				case 8:
					req = request("Panic", "")
				case 9:
					req.Codec = codec.JSON{}
				}
				var got []byte
				err := c.Call(bg, req, &transport.Reply{Message: &got})
				switch i % 10 {
				case 5:
					if err == nil || err.Code != status.DeadlineExceeded {
						t.Errorf("call %d/%d: %v", g, i, err)
					}
				case 8:
					if err == nil || err.Kind != status.Panicked {
						t.Errorf("call %d/%d: %v", g, i, err)
					}
				case 9: // the handler answers in bytes, which JSON takes for what it is
				default:
					if err != nil || !bytes.Equal(got, payload) {
						t.Errorf("call %d/%d: %d bytes, %v; want %d", g, i, len(got), err, len(payload))
					}
				}
			}
		})
	}
	wg.Wait()
	if n := c.InFlight(); n != 0 {
		t.Errorf("%d calls in flight after all have ended", n)
	}
}
