package grpcfront

import (
	"context"
	"errors"
	"io"
	"strings"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/internal/foreign"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// unary serves one method.
func (s *Server) unary(name string) grpc.MethodHandler {
	return func(_ any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var req received
		if err := dec(&req); err != nil {
			if e := fromGRPC(err); e.Kind == status.TooLarge {
				s.tooLarge.Add(1)
				e.Fate = status.NotSent
				_ = grpc.SetTrailer(ctx, toMD(transport.AppendFacts(nil, e))) // fails only outside of a call
			}
			return nil, err
		}
		defer req.free()
		in := transport.Incoming{Method: name, Payload: req.bytes()}
		ctx, cancel, e := s.incoming(ctx, &in)
		defer cancel()
		if e != nil {
			return nil, finish(ctx, &in, &transport.Outgoing{Status: e})
		}
		out := s.caller.Unary(ctx, &in, func(e *status.Error) { end(ctx, e) })
		s.fit(ctx, &out)
		if len(out.Header) > 0 {
			_ = grpc.SetHeader(ctx, toMD(out.Header)) // fails only if the handler has sent it
		}
		if err := finish(ctx, &in, &out); err != nil {
			return nil, err
		}
		answer := &outgoing{codec: out.Codec, v: out.Message, large: func() { s.await(ctx, answerPatience) }}
		if c := connOf(ctx); c != nil && c.Tight(largeAnswer) {
			answer.least = -1 // even a small one may have to wait
		}
		return answer, nil
	}
}

// stream serves one method, whose requests are messages or one message.
func (s *Server) stream(name string, messages bool) grpc.StreamHandler {
	return func(_ any, ss grpc.ServerStream) error {
		in := transport.Incoming{Method: name}
		ctx, cancel, e := s.incoming(ss.Context(), &in)
		if c := connOf(ctx); c != nil && messages {
			c.Patient(s.streamID(grpc.ServerTransportStreamFromContext(ctx)))
		}
		defer cancel()
		if e != nil {
			return finish(ctx, &in, &transport.Outgoing{Status: e})
		}
		st := &stream{ctx: ctx, srv: s, s: ss, codec: codec.Proto{}}
		out := s.caller.Stream(ctx, &in, st, func(e *status.Error) { end(ctx, e) })
		s.fit(ctx, &out)
		if len(out.Header) > 0 {
			_ = grpc.SetHeader(ctx, toMD(out.Header)) // fails only if the handler has sent it; ss would drop all of it for a letter that is not ASCII
		}
		s.await(ctx, streamPatience) // what has not gone out yet stays although the handler has returned
		return finish(ctx, &in, &out)
	}
}

// unknown answers for methods that are not served.
func (s *Server) unknown(_ any, ss grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(ss)
	in := transport.Incoming{Method: strings.TrimPrefix(name, "/")}
	ctx, cancel, _ := s.incoming(ss.Context(), &in) // it fails anyway
	defer cancel()
	out := s.opt.Unknown(ctx, &in)
	return finish(ctx, &in, &out)
}

// incoming fills in what the context knows of a call, and bounds it by what a proxy says of the time.
func (s *Server) incoming(ctx context.Context, in *transport.Incoming) (context.Context, context.CancelFunc, *status.Error) {
	in.Received, in.Codec = policy.Now(), "proto"
	md, ok := ctx.Value(s.mdKey).(metadata.MD) // only read: FromIncomingContext copies it all
	if !ok {
		md, _ = metadata.FromIncomingContext(ctx)
	}
	cancel := context.CancelFunc(func() {})
	d, ok, e := foreign.EnvoyTimeout(md)
	if ok {
		ctx, cancel = context.WithDeadline(ctx, in.Received.Add(d).Clock())
	}
	if t, ok := ctx.Deadline(); ok {
		in.Deadline = policy.At(t)
	}
	if p, ok := peer.FromContext(ctx); ok {
		in.Peer = p.Addr
		if a, ok := p.AuthInfo.(authInfo); ok {
			if t, ok := a.AuthInfo.(credentials.TLSInfo); ok {
				in.TLS = &t.State
			}
		}
	}
	in.Metadata = make(transport.Metadata, 0, len(md))
	for k, vs := range md {
		if k == "content-type" && len(vs) > 0 {
			in.Codec = codecName(vs[0])
		}
		for _, v := range vs {
			in.Metadata = append(in.Metadata, transport.Field{Key: k, Value: v})
		}
	}
	in.PathAttempt, in.Criticality = transport.ReadHop(func(key string) string {
		if v := md[key]; len(v) > 0 {
			return v[0]
		}
		return ""
	})
	return ctx, cancel, e
}

// mdKey returns the key under which grpc-go keeps a call's metadata in its context. It is not exported, so metadata is asked with a context
// that notes what it is asked for.
func mdKey() any {
	var key any
	metadata.FromIncomingContext(noteKey{context.Background(), &key})
	return key
}

type noteKey struct {
	context.Context
	key *any
}

// Value implements context.Context.
func (n noteKey) Value(key any) any { *n.key = key; return nil }

// codecName reads the codec out of a content type such as application/grpc+json.
func codecName(contentType string) string {
	s := strings.TrimPrefix(contentType, "application/grpc")
	if s == "" || s[0] == ';' && !strings.HasPrefix(s, ";json") {
		return "proto"
	}
	s, _, _ = strings.Cut(s[1:], ";")
	return s
}

// finish turns an answer's status into grpc-go's, and its trailer, load and facts into a trailer.
func finish(ctx context.Context, in *transport.Incoming, out *transport.Outgoing) error {
	out.Trailer = transport.AppendLoad(out.Trailer, out.Load, in.Metadata.Get(transport.HeaderLoadFormat))
	if e := out.Status; e != nil {
		out.Trailer = transport.AppendFacts(out.Trailer, e)
		out.Status = foreign.FitStatus(e, connOf(ctx).MaxAnswerHeader(), foreign.FieldsSize(out.Trailer))
	}
	if len(out.Trailer) > 0 {
		_ = grpc.SetTrailer(ctx, toMD(out.Trailer)) // fails only outside of a call
	}
	if out.Status == nil {
		return nil
	}
	return toGRPC(out.Status).Err()
}

// fit leaves out what a handler says beside its answer if the peer does not take that much, and counts it.
func (s *Server) fit(ctx context.Context, out *transport.Outgoing) {
	if left := foreign.FitMetadata(out, connOf(ctx).MaxAnswerHeader(), false); left > 0 {
		s.tooLarge.Add(int64(left))
	}
}

// end answers for a handler that ended its goroutine: grpc-go does not notice that.
func end(ctx context.Context, e *status.Error) {
	out := transport.Outgoing{Status: e}
	_ = finish(ctx, new(transport.Incoming), &out)
	if w, ok := grpc.ServerTransportStreamFromContext(ctx).(interface {
		WriteStatus(*grpcstatus.Status) error
	}); ok {
		_ = w.WriteStatus(toGRPC(e))
	}
}

func toGRPC(e *status.Error) *grpcstatus.Status {
	p := &spb.Status{Code: int32(e.Code), Message: foreign.Message(e)}
	for _, d := range e.Details {
		p.Details = append(p.Details, &anypb.Any{TypeUrl: d.TypeURL, Value: d.Value})
	}
	return grpcstatus.FromProto(p)
}

func toMD(m transport.Metadata) metadata.MD {
	md := make(metadata.MD, len(m))
	for _, f := range m {
		md[f.Key] = append(md[f.Key], f.Value)
	}
	return md
}

// stream is grpc-go's stream as a transport.Handler knows it.
type stream struct {
	ctx   context.Context
	srv   *Server
	s     grpc.ServerStream
	codec codec.Codec
}

var _ transport.ServerStream = (*stream)(nil)

// Context implements transport.Stream.
func (s *stream) Context() context.Context { return s.ctx }

// SetCodec implements transport.ServerStream.
func (s *stream) SetCodec(c codec.Codec) { s.codec = c }

// SendHeader implements transport.ServerStream.
func (s *stream) SendHeader(h transport.Metadata) *status.Error {
	if e := foreign.TooMuch(h, connOf(s.ctx).MaxAnswerHeader()); e != nil {
		s.srv.tooLarge.Add(1)
		return e
	}
	if len(h) > 0 {
		if err := grpc.SetHeader(s.ctx, toMD(h)); err != nil { // SendHeader refuses all of it for a letter that is not ASCII
			return fromGRPC(err)
		}
	}
	return fromGRPC(s.s.SendHeader(nil))
}

// Send implements transport.Stream.
func (s *stream) Send(v any) *status.Error {
	awaited := false
	err := s.s.SendMsg(&outgoing{codec: s.codec, v: v, large: func() {
		awaited = true
		s.srv.await(s.ctx, streamPatience)
	}})
	if awaited {
		s.srv.await(s.ctx, 0) // the handler goes on, and has a deadline
	}
	return fromGRPC(err)
}

// Recv implements transport.Stream.
func (s *stream) Recv(v any) error {
	to := target{codec: s.codec, v: v}
	err := s.s.RecvMsg(&to)
	switch {
	case to.bad != nil:
		return &status.Error{Code: status.InvalidArgument, Fate: status.Processed, Message: "the message cannot be decoded: " + codec.Reason(to.bad)}
	case err == nil || errors.Is(err, io.EOF):
		return err
	}
	e := fromGRPC(err)
	if e.Kind == status.TooLarge {
		s.srv.tooLarge.Add(1)
	}
	return e
}

// fromGRPC turns an error of grpc-go's into one of Hull's.
func fromGRPC(err error) *status.Error {
	if err == nil {
		return nil
	}
	st, ok := grpcstatus.FromError(err)
	if !ok {
		return status.From(err)
	}
	e := &status.Error{Code: status.Code(st.Code()), Message: st.Message()}
	switch e.Code {
	case status.Canceled:
		e.Kind = status.Cancelled
	case status.DeadlineExceeded:
		e.Kind = status.Timeout
	case status.ResourceExhausted:
		e.Kind, e.Fate = status.TooLarge, status.Processed
	}
	return e
}
