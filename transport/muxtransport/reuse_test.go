package muxtransport

import (
	"context"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"

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
