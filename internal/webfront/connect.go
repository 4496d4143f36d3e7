package webfront

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/internal/foreign"
	"github.com/hull-go/hull/internal/oneport"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// raw is a message that connect-go passes through: as bytes, or on its way from or to a codec of Hull's.
type raw struct {
	payload []byte
	codec   codec.Codec
	v       any
	bad     error // why it could not be decoded
}

// rawCodec makes connect-go leave messages alone.
type rawCodec struct{ name string }

// Name implements connect.Codec.
func (c rawCodec) Name() string { return c.name }

// Marshal implements connect.Codec.
func (c rawCodec) Marshal(v any) ([]byte, error) { return c.MarshalAppend(nil, v) }

// MarshalAppend is what connect-go uses to encode into a buffer it has.
func (rawCodec) MarshalAppend(dst []byte, v any) ([]byte, error) {
	if m, ok := v.(proto.Message); ok { // connect-go's own, in which gRPC carries the details of errors
		return codec.Proto{}.Append(dst, m)
	}
	m, ok := v.(*raw)
	if !ok || m.codec == nil {
		return nil, fmt.Errorf("a message of type %T instead of one of the server's own", v)
	}
	return m.codec.Append(dst, m.v)
}

// Unmarshal implements connect.Codec.
func (rawCodec) Unmarshal(data []byte, v any) error {
	m, ok := v.(*raw)
	if !ok {
		return fmt.Errorf("a target of type %T instead of one of the server's own", v)
	}
	if m.v != nil {
		m.bad = m.codec.Unmarshal(data, m.v)
		return m.bad
	}
	m.payload = bytes.Clone(data) // its buffer is used again
	return nil
}

// connectHandler serves a method in connect-go's protocols.
func (h *Handler) connectHandler(m *served) http.Handler {
	path := "/" + m.Name
	opts := []connect.HandlerOption{
		connect.WithCodec(rawCodec{"proto"}), connect.WithCodec(rawCodec{"json"}),
		connect.WithReadMaxBytes(h.opt.MaxMessage),
		connect.WithCompressMinBytes(1 << 10),
	}
	if m.SideEffectFree {
		opts = append(opts, connect.WithIdempotency(connect.IdempotencyNoSideEffects))
	}
	switch {
	case !m.Stream:
		return connect.NewUnaryHandler(path, func(ctx context.Context, req *connect.Request[raw]) (*connect.Response[raw], error) {
			return h.connectUnary(ctx, m, req)
		}, opts...)
	case m.ClientStreams && !m.ServerStreams:
		return connect.NewClientStreamHandler(path, func(ctx context.Context, s *connect.ClientStream[raw]) (*connect.Response[raw], error) {
			st := &stream{conn: s.Conn(), once: true, large: &h.tooLarge}
			if err := h.connectStream(ctx, m, st); err != nil {
				return nil, err
			}
			if st.last == nil {
				return nil, connect.NewError(connect.CodeInternal, errors.New("the handler of "+m.Name+" sent no answer"))
			}
			return connect.NewResponse(st.last), nil
		}, opts...)
	case m.ServerStreams && !m.ClientStreams:
		return connect.NewServerStreamHandler(path, func(ctx context.Context, req *connect.Request[raw], s *connect.ServerStream[raw]) error {
			return h.connectStream(ctx, m, &stream{conn: s.Conn(), first: req.Msg, large: &h.tooLarge})
		}, opts...)
	}
	return connect.NewBidiStreamHandler(path, func(ctx context.Context, s *connect.BidiStream[raw, raw]) error {
		return h.connectStream(ctx, m, &stream{conn: s.Conn(), large: &h.tooLarge})
	}, opts...)
}

type requestKey struct{}

// request is what connect-go's handlers must know of the HTTP request, and say of it.
type request struct {
	r      *http.Request
	codec  string
	called bool   // the method's handler is being called
	whole  func() // ends the time that the body has; nil = it has no end
}

