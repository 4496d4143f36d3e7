package muxtransport

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"reflect"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

// sayingHandler answers with what the method's name says.
type sayingHandler struct{ drainHandler }

func (sayingHandler) Unary(_ context.Context, in *transport.Incoming) transport.Outgoing {
	msg := []byte(in.Method)
	out := transport.Outgoing{Codec: codec.Bytes{}, Message: &msg}
	md := transport.Metadata{{Key: "k", Value: "v"}}
	switch in.Method {
	case "header":
		out.Header = md
	case "trailer":
		out.Trailer = md
	case "load":
		out.Load.InFlight = 7
	case "parts":
		msg = make([]byte, 2*partSize)
	case "refusal":
		out = transport.Outgoing{Status: &status.Error{Code: status.NotFound, Message: "no"}, Trailer: md}
	}
	return out
}

// Calls are used again, and nothing of one's answer is left for the next.
func TestReusedCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sayingHandler{}, Options{}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{})
		defer c.Close()
		for _, first := range []string{"header", "trailer", "load", "parts", "refusal"} {
			for _, method := range []string{first, "nothing"} {
				var msg []byte
				rep := transport.Reply{Message: &msg}
				err := c.Call(t.Context(), &transport.Request{Method: method, Codec: codec.Bytes{}, Message: &[]byte{}}, &rep)
				if (err != nil) != (method == "refusal") {
					t.Fatalf("%s: %v", method, err)
				}
				if method != "nothing" {
					continue
				}
				if rep.Message = nil; !reflect.DeepEqual(rep, transport.Reply{}) || string(msg) != method {
					t.Errorf("after %q: %+v and %q, want only the message %q", first, rep, msg, method)
				}
			}
		}
	})
}

// A server hands the record of a call on to the next one that came with it, and keeps nothing of the last one while it waits for more.
func TestNothingKeptWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sayingHandler{}, Options{}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{})
		defer c.Close()
		var calls sync.WaitGroup
		for range 10 {
			calls.Go(func() {
				var msg []byte
				rep := transport.Reply{Message: &msg}
				if err := c.Call(t.Context(), &transport.Request{Method: "header", Codec: codec.Bytes{}, Message: &[]byte{}}, &rep); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		synctest.Wait()
		for _, sc := range r.server.all() {
			if sc.current != nil {
				t.Errorf("the connection keeps %+v", sc.current)
			}
			if ca := r.server.calls.Get().(*serverCall); ca.ctx != nil || ca.m != nil || ca.in.Peer != nil || ca.head.header != nil {
				t.Errorf("the pool keeps %+v", ca)
			}
		}
	})
}

// An answer takes the place of its request in memory, but not while the request is still being sent.
func TestAnswerBeforeRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Options{})
		ln, err := n.Host("server").Listen(":80")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		request, answer := bytes.Repeat([]byte("request "), 3<<17), bytes.Repeat([]byte("answer. "), 3<<17)
		got := make(chan []byte, 1)
		go func() {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			defer nc.Close()
			say(t, nc, serverScript().b)
			time.Sleep(time.Second) // all that may wait to be written does
			s, rest := new(script), answer[partSize:]
			s.answer(typeAnswer|flagMore, 1<<16, answerHead{total: len(answer)}, string(answer[:partSize]))
			for ; len(rest) > partSize; rest = rest[partSize:] {
				s.frame(typePart|flagMore, 1<<16, rest[:partSize]...)
			}
			say(t, nc, s.b)
			time.Sleep(time.Second)
			r, body := bufio.NewReader(nc), []byte(nil)
			_, _ = r.Discard(prefaceLen)
			for more := true; more; {
				head := make([]byte, headerLen)
				if _, err := io.ReadFull(r, head); err != nil {
					t.Error(err)
					break
				}
				f, payload := parseFrame(head), make([]byte, frameSize(head)-headerLen)
				if _, err := io.ReadFull(r, payload); err != nil {
					t.Error(err)
					break
				}
				if f.typ == typeCall || f.typ == typePart {
					body, more = append(body, payload...), f.more
				}
			}
			got <- body
			say(t, nc, new(script).frame(typePart, 1<<16, rest...).b)
			_, _ = io.Copy(io.Discard, nc)
		}()
		c := dialed(t, Options{Dial: n.Host("client").Dial})
		defer c.Close()
		if out, err := unary(c, "a.B/C", request, time.Minute); err != nil || !bytes.Equal(out, answer) {
			t.Errorf("an answer of %d bytes, %v", len(out), err)
		}
		if sent := <-got; !bytes.HasSuffix(sent, request) {
			t.Errorf("%d bytes were sent, %d of them the answer's", len(sent), 8*bytes.Count(sent, answer[:8]))
		}
	})
}

