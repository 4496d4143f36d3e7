package grpctransport

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// clientStream is a stream as its caller holds it.
type clientStream struct {
	c      *conn
	gs     grpc.ClientStream
	parent context.Context //nolint:containedctx // the caller's, which says who gave up
	ctx    context.Context //nolint:containedctx // the stream's
	cancel context.CancelFunc
	at     *attempt
	codec  codec.Codec
	limit  int // of what is sent; 0 = the connection's
	wc     *wireCodec
	stop   func() bool // undoes the wait for ctx
	closed atomic.Bool // CloseSend was called

	mu      sync.Mutex
	end     error // nil = it goes on
	trailer transport.Metadata
}

var _ transport.ClientStream = (*clientStream)(nil)

// Open implements transport.Conn.
func (c *conn) Open(parent context.Context, req *transport.Request) (transport.ClientStream, *status.Error) {
	s := &clientStream{c: c, parent: parent, at: new(attempt), codec: req.Codec, limit: req.MaxRequest, wc: &wireCodec{Codec: req.Codec}}
	var e *status.Error
	if s.ctx, s.cancel, e = c.begin(parent, req, s.at); e != nil {
		return nil, e
	}
	if e := c.enter(); e != nil {
		s.cancel()
		return nil, e
	}
	desc := &grpc.StreamDesc{StreamName: req.Method, ClientStreams: true, ServerStreams: true}
	gs, err := c.cc.NewStream(s.ctx, desc, "/"+req.Method, c.callOptions(req, s.wc)...)
	if err != nil {
		e := c.failure(parent, s.ctx, s.at, s.wc, err, nil)
		s.cancel()
		c.leave()
		return nil, e
	}
	s.gs = gs
	s.mu.Lock()
	s.stop = context.AfterFunc(s.ctx, s.gaveUp)
	s.mu.Unlock()
	return s, nil
}

// gaveUp ends the stream because its context has ended.
func (s *clientStream) gaveUp() {
	e := &status.Error{Code: status.Canceled, Kind: status.Cancelled, Message: "the caller gave up", Cause: s.ctx.Err()}
	if errors.Is(s.ctx.Err(), context.DeadlineExceeded) {
		e.Code, e.Kind, e.Message = status.DeadlineExceeded, status.Timeout, "the stream did not end within the deadline"
	}
	_ = s.finish(e, nil)
}

// finish ends the stream, unless it has ended, and returns how it did.
func (s *clientStream) finish(end error, trailer transport.Metadata) error {
	s.mu.Lock()
	if s.end != nil {
		defer s.mu.Unlock()
		return s.end
	}
	s.end, s.trailer = end, trailer
	stop := s.stop
	s.mu.Unlock()
	s.c.leave()
	stop()
	s.cancel()
	return end
}

// Context implements transport.Stream.
func (s *clientStream) Context() context.Context { return s.ctx }

// Send implements transport.Stream.
func (s *clientStream) Send(v any) *status.Error {
	if s.closed.Load() {
		return &status.Error{Code: status.Internal, Message: "a message was sent after CloseSend"}
	}
	msg, e := s.c.encode(s.codec, v, s.limit)
	if e != nil {
		return e
	}
	if err := s.gs.SendMsg(msg); err != nil {
		return &status.Error{Code: status.Unavailable, Kind: status.Reset, Message: "the stream has ended; receive its status", Cause: io.EOF}
	}
	return nil
}

// CloseSend implements transport.ClientStream.
func (s *clientStream) CloseSend() *status.Error {
	if !s.closed.Swap(true) {
		_ = s.gs.CloseSend() // it never fails
	}
	return nil
}

// Recv implements transport.Stream.
func (s *clientStream) Recv(v any) error {
	s.mu.Lock()
	end := s.end
	s.mu.Unlock()
	if end != nil {
		return end
	}
	err := s.gs.RecvMsg(v)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		return s.finish(io.EOF, incoming(s.gs.Trailer()))
	}
	trailer := s.gs.Trailer()
	return s.finish(s.c.failure(s.parent, s.ctx, s.at, s.wc, err, trailer), incoming(trailer))
}

// Header implements transport.ClientStream.
func (s *clientStream) Header() (transport.Metadata, *status.Error) {
	md, err := s.gs.Header()
	if err != nil {
		return incoming(md), &status.Error{Code: status.Unavailable, Kind: status.Reset, Message: "the stream has ended before its header; receive its status", Cause: err}
	}
	return incoming(md), nil
}

// Trailer implements transport.ClientStream.
func (s *clientStream) Trailer() transport.Metadata {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trailer
}
