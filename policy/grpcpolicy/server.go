package grpcpolicy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull/internal/hop"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// ServerOptions describes a Server. Every zero means the default that stands beside it.
type ServerOptions struct {
	// Call changes what policies are told about a call: Criticality and PathAttempt are as its caller says. Set Hash here for limits
	// per caller. It must not keep it.
	Call func(ctx context.Context, method string, c *policy.Call)
	// Trusted reports whether a call's caller is trusted to say how important it is (hull-criticality), and how often calls made on
	// its behalf are repeated (x-envoy-max-retries) and after what (x-envoy-retry-grpc-on): nobody is. The others can make their calls
	// less important, not more. No caller can have repeated what the policies would not.
	Trusted func(ctx context.Context, method string) bool
	// MaxTimeout is the longest time that a unary call gets, whatever its caller says: no limit.
	MaxTimeout time.Duration
	// Logger is told of panics, with their stacks: nobody.
	Logger *slog.Logger
}

// Server is a pair of interceptors that serve what a pipeline admits. It is safe for concurrent use. A call holds its place until
// its handler has returned, also if it has panicked or has ended its goroutine.
type Server struct {
	p *policy.Pipeline
	o ServerOptions
}

// NewServer returns a server. A pipeline that would serve a call twice is an error.
func NewServer(p *policy.Pipeline, o ServerOptions) (*Server, error) {
	if p == nil {
		return nil, errors.New("grpcpolicy: no pipeline: give one")
	}
	switch po := p.Options(); {
	case po.Retries != nil && po.Retries.Attempts() > 1, po.Hedging != nil:
		return nil, fmt.Errorf("grpcpolicy: pipeline %q retries or hedges: a server must not serve a call twice; leave that to clients", p.Key())
	case o.MaxTimeout < 0:
		return nil, fmt.Errorf("grpcpolicy: option MaxTimeout is %v: want a positive time, or 0 for no limit", o.MaxTimeout)
	}
	return &Server{p: p, o: o}, nil
}

// ServerOptions returns the interceptors as options of grpc.NewServer.
func (s *Server) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(s.Unary), grpc.ChainStreamInterceptor(s.Stream)}
}

// Unary is a grpc.UnaryServerInterceptor.
func (s *Server) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (reply any, err error) {
	if s.o.MaxTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.o.MaxTimeout)
		defer cancel()
	}
	err = s.serve(ctx, info.FullMethod, func(md metadata.MD) { _ = grpc.SetTrailer(ctx, md) }, func(ctx context.Context) (err error) {
		reply, err = handler(ctx, req)
		return err
	})
	return reply, err
}

// Stream is a grpc.StreamServerInterceptor.
func (s *Server) Stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return s.serve(ss.Context(), info.FullMethod, ss.SetTrailer, func(ctx context.Context) error {
		return handler(srv, &serverStream{ss, hop.With(ss.Context(), hop.From(ctx))})
	})
}

// serverStream is a stream whose context knows the call's place in its tree.
type serverStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // that is what a stream is for
}

// Context implements grpc.ServerStream.
func (s *serverStream) Context() context.Context { return s.ctx }

func (s *Server) serve(ctx context.Context, method string, trailer func(metadata.MD), handle func(context.Context) error) error {
	md, _ := metadata.FromIncomingContext(ctx)
	at := hop.Read(func(key string) string {
		if v := md.Get(key); len(v) > 0 {
			return v[0]
		}
		return ""
	}, s.o.Trusted != nil && s.o.Trusted(ctx, method))
	ctx = hop.With(ctx, at)
	c := policy.Call{Method: strings.TrimPrefix(method, "/"), PathAttempt: at.Attempt, Criticality: at.Criticality}
	c.Service, _, _ = strings.Cut(c.Method, "/")
	if s.o.Call != nil {
		s.o.Call(ctx, method, &c)
	}
	at.Criticality = c.Criticality // calls on its behalf are as important as it is
	r := &serving{s: s, method: method, handle: handle}
	_, err := s.p.Drive(ctx, c, r)
	if r.began {
		if r.err != nil && at.Origin() == status.Downstream && passesOn(r.err) {
			trailer(metadata.Pairs(hop.Origin, status.Downstream.String()))
		}
		return r.err
	}
	e := status.From(err)
	if e.Refusal != nil && e.Refusal.RetryAfter > 0 {
		after := (e.Refusal.RetryAfter + time.Millisecond - 1) / time.Millisecond
		trailer(metadata.Pairs(keyPushback, strconv.FormatInt(int64(after), 10)))
	}
	return outward(e)
}

// passesOn reports whether a handler's error is a failure, and not an answer.
func passesOn(err error) bool {
	switch policy.Classify(&status.Error{Code: status.Code(grpcstatus.Code(err))}) {
	case policy.ClassCaller, policy.ClassAborted, policy.ClassCancelled:
		return false
	}
	return true
}

// serving is one call: the policy.Runner of its only attempt.
type serving struct {
	s      *Server
	method string
	handle func(context.Context) error
	began  bool
	err    error // the handler's
}

// Run implements policy.Runner.
func (r *serving) Run(ctx context.Context, a policy.Attempt) (err error) {
	r.began = true
	if d, ok := ctx.Deadline(); a.Deadline != 0 && (!ok || a.Deadline < policy.At(d)) {
		timed, cancel := context.WithDeadlineCause(ctx, a.Deadline.Clock(), policy.ErrAttemptTimeout)
		defer cancel()
		ctx = timed
	}
	defer func() {
		if v := recover(); v != nil {
			if r.s.o.Logger != nil {
				r.s.o.Logger.LogAttrs(ctx, slog.LevelError, "handler panicked", slog.String("method", r.method), slog.Any("panic", v),
					slog.String("stack", string(debug.Stack())))
			}
			r.err = grpcstatus.Error(codes.Internal, "the handler panicked")
			err = &status.Error{Code: status.Internal, Kind: status.Panicked}
		}
	}()
	r.err = r.handle(ctx)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &status.Error{Code: status.DeadlineExceeded, Kind: status.Timeout}
	case ctx.Err() != nil:
		return &status.Error{Code: status.Canceled, Kind: status.Cancelled}
	case r.err == nil:
		return nil
	}
	return &status.Error{Code: status.Code(grpcstatus.Code(r.err)), Fate: status.Processed, Cause: r.err}
}
