package grpcpolicy

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull/internal/hop"
	"github.com/hull-go/hull/status"
)

// trace is how far an attempt came, as the stats handler saw it. Notes are never taken back: grpc-go may try again by itself.
type trace struct {
	parent, ctx           context.Context //nolint:containedctx // the call's and the attempt's, compared when it has failed
	began, sent, answered atomic.Bool
}

type traceKey struct{}

// Stats returns the stats handler that DialOptions contains.
func (c *Client) Stats() stats.Handler { return (*statsHandler)(c) }

type statsHandler Client

func (*statsHandler) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*statsHandler) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*statsHandler) HandleConn(context.Context, stats.ConnStats)                       {}

func (h *statsHandler) HandleRPC(ctx context.Context, s stats.RPCStats) {
	t, ok := ctx.Value(traceKey{}).(*trace)
	if !ok {
		return
	}
	switch s := s.(type) {
	case *stats.Begin:
		t.began.Store(true)
		if s.IsTransparentRetryAttempt {
			h.transparent.Add(1)
		}
	case *stats.OutHeader:
		t.sent.Store(true)
	case *stats.InTrailer:
		t.answered.Store(true)
	}
}

// failure says what an error of grpc-go means, and what is proved about it.
func (t *trace) failure(err error, trailer metadata.MD, most time.Duration) *status.Error {
	if e, ok := errors.AsType[*status.Error](err); ok { // of another interceptor that speaks Hull
		return e
	}
	st, _ := grpcstatus.FromError(err)
	e := &status.Error{Code: status.Code(st.Code()), Pushback: pushback(trailer, most), Cause: err}
	unsent := t.began.Load() && !t.sent.Load()
	if unsent {
		e.Fate = status.NotSent
	}
	switch {
	case t.answered.Load():
		e.Fate = status.Processed
		if v := trailer.Get(hop.Origin); len(v) > 0 {
			e.Origin = hop.ParseOrigin(v[0])
		}
	case errors.Is(t.parent.Err(), context.Canceled):
		e.Code, e.Kind = status.Canceled, status.Cancelled
	case t.ctx.Err() != nil, e.Code == status.DeadlineExceeded:
		e.Code, e.Kind = status.DeadlineExceeded, status.Timeout
	case unsent && e.Code == status.Unavailable:
		e.Kind = status.Dial
	case unsent: // credentials, configuration: nobody else's fault
		e.Kind = status.Refused
	case !t.began.Load(): // without the stats handler the code is all there is
	case e.Code == status.Unavailable:
		e.Kind = status.Reset
	case e.Code == status.ResourceExhausted:
		e.Kind = status.TooLarge
	case e.Code == status.Internal:
		e.Kind = status.Protocol
	}
	return e
}

// callError is a *status.Error that is also grpc-go's.
type callError struct{ e *status.Error }

// Error implements error.
func (c *callError) Error() string { return c.e.Error() }

// Unwrap returns the *status.Error.
func (c *callError) Unwrap() error { return c.e }

// GRPCStatus is for status.FromError of grpc-go. What a server said stays as it is.
func (c *callError) GRPCStatus() *grpcstatus.Status {
	type speaks interface {
		error
		GRPCStatus() *grpcstatus.Status
	}
	if s, ok := errors.AsType[speaks](c.e.Cause); ok {
		if st := s.GRPCStatus(); st.Code() == codes.Code(c.e.Code) {
			return st
		}
	}
	return grpcstatus.New(codes.Code(c.e.Code), c.e.Error())
}

// outward makes an error of the pipeline one of grpc-go's.
func outward(err error) error {
	if err == nil {
		return nil
	}
	return &callError{status.From(err)}
}
