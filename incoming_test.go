package hull

import (
	"bytes"
	"context"
	"errors"
	"math"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/transport"
)

// trusting is as much of a server as makes contexts.
func trusting() *Server {
	t := DefaultTrust()
	return &Server{keys: findGRPCKeys(), opt: serverOptions{trust: &t}}
}

// Every call that is served leaves one behind: memory for objects comes in pieces of 112, 128 and 144 bytes, and what is a word too large has the
// collector run a twentieth more often.
func TestIncomingIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(incoming{}); size > 128 {
		t.Errorf("%d bytes", size)
	}
	h := &handler{trusting()}
	in := &transport.Incoming{Method: "a.B/C", PathAttempt: math.MaxInt, Peer: nodeAddr("10.0.0.1:1")}
	if c := incomingOf(h.CallContext(h.ConnInfo(in.Peer, nil), nil, in)); c.pathAttempt != math.MaxInt16 {
		t.Errorf("an attempt number that does not fit becomes %d", c.pathAttempt)
	}
}

// A method is found by its name too: connections do not keep in mind what those of all calls are.
func TestMethodOfCall(t *testing.T) {
	s, err := NewServer("plant")
	if err != nil {
		t.Fatal(err)
	}
	Handle(s, "a.B/C", func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
	h := &handler{s}
	info, in := h.ConnInfo(nodeAddr("10.0.0.1:1"), nil), &transport.Incoming{Method: "a.B/C"}
	for _, found := range []any{h.FindMethod("a.B/C"), nil} {
		if c := incomingOf(h.CallContext(info, found, in)); c.m == nil || c.m != s.methods["a.B/C"] {
			t.Errorf("%v: found %v", found, c.m)
		}
	}
	if h.FindMethod("a.B/D") != nil {
		t.Error("found a method that there is not")
	}
}

// A handler's context is made in one piece with what hull keeps about the call, and stays right when the call is over.
func TestCallContext(t *testing.T) {
	h := &handler{trusting()}
	in := &transport.Incoming{Method: "a.B/C", Metadata: transport.Metadata{{Key: "k", Value: "v"}}, PathAttempt: 2,
		Deadline: policy.Now().Add(time.Hour), Peer: nodeAddr("10.0.0.1:1")}
	own := h.CallContext(h.ConnInfo(in.Peer, nil), nil, in)
	c := incomingOf(own)
	if above(context.WithValue(c, incomingKey{}, c)) != c || above(own) != c || above(c).pathAttempt != 2 {
		t.Error("calls made with the context would not find the call they were made for")
	}
	derived, cancel := context.WithCancel(c)
	defer cancel()
	// How many there are says nothing, since those of other tests come and go: one that waits for c was made by this one.
	all := make([]byte, 4<<20)
	all = all[:runtime.Stack(all, true)]
	self, _, _ := bytes.Cut(all, []byte(" [")) // "goroutine 7"
	if started := append([]byte("created by context.(*cancelCtx).propagateCancel in "), append(self, '\n')...); bytes.Contains(all, started) {
		t.Error("a derived context started a goroutine")
	}
	if d, ok := c.Deadline(); !ok || d.IsZero() || c.Err() != nil || derived.Err() != nil {
		t.Errorf("deadline %v %v, %v, %v", d, ok, c.Err(), derived.Err())
	}
	own.Cancel(context.Canceled)
	<-c.Done()
	<-derived.Done()
	md, _ := metadata.FromIncomingContext(c)
	p, _ := peer.FromContext(derived)
	if !errors.Is(c.Err(), context.Canceled) || len(md.Get("k")) != 1 || p == nil || p.Addr != in.Peer || c.Value("x") != nil {
		t.Errorf("after the end: %v, metadata %v, peer %v", c.Err(), md, p)
	}
}

// The context of a transport that makes its own is what the call's hangs on.
func TestForeignContext(t *testing.T) {
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), key{}, 1))
	c := trusting().newIncoming(ctx, &transport.Incoming{Method: "a.B/C"})
	if c.Value(key{}) != 1 || c.Err() != nil || above(c) != c {
		t.Error("the transport's context is not there")
	}
	explained, e := Explain(ctx)
	c = trusting().newIncoming(explained, &transport.Incoming{Method: "a.B/C"})
	if parent, told := surroundings(c); parent != c || told != e {
		t.Errorf("calls made to serve one whose context is explained: for %p, told to %p", parent, told)
	}
	again, inner := Explain(context.WithValue(c, key{}, 2))
	if parent, told := surroundings(context.WithoutCancel(again)); parent != c || told != inner || inner.outer != e {
		t.Errorf("calls made with its context, explained again: for %p, told to %p", parent, told)
	}
	cancel()
	<-c.Done()
	if !errors.Is(c.Err(), context.Canceled) {
		t.Error(c.Err())
	}
}
