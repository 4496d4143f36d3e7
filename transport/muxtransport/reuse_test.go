package muxtransport

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"reflect"
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
			if sc.ready != nil {
				t.Errorf("the connection keeps %+v", sc.ready)
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
		d, err := NewDialer(Options{Dial: n.Host("client").Dial})
		if err != nil {
			t.Fatal(err)
		}
		c, serr := d.Dial(t.Context(), "server:80")
		if serr != nil {
			t.Fatal(serr)
		}
		defer c.Close()
		if out, err := unary(c, "a.B/C", request, time.Minute); err != nil || !bytes.Equal(out, answer) {
			t.Errorf("an answer of %d bytes, %v", len(out), err)
		}
		if sent := <-got; !bytes.HasSuffix(sent, request) {
			t.Errorf("%d bytes were sent, %d of them the answer's", len(sent), 8*bytes.Count(sent, answer[:8]))
		}
	})
}
