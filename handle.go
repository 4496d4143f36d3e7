package hull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// Handle serves a method with a Go function; no code is generated. name is pkg.Service/Method. Requests and answers travel as
// JSON, or as protobuf if Req and Rep are generated messages. It panics if the method is served already or the
// server runs.
func Handle[Req, Rep any](s *Server, name string, fn func(ctx context.Context, req *Req) (*Rep, error), opts ...HandleOption) {
	mustName(name)
	m := typedMethod[Req, Rep](name, opts)
	info := &grpc.UnaryServerInfo{Server: s, FullMethod: "/" + name}
	last := func(ctx context.Context, req any) (any, error) {
		rep, err := fn(ctx, req.(*Req))
		if err != nil {
			return nil, err
		}
		if rep == nil {
			return nil, status.Errorf(status.Internal, "the handler of %s returned neither an answer nor an error", name)
		}
		return rep, nil
	}
	m.serve = func(_ any, ctx context.Context, dec func(any) error, mw grpc.UnaryServerInterceptor) (any, error) {
		req := new(Req)
		if err := dec(req); err != nil {
			return nil, err
		}
		if mw == nil {
			return last(ctx, req)
		}
		return mw(ctx, req, info, last)
	}
	m.mw, m.keyed = chainUnary(s.opt.unary), chainUnary(s.withKeys(func() any { return new(Rep) }))
	s.add(m)
}

// typedMethod is what Handle and HandleStream know of a method beside how to call it.
func typedMethod[Req, Rep any](name string, opts []HandleOption) *method {
	m := &method{info: registry.Method{Name: name}, typed: true, request: reflect.TypeFor[Req](), reply: reflect.TypeFor[Rep]()}
	if req, ok := any(new(Req)).(proto.Message); ok {
		m.typed, m.request, m.reply = false, nil, nil
		m.requestProto = req.ProtoReflect().Descriptor()
		if rep, ok := any(new(Rep)).(proto.Message); ok {
			m.replyProto = rep.ProtoReflect().Descriptor()
		}
	}
	for _, o := range opts {
		o.handle(&m.info)
	}
	return m
}

// ServerStream is a stream of typed messages as its handler holds it. Send and Recv may be used by two goroutines at the
// same time, but neither by two.
type ServerStream[Req, Rep any] struct{ s grpc.ServerStream }

// Context carries the deadline and ends with the stream.
func (s *ServerStream[Req, Rep]) Context() context.Context { return s.s.Context() }

// Recv returns the next message; io.EOF when the caller has sent its last.
func (s *ServerStream[Req, Rep]) Recv() (*Req, error) {
	m := new(Req)
	if err := s.s.RecvMsg(m); err != nil {
		return nil, err
	}
	return m, nil
}

// Send sends a message; it waits while the caller's window is full.
func (s *ServerStream[Req, Rep]) Send(m *Rep) error { return s.s.SendMsg(m) }

// HandleStream is Handle for streams: either side sends as many messages as it likes.
func HandleStream[Req, Rep any](s *Server, name string, fn func(*ServerStream[Req, Rep]) error, opts ...HandleOption) {
	mustName(name)
	m := typedMethod[Req, Rep](name, opts)
	m.clientStreams, m.serverStreams = true, true
	info := &grpc.StreamServerInfo{FullMethod: "/" + name, IsClientStream: true, IsServerStream: true}
	last := func(_ any, ss grpc.ServerStream) error { return fn(&ServerStream[Req, Rep]{ss}) }
	mw := chainStream(s.opt.stream)
	m.stream = func(ss grpc.ServerStream) error {
		if mw == nil {
			return last(s, ss)
		}
		return mw(s, ss, info, last)
	}
	s.add(m)
}

// RegisterService implements grpc.ServiceRegistrar; generated Register functions call it. Idempotency levels of the proto
// file are published in discovery. It panics if impl does not implement the service.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	methods, info := describeService(desc, impl, chainUnary(s.opt.unary), chainStream(s.opt.stream))
	keyed := chainUnary(s.withKeys(nil))
	for _, m := range methods {
		if m.serve != nil {
			m.keyed = keyed
		}
		s.add(m)
	}
	s.mu.Lock()
	s.infos[desc.ServiceName] = info
	s.mu.Unlock()
}