// sizedHandler answers with as many bytes as the method's name says, after a second if the payload says so.
var sizedHandler funcHandler = func(_ context.Context, in *transport.Incoming) transport.Outgoing {
	if bytes.HasPrefix(in.Payload, []byte("slow")) {
		time.Sleep(time.Second)
	}
	n, _ := strconv.Atoi(in.Method)
	msg := bytes.Repeat([]byte(in.Method), n)[:n]
	return transport.Outgoing{Codec: codec.Bytes{}, Message: &msg, Trailer: transport.Metadata{{Key: "k", Value: in.Method}}}
}

// scratchCall makes a call with Reply.Scratch and checks its answer.
func scratchCall(ctx context.Context, t *testing.T, c transport.Conn, scratch *any, size int, payload []byte, compressor string) *status.Error {
	t.Helper()
	var msg []byte
	method := strconv.Itoa(size)
	rep := transport.Reply{Message: &msg, Scratch: scratch}
	err := c.Call(ctx, &transport.Request{Method: method, Codec: codec.Bytes{}, Message: &payload, Compressor: compressor}, &rep)
	if err == nil && (len(msg) != size || len(bytes.ReplaceAll(msg, []byte(method), nil)) >= len(method) || rep.Trailer.Get("k") != method) {
		t.Errorf("an answer of %d bytes and %v, want %d", len(msg), rep.Trailer, size)
	}
	return err
}

// A Reply keeps a call for those that are made with it, on whatever connections and whatever became of the last one, and leaves what is another's alone.
func TestScratch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sizedHandler, Options{}, memnet.Options{})
		defer r.stop()
		c, other := r.dial(t, Options{}), r.dial(t, Options{})
		defer c.Close()
		defer other.Close()
		next, err := c.d.Dial(t.Context(), "server:80")
		if err != nil {
			t.Fatal(err)
		}
		defer next.Close()
		var scratch any
		ok := func(c transport.Conn, scratch *any, size int) {
			t.Helper()
			if err := scratchCall(t.Context(), t, c, scratch, size, nil, ""); err != nil {
				t.Error(err)
			}
		}
		ok(c, &scratch, 1)
		kept, _ := scratch.(*call)
		if kept == nil {
			t.Fatalf("kept %v", scratch)
		}
		ok(next, &scratch, 2)
		ok(other, &scratch, 3)
		foreign := any("another's")
		if ok(c, &foreign, 4); foreign != "another's" {
			t.Errorf("%v is in the place of what another transport keeps", foreign)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		if err := scratchCall(ctx, t, c, &scratch, 5, []byte("slow"), ""); err == nil || err.Kind != status.Cancelled {
			t.Errorf("cancelled: %v", err)
		}
		ok(c, &scratch, 6)
		time.Sleep(2 * time.Second) // the answer to the one that was cancelled would have come
		ok(c, &scratch, 7)
		c.Close()
		if err := scratchCall(t.Context(), t, c, &scratch, 8, nil, ""); err == nil || err.Fate != status.NotSent {
			t.Errorf("after the end: %v", err)
		}
		ok(next, &scratch, 9)
		if scratch != any(kept) {
			t.Errorf("keeps %v, want what was there first", scratch)
		}
		if c.d.calls.Get() == any(kept) {
			t.Error("what is kept for one is there for all")
		}
	})
}

// A call keeps a buffer for the next one, whose sizes do not matter, but no large one.
func TestBuffersKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sizedHandler, Options{}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{})
		defer c.Close()
		var scratch any
		for _, compressor := range []string{"", "gzip"} {
			for _, request := range []int{1, 1000, 20_000, 1 << 20} {
				for _, answer := range []int{1, 1000, 20_000, 1 << 20} {
					for range 2 {
						if err := scratchCall(t.Context(), t, c, &scratch, answer, make([]byte, request), compressor); err != nil {
							t.Fatal(err)
						}
						ca := scratch.(*call)
						if cap(ca.buf) > keepScratch || cap(ca.spare) > keepScratch || request <= 1000 && ca.buf == nil {
							t.Errorf("after %d and %d bytes (%q): keeps %d and %d", request, answer, compressor, cap(ca.buf), cap(ca.spare))
						}
						if ca.err != nil || ca.header != nil || ca.trailer != nil {
							t.Errorf("keeps %v, %v, %v", ca.err, ca.header, ca.trailer)
						}
					}
				}
			}
		}
	})
}
