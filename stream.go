package hull

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// ClientStream is a stream of typed messages as its caller holds it. Send and Recv may be used by two goroutines at the
// same time, but neither by two. It must be received from until an error, or its context cancelled.
type ClientStream[Req, Rep any] struct{ s grpc.ClientStream }

// OpenStream begins a stream with plain Go values; see Call. A stream that has reached no server is opened at another node, under the rules for any
// repetition. One that is open is never repeated, whatever becomes of it: nobody knows here what has been said.
func OpenStream[Req, Rep any](ctx context.Context, c grpc.ClientConnInterface, name string, opts ...CallOption) (*ClientStream[Req, Rep], error) {
	desc := &grpc.StreamDesc{StreamName: name, ClientStreams: true, ServerStreams: true}
	s, err := c.NewStream(ctx, desc, name, append([]CallOption{messageOption{sample: new(Req)}}, opts...)...)
	if err != nil {
		return nil, err
	}
	return &ClientStream[Req, Rep]{s}, nil
}

// Send sends a message; it waits while the server's window is full.
func (s *ClientStream[Req, Rep]) Send(m *Req) error { return s.s.SendMsg(m) }

// CloseSend says that no more messages follow.
func (s *ClientStream[Req, Rep]) CloseSend() error { return s.s.CloseSend() }

// Recv returns the next message; io.EOF when the server has ended the stream well.
func (s *ClientStream[Req, Rep]) Recv() (*Rep, error) {
	m := new(Rep)
	if err := s.s.RecvMsg(m); err != nil {
		return nil, err
	}
	return m, nil
}

// Context ends with the stream.
func (s *ClientStream[Req, Rep]) Context() context.Context { return s.s.Context() }

// messageOption tells a stream, which has no message when it begins, what its messages look like.
type messageOption struct {
	grpc.EmptyCallOption
	sample any
}

// stream begins one stream, with all its policies. A stream that has begun is not repeated.
func (c *Conn) stream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...CallOption) (grpc.ClientStream, error) {
	st := &clientStream{serverStreams: desc.ServerStreams, clientStreams: desc.ClientStreams}
	st.call, st.codec = &st.whole, codec.Proto{}
	st.call.Service, st.call.Method = c.s.name, method
	for _, o := range opts {
		if m, ok := o.(messageOption); ok && m.sample != nil {
			st.codec = codecFor(m.sample)
		}
	}
	if err := c.prepare(ctx, &st.prepared, opts, true); err != nil {
		return nil, c.refused(&st.prepared, err)
	}
	st.s = c.s
	st.req = transport.Request{Method: method, Codec: streamCodec{st.codec}, Metadata: st.md, Criticality: st.call.Criticality, MaxReply: st.opt.maxReply,
		MaxRequest: st.opt.maxSend, Authority: st.opt.authority, Compressor: st.opt.compressor}
	if st.call.Deadline != 0 {
		ctx, st.cancel = context.WithDeadline(ctx, st.call.Deadline.Clock())
	} else {
		ctx, st.cancel = context.WithCancel(ctx)
	}
	var r policy.Runner = st
	if st.opt.info != nil {
		r = &toldCall{Runner: st, info: st.opt.info}
	}
	opened, err := st.m.Stream.Open(ctx, st.whole, r)
	if err != nil {
		st.cancel()
		if st.opt.explain {
			st.explained(c.s)
		}
		return nil, st.finish(err)
	}
	st.opened = opened
	// Whoever abandons the stream cancels its context; the permits come back even if nobody reads any more. The stream's own
	// context would not do: it ends with the server's last frame, while there may still be messages and a status to receive.
	st.stop = context.AfterFunc(ctx, func() { st.settle(contextError(ctx)) })
	return st, nil
}

// clientStream is a transport's stream as grpc's generated code knows it, and its own Runner.
type clientStream struct {
	transport.ClientStream
	prepared
	whole                        policy.Call
	s                            *service
	req                          transport.Request
	serverStreams, clientStreams bool
	cancel                       context.CancelFunc
	opened                       *policy.Opened
	stop                         func() bool
	once                         sync.Once
	answered                     bool // where one answer is expected, it was received
	doubted                      bool // the node was asked who it is
}