// describeService makes methods of a generated service.
func describeService(desc *grpc.ServiceDesc, impl any, unaryMW grpc.UnaryServerInterceptor, streamMW grpc.StreamServerInterceptor) ([]*method, grpc.ServiceInfo) {
	file := findService(desc.ServiceName)
	info := grpc.ServiceInfo{Metadata: desc.Metadata}
	var methods []*method
	for i := range desc.Methods {
		md := &desc.Methods[i]
		m := &method{info: registry.Method{Name: desc.ServiceName + "/" + md.MethodName}, serve: md.Handler, impl: impl, mw: unaryMW}
		file.apply(md.MethodName, m)
		methods = append(methods, m)
		info.Methods = append(info.Methods, grpc.MethodInfo{Name: md.MethodName})
	}
	for i := range desc.Streams {
		sd := &desc.Streams[i]
		m := &method{info: registry.Method{Name: desc.ServiceName + "/" + sd.StreamName}, clientStreams: sd.ClientStreams, serverStreams: sd.ServerStreams}
		file.apply(sd.StreamName, m)
		si := &grpc.StreamServerInfo{FullMethod: "/" + m.info.Name, IsClientStream: sd.ClientStreams, IsServerStream: sd.ServerStreams}
		m.stream = func(ss grpc.ServerStream) error {
			if streamMW == nil {
				return sd.Handler(impl, ss)
			}
			return streamMW(impl, ss, si, sd.Handler)
		}
		methods = append(methods, m)
		info.Methods = append(info.Methods, grpc.MethodInfo{Name: sd.StreamName, IsClientStream: sd.ClientStreams, IsServerStream: sd.ServerStreams})
	}
	return methods, info
}

// GetServiceInfo describes the generated services that are registered, as grpc's reflection wants it.
func (s *Server) GetServiceInfo() map[string]grpc.ServiceInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]grpc.ServiceInfo, len(s.infos))
	for k, v := range s.infos {
		out[k] = v
	}
	return out
}

// protoService is what a proto file says of a service; nil for hand-written descriptions, which have no file.
type protoService struct{ protoreflect.ServiceDescriptor }

func findService(name string) *protoService {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return nil
	}
	sd, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil
	}
	return &protoService{sd}
}

// apply copies what the file says of a method: its messages and its idempotency level.
func (s *protoService) apply(name string, m *method) {
	if s == nil {
		return
	}
	d := s.Methods().ByName(protoreflect.Name(name))
	if d == nil {
		return
	}
	m.requestProto, m.replyProto = d.Input(), d.Output()
	o, ok := d.Options().(*descriptorpb.MethodOptions)
	if !ok {
		return
	}
	switch o.GetIdempotencyLevel() {
	case descriptorpb.MethodOptions_NO_SIDE_EFFECTS:
		m.info.Idempotent, m.info.SideEffectFree = true, true
	case descriptorpb.MethodOptions_IDEMPOTENT:
		m.info.Idempotent = true
	}
}

func mustName(name string) {
	if i := strings.LastIndexByte(name, '/'); i <= 0 || i == len(name)-1 || strings.HasPrefix(name, "/") {
		panic(fmt.Sprintf("hull: %q is no method name: write pkg.Service/Method, without a leading slash", name))
	}
}

func chainUnary(mw []grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	switch len(mw) {
	case 0:
		return nil
	case 1:
		return mw[0]
	}
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, last grpc.UnaryHandler) (any, error) {
		rest := chainUnary(mw[1:])
		return mw[0](ctx, req, info, func(ctx context.Context, req any) (any, error) { return rest(ctx, req, info, last) })
	}
}

func chainStream(mw []grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	switch len(mw) {
	case 0:
		return nil
	case 1:
		return mw[0]
	}
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, last grpc.StreamHandler) error {
		rest := chainStream(mw[1:])
		return mw[0](srv, ss, info, func(srv any, ss grpc.ServerStream) error { return rest(srv, ss, info, last) })
	}
}

// serverStream is a transport's stream as grpc's generated code knows it.
type serverStream struct {
	c   *incoming
	s   transport.ServerStream
	srv *Server

	received int         // messages
	begun    bool        // SendMsg's own: a message has been sent, or tried to
	talking  atomic.Bool // its place has been given back
}

// talk gives the stream's place back. A stream has one while its handler works toward its first answer; from then on it is a conversation, which may last
// for hours and says nothing of how much there is to do. It is no sample of how long calls take.
func (s *serverStream) talk() {
	if !s.talking.Load() && !s.talking.Swap(true) { // each message asks, and to look is cheaper
		s.srv.settle(s.c)
	}
}

func (s *serverStream) SetHeader(md metadata.MD) error  { return s.c.addHeader(md) }
func (s *serverStream) SendHeader(md metadata.MD) error { return s.c.sendHeader(md) }
func (s *serverStream) SetTrailer(md metadata.MD)       { s.c.addTrailer(md) }
func (s *serverStream) Context() context.Context        { return s.c }

func (s *serverStream) SendMsg(m any) error {
	if !s.begun {
		s.talk()
		if err := s.c.message(); err != nil {
			return err
		}
		s.begun = true
	}
	if err := s.s.Send(m); err != nil {
		return callError{err}
	}
	return nil
}

func (s *serverStream) RecvMsg(m any) error {
	if s.received++; s.received > 1 {
		s.talk()
	}
	err := s.s.Recv(m)
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return callError{status.From(err)}
}
