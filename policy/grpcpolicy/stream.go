package grpcpolicy

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/hull-go/hull/internal/hop"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// Stream is a grpc.StreamClientInterceptor.
func (c *Client) Stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, begin grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	p := c.pipeline(ctx, method)
	if p == nil {
		return begin(ctx, desc, cc, method, opts...)
	}
	call := c.call(ctx, method)
	call.SideEffectFree = false // what was sent and received cannot be taken back
	r := &opening{c: c, call: &call, desc: desc, cc: cc, method: method, begin: begin, opts: opts}
	o, err := p.Open(ctx, call, r)
	if err != nil {
		hop.From(ctx).Failed(p.Options().Classify(err))
		return nil, outward(err)
	}
	at, classify := hop.From(ctx), p.Options().Classify
	s := &clientStream{ClientStream: r.stream, c: c, desc: desc, trace: r.trace, cancel: r.cancel, opened: o,
		failed: func(err error) { at.Failed(classify(err)) }}
	s.mu.Lock()
	s.stop = context.AfterFunc(ctx, func() { s.end(status.From(ctx.Err())) })
	s.mu.Unlock()
	return s, nil
}

// opening is the policy.Runner of the attempts to begin a stream.
type opening struct {
	c      *Client
	call   *policy.Call
	desc   *grpc.StreamDesc
	cc     *grpc.ClientConn
	method string
	begin  grpc.Streamer
	opts   []grpc.CallOption

	stream grpc.ClientStream
	trace  *trace
	cancel context.CancelCauseFunc
}

// Run implements policy.Runner.
func (r *opening) Run(ctx context.Context, a policy.Attempt) error {
	t := &trace{parent: ctx}
	ctx, cancel := context.WithCancelCause(r.c.outgoing(ctx, t, r.call, a))
	t.ctx = ctx
	began := false
	defer func() {
		if !began {
			cancel(nil)
		}
	}()
	inTime := func() bool { return true }
	if a.Deadline != 0 {
		inTime = time.AfterFunc(a.Deadline.Sub(policy.Now()), func() { cancel(policy.ErrAttemptTimeout) }).Stop
	}
	s, err := r.begin(ctx, r.desc, r.cc, r.method, r.opts...)
	if !inTime() && err == nil {
		err = policy.ErrAttemptTimeout
	}
	if err != nil {
		return hop.From(ctx).Narrow(t.failure(err, nil, r.c.o.MaxPushback))
	}
	began, r.stream, r.trace, r.cancel = true, s, t, cancel
	return nil
}

// clientStream ends its attempt when it ends.
type clientStream struct {
	grpc.ClientStream
	c      *Client
	desc   *grpc.StreamDesc
	trace  *trace
	cancel context.CancelCauseFunc
	failed func(error) // tells the request on whose behalf it is

	mu     sync.Mutex
	opened *policy.Opened // nil when it has ended
	stop   func() bool
}

// RecvMsg implements grpc.ClientStream.
func (s *clientStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	switch {
	case err == nil:
		if !s.desc.ServerStreams {
			s.end(nil)
		}
		return nil
	case errors.Is(err, io.EOF):
		s.end(nil)
		return err
	}
	e := s.trace.failure(err, s.Trailer(), s.c.o.MaxPushback)
	s.end(e)
	return outward(e)
}

// end reports the stream's end, once.
func (s *clientStream) end(e *status.Error) {
	s.mu.Lock()
	o, stop := s.opened, s.stop
	s.opened = nil
	s.mu.Unlock()
	if o == nil {
		return
	}
	stop()
	s.cancel(nil)
	if e == nil {
		o.End(nil)
		return
	}
	s.failed(e)
	o.End(e)
}