// Run implements policy.Runner: it opens the stream.
func (s *clientStream) Run(ctx context.Context, a policy.Attempt) error {
	n := a.Node.(*balance.Node)
	s.req.Deadline, s.req.PathAttempt = a.Deadline, pathAttempt(s.call, a.N)
	req := &s.req
	if s.doubted = s.s.doubts(n.Info()); s.doubted {
		req = addressed(req, n.Info())
	}
	conn, err := s.s.node(n, n.Info()).Get(ctx, a.Deadline)
	if err == nil && strays(conn, n.Info()) {
		err = elsewhere(nil)
	}
	if err == nil {
		s.ClientStream, err = conn.Open(ctx, req)
		if s.doubted {
			var found registry.Sighting
			if found, err = vouched(ctx, conn, n.Info(), a.Deadline, err); found == registry.Lives {
				s.doubted = false
				s.ClientStream, err = conn.Open(ctx, &s.req)
			}
			s.s.report(n.Info(), found)
		}
	}
	if err != nil {
		if lacksMethod(err) {
			n.Lacks(policy.Now(), req.Method)
		}
		if err.Kind == status.Dial {
			s.s.report(n.Info(), registry.Gone)
		}
		return s.wished(err)
	}
	return nil
}

// end settles the call when its caller has learned how it ended.
func (s *clientStream) end(err *status.Error) {
	s.settle(err)
	s.stop()
}

// settle gives everything back and tells everybody, once.
func (s *clientStream) settle(err *status.Error) {
	s.once.Do(func() {
		defer s.cancel()
		a := s.opened.Attempt()
		n := a.Node.(*balance.Node)
		var rep transport.Reply
		if s.opt.header != nil {
			if err != nil {
				s.cancel() // the header is not waited for
			}
			rep.Header, _ = s.ClientStream.Header()
		}
		rep.Trailer = s.ClientStream.Trailer()
		if s.doubted {
			s.s.report(n.Info(), recognise(n.Info(), &rep))
		}
		if err == nil {
			s.opened.End(nil)
			s.tell(a.N, n, &rep, nil)
			if s.opt.explain {
				s.explained(s.s)
			}
			_ = s.finish(nil)
			return
		}
		if lacksMethod(err) {
			n.Lacks(policy.Now(), s.req.Method)
		}
		s.opened.End(err)
		s.tell(a.N, n, &rep, err)
		if s.opt.explain {
			s.explained(s.s)
		}
		_ = s.finish(err)
	})
}

// Header implements grpc.ClientStream.
func (s *clientStream) Header() (metadata.MD, error) {
	h, err := s.ClientStream.Header()
	if err != nil {
		return toMD(h), callError{err}
	}
	return toMD(h), nil
}

// Trailer implements grpc.ClientStream.
func (s *clientStream) Trailer() metadata.MD { return toMD(s.ClientStream.Trailer()) }

// CloseSend implements grpc.ClientStream.
func (s *clientStream) CloseSend() error {
	if err := s.ClientStream.CloseSend(); err != nil {
		return callError{err}
	}
	return nil
}

// SendMsg implements grpc.ClientStream: after the end it fails with io.EOF, and RecvMsg says why. Any other error ends the
// stream.
func (s *clientStream) SendMsg(m any) error {
	if err := s.ClientStream.Send(m); err != nil {
		if s.ClientStream.Context().Err() != nil || err.Kind == status.Reset {
			return io.EOF
		}
		err = s.sized(err)
		s.end(err)
		return callError{err}
	}
	if !s.clientStreams {
		return s.CloseSend()
	}
	return nil
}

// RecvMsg implements grpc.ClientStream. Where one answer is expected it waits for the status as well.
func (s *clientStream) RecvMsg(m any) error {
	err := s.ClientStream.Recv(m)
	if err == nil && !s.serverStreams {
		s.answered = true
		var extra discard
		switch last := s.ClientStream.Recv(&extra); {
		case errors.Is(last, io.EOF):
			s.end(nil)
			return nil
		case last == nil:
			e := &status.Error{Code: status.Internal, Fate: status.Processed, Kind: status.Protocol,
				Message: s.req.Method + " answers with one message, but the server sent more"}
			s.end(e)
			return callError{e}
		default:
			err = last
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		if !s.serverStreams && !s.answered {
			e := &status.Error{Code: status.Internal, Fate: status.Processed, Kind: status.Protocol,
				Message: s.req.Method + " answers with one message, but the server sent none"}
			s.end(e)
			return callError{e}
		}
		s.end(nil)
		return io.EOF
	}
	e := status.From(err)
	s.end(e)
	return callError{e}
}

// discard is a message that is not looked at.
type discard struct{}

// streamCodec is a codec that knows discard.
type streamCodec struct{ codec.Codec }

// Unmarshal implements codec.Codec.
func (c streamCodec) Unmarshal(data []byte, v any) error {
	if _, ok := v.(*discard); ok {
		return nil
	}
	return c.Codec.Unmarshal(data, v)
}