// byConnect lets connect-go serve a request.
func (h *Handler) byConnect(w http.ResponseWriter, r *http.Request, m *served, k kind) {
	q := &request{codec: codecName(r)}
	q.r = r.WithContext(context.WithValue(r.Context(), requestKey{}, q))
	if !m.ClientStreams && r.Method != http.MethodGet { // the body is one message
		h.bound(w, q)
	}
	if asText(r) {
		t := untext(w, q.r)
		defer t.finish()
		w = t
	}
	e := &early{ResponseWriter: w, h: h, q: q, method: m, kind: k}
	m.connect.ServeHTTP(e, q.r)
	e.finish()
}

// codecName reads the codec from the content type, or from the query of a GET.
func codecName(r *http.Request) string {
	if r.Method == http.MethodGet {
		return r.URL.Query().Get("encoding")
	}
	ct, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	ct = strings.TrimSpace(ct)
	_, s, ok := strings.Cut(ct, "+")
	switch {
	case ok:
		return s
	case ct == "application/json":
		return "json"
	}
	return "proto"
}

// call prepares a call that connect-go has read.
func (h *Handler) call(ctx context.Context, m *served) (context.Context, context.CancelFunc, *transport.Incoming, *status.Error) {
	q := ctx.Value(requestKey{}).(*request)
	if q.called = true; q.whole != nil {
		q.whole() // what comes behind the message is of no interest
	}
	c, _ := ctx.Value(connKey{}).(net.Conn)
	in := &transport.Incoming{Method: m.Name, Codec: q.codec, Metadata: foreign.FromHeader(q.r.Header, q.r.Host), Received: policy.Now(), TLS: q.r.TLS}
	if c != nil {
		in.Peer = c.RemoteAddr()
	}
	in.PathAttempt, in.Criticality = transport.ReadHop(q.r.Header.Get)
	cancel := context.CancelFunc(func() {})
	d, ok, e := foreign.Timeout(q.r.Header)
	if ok { // connect-go knows only its protocol's own header
		ctx, cancel = context.WithDeadline(ctx, in.Received.Add(d).Clock())
	}
	if t, ok := ctx.Deadline(); ok {
		in.Deadline = policy.At(t)
	}
	return ctx, cancel, in, e
}

func (h *Handler) connectUnary(ctx context.Context, m *served, req *connect.Request[raw]) (*connect.Response[raw], error) {
	ctx, cancel, in, e := h.call(ctx, m)
	defer cancel()
	if e != nil {
		return nil, toConnect(e)
	}
	in.Payload = req.Msg.payload
	out := apart(func(gone func(*status.Error)) transport.Outgoing { return h.caller.Unary(ctx, in, gone) })
	h.fit(ctx, &out)
	if info, ok := connect.CallInfoForHandlerContext(ctx); ok {
		foreign.AddHeader(info.ResponseHeader(), "", out.Header)
		foreign.AddHeader(info.ResponseTrailer(), "", out.Trailer)
		addLoad(info.ResponseHeader(), in, &out)
	}
	if out.Status != nil {
		return nil, toConnect(fitting(ctx, out.Status, out.Trailer))
	}
	return connect.NewResponse(&raw{codec: out.Codec, v: out.Message}), nil
}

func (h *Handler) connectStream(ctx context.Context, m *served, s *stream) error {
	ctx, cancel, in, e := h.call(ctx, m)
	defer cancel()
	if e != nil {
		return toConnect(e)
	}
	s.ctx, s.codec = ctx, codec.Proto{}
	out := apart(func(gone func(*status.Error)) transport.Outgoing { return h.caller.Stream(ctx, in, s, gone) })
	h.fit(ctx, &out)
	if !s.sent {
		foreign.AddHeader(s.conn.ResponseHeader(), "", out.Header)
	}
	foreign.AddHeader(s.conn.ResponseTrailer(), "", out.Trailer)
	addLoad(s.conn.ResponseTrailer(), in, &out)
	if out.Status != nil {
		return toConnect(fitting(ctx, out.Status, out.Trailer))
	}
	return nil
}

// fitting returns e as it fits into a header or trailer beside that metadata, if the protocol of a call has errors there.
func fitting(ctx context.Context, e *status.Error, md transport.Metadata) *status.Error {
	q, _ := ctx.Value(requestKey{}).(*request)
	if q == nil || !strings.HasPrefix(q.r.Header.Get("Content-Type"), "application/grpc") {
		return e
	}
	return foreign.FitStatus(e, connOf(ctx).MaxAnswerHeader(), foreign.FieldsSize(md)+foreign.AnswerRoom) // facts come with it
}

// connOf returns the connection of a request; nil if it is none of a port's.
func connOf(ctx context.Context) *oneport.Conn {
	c, _ := ctx.Value(connKey{}).(*oneport.Conn)
	return c
}

// fit leaves out what a handler says beside its answer if the peer does not take that much, and counts it. Most protocols say header and trailer at once.
func (h *Handler) fit(ctx context.Context, out *transport.Outgoing) {
	if left := foreign.FitMetadata(out, connOf(ctx).MaxAnswerHeader(), true); left > 0 {
		h.tooLarge.Add(int64(left))
	}
}

// toConnect turns an error into connect-go's, with the facts that retry decides from.
func toConnect(e *status.Error) *connect.Error {
	code := e.Code
	if !code.Valid() || code == status.OK {
		code = status.Unknown
	}
	err := connect.NewError(connect.Code(code), errors.New(foreign.Message(e)))
	for _, d := range e.Details {
		if detail, derr := connect.NewErrorDetail(&anypb.Any{TypeUrl: d.TypeURL, Value: d.Value}); derr == nil {
			err.AddDetail(detail)
		}
	}
	addFacts(err.Meta(), e)
	return err
}

// stream is connect-go's stream as a transport.Handler knows it.
type stream struct {
	ctx   context.Context
	conn  connect.StreamingHandlerConn
	codec codec.Codec
	first *raw          // the request of a method that has one, until it is received
	given bool          // first was received
	once  bool          // the method answers with one message, which connect-go sends
	last  *raw          // that message
	sent  bool          // the header has gone out
	large *atomic.Int64 // counts messages and headers that are too large
}

var _ transport.ServerStream = (*stream)(nil)

// Context implements transport.Stream.
func (s *stream) Context() context.Context { return s.ctx }

// SetCodec implements transport.ServerStream.
func (s *stream) SetCodec(c codec.Codec) { s.codec = c }

// SendHeader implements transport.ServerStream.
func (s *stream) SendHeader(h transport.Metadata) *status.Error {
	if s.sent {
		return &status.Error{Code: status.Internal, Message: "the header has been sent already"}
	}
	if e := foreign.TooMuch(h, connOf(s.ctx).MaxAnswerHeader()); e != nil {
		s.large.Add(1)
		return e
	}
	s.sent = true
	foreign.AddHeader(s.conn.ResponseHeader(), "", h)
	if s.once {
		return nil // it goes with the answer
	}
	return fromConnect(s.conn.Send(nil))
}

// Send implements transport.Stream.
func (s *stream) Send(v any) *status.Error {
	m := &raw{codec: s.codec, v: v}
	s.sent = true
	if !s.once {
		return fromConnect(s.conn.Send(m))
	}
	if s.last != nil {
		return &status.Error{Code: status.Internal, Message: "the method answers with one message, but the handler sent more"}
	}
	s.last = m
	return nil
}

// Recv implements transport.Stream.
func (s *stream) Recv(v any) error {
	if s.first != nil {
		if s.given {
			return io.EOF
		}
		s.given = true
		if err := s.codec.Unmarshal(s.first.payload, v); err != nil {
			return &status.Error{Code: status.InvalidArgument, Fate: status.Processed, Message: "the message cannot be decoded: " + codec.Reason(err)}
		}
		return nil
	}
	m := &raw{codec: s.codec, v: v}
	err := s.conn.Receive(m)
	if err == nil {
		return nil
	}
	if m.bad != nil { // its sender's fault, which connect-go does not say in every protocol
		return &status.Error{Code: status.InvalidArgument, Fate: status.Processed, Message: "the message cannot be decoded: " + codec.Reason(m.bad)}
	}
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	e := fromConnect(err)
	if e.Kind == status.TooLarge {
		s.large.Add(1)
	}
	return e
}

// fromConnect turns an error of connect-go's into one of Hull's.
func fromConnect(err error) *status.Error {
	if err == nil {
		return nil
	}
	var c *connect.Error
	if !errors.As(err, &c) {
		return status.From(err)
	}
	e := &status.Error{Code: status.Code(c.Code()), Message: c.Message()}
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
