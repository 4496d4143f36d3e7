package grpctransport_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	spb "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/transporttest"
)

// streams is the service under which the suite's streams are called, because gRPC does not say on the wire which of the two a method
// is.
const streams = "test.Streams/"

const suite = "test.Suite/"

// peerServer is a grpc-go server in front of the suite's handler: a transport.Server that is not Hull's.
type peerServer struct {
	h     transport.Handler
	gs    *grpc.Server
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	wg    sync.WaitGroup
}

func newPeerServer(h transport.Handler, l transporttest.Limits) *peerServer {
	s := &peerServer{h: h, conns: make(chan net.Conn), done: make(chan struct{})}
	opts := []grpc.ServerOption{grpc.UnknownServiceHandler(s.handle), grpc.ForceServerCodecV2(raw{})}
	if l.MaxMessage > 0 {
		opts = append(opts, grpc.MaxRecvMsgSize(l.MaxMessage))
	}
	if l.MaxCalls > 0 {
		opts = append(opts, grpc.MaxConcurrentStreams(uint32(l.MaxCalls)))
	}
	s.gs = grpc.NewServer(opts...)
	s.wg.Go(func() { _ = s.gs.Serve(peerListener{s}) })
	return s
}

// peerListener hands the server the connections that it is given.
type peerListener struct{ *peerServer }

func (s peerListener) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

func (s peerListener) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

func (s peerListener) Addr() net.Addr { return &net.TCPAddr{} }

// watched is a connection whose end somebody waits for.
type watched struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (w *watched) Close() error {
	w.once.Do(func() { close(w.closed) })
	return w.Conn.Close()
}

func (s *peerServer) ServeConn(c net.Conn) {
	w := &watched{Conn: c, closed: make(chan struct{})}
	select {
	case s.conns <- w:
		<-w.closed
	case <-s.done:
		c.Close()
	}
}

func (s *peerServer) Drain(ctx context.Context) error {
	graceful := make(chan struct{})
	go func() {
		s.gs.GracefulStop()
		close(graceful)
	}()
	select {
	case <-graceful:
		return nil
	case <-ctx.Done():
		s.gs.Stop()
		<-graceful
		return ctx.Err()
	}
}

func (s *peerServer) Close() error {
	s.gs.Stop()
	s.wg.Wait()
	return nil
}

// handle serves every method.
func (s *peerServer) handle(_ any, ss grpc.ServerStream) error {
	ctx := ss.Context()
	method, _ := grpc.MethodFromServerStream(ss)
	method = strings.TrimPrefix(method, "/")
	in := &transport.Incoming{Method: method, Received: policy.Now()}
	md, _ := metadata.FromIncomingContext(ctx)
	in.PathAttempt, in.Criticality = transport.ReadHop(func(k string) string { return strings.Join(md.Get(k), "") })
	in.Codec = strings.TrimPrefix(strings.Join(md.Get("content-type"), ""), "application/grpc+")
	for k, vs := range md {
		switch k {
		case ":authority", "content-type", "user-agent", "grpc-accept-encoding", transport.HeaderAttempt, transport.HeaderCriticality:
			continue
		}
		for _, v := range vs {
			in.Metadata = append(in.Metadata, transport.Field{Key: k, Value: v})
		}
	}
	if d, ok := ctx.Deadline(); ok {
		in.Deadline = policy.At(d)
	}
	if p, ok := peer.FromContext(ctx); ok {
		in.Peer = p.Addr
	}
	var out transport.Outgoing
	if name, ok := strings.CutPrefix(method, streams); ok {
		in.Method = suite + name
		out = s.guard(func() transport.Outgoing { return s.h.Stream(ctx, in, &serverStream{ss: ss}) })
	} else {
		if err := ss.RecvMsg(&in.Payload); err != nil {
			return err
		}
		out = s.guard(func() transport.Outgoing { return s.h.Unary(ctx, in) })
	}
	if len(out.Header) > 0 {
		_ = ss.SetHeader(toMD(out.Header))
	}
	facts := transport.AppendLoad(out.Trailer, out.Load, transport.LoadText)
	if out.Status == nil && out.Codec != nil {
		b, err := out.Codec.Append(nil, out.Message)
		if err == nil {
			ss.SetTrailer(toMD(facts))
			return ss.SendMsg(b)
		}
		out.Status = &status.Error{Code: status.Internal, Cause: err}
	}
	e := out.Status
	if e != nil && e.Kind != status.Shed && e.Kind != status.NoMethod {
		c := *e // what a handler says of calls below is not about this one
		c.Fate = status.Processed
		if c.Kind != status.Panicked {
			c.Kind = status.Answered
		}
		e = &c
	}
	ss.SetTrailer(toMD(transport.AppendFacts(facts, e)))
	if e == nil {
		return nil
	}
	p := &spb.Status{Code: int32(e.Code), Message: e.Message}
	for _, d := range e.Details {
		p.Details = append(p.Details, &anypb.Any{TypeUrl: d.TypeURL, Value: d.Value})
	}
	return grpcstatus.ErrorProto(p)
}

// guard runs a handler that may panic or end its goroutine.
func (s *peerServer) guard(f func() transport.Outgoing) transport.Outgoing {
	result := make(chan transport.Outgoing, 1)
	go func() {
		out := transport.Outgoing{Status: &status.Error{Code: status.Internal, Kind: status.Panicked}}
		defer func() {
			_ = recover()
			result <- out
		}()
		out = f()
	}()
	return <-result
}

type serverStream struct {
	ss    grpc.ServerStream
	codec codec.Codec
}

func (s *serverStream) Context() context.Context { return s.ss.Context() }
func (s *serverStream) SetCodec(c codec.Codec)   { s.codec = c }

func (s *serverStream) SendHeader(h transport.Metadata) *status.Error {
	return fromGRPC(s.ss.SendHeader(toMD(h)))
}

func (s *serverStream) Send(v any) *status.Error {
	b, err := s.codec.Append(nil, v)
	if err != nil {
		return status.From(err)
	}
	return fromGRPC(s.ss.SendMsg(b))
}

func (s *serverStream) Recv(v any) error {
	var b []byte
	if err := s.ss.RecvMsg(&b); err != nil {
		if errors.Is(err, io.EOF) {
			return err
		}
		return fromGRPC(err)
	}
	return s.codec.Unmarshal(b, v)
}

func fromGRPC(err error) *status.Error {
	if err == nil {
		return nil
	}
	e := &status.Error{Code: status.Code(grpcstatus.Code(err)), Message: err.Error()}
	if e.Code == status.Code(codes.Canceled) {
		e.Cause = context.Canceled
	}
	return e
}

func toMD(m transport.Metadata) metadata.MD {
	md := metadata.MD{}
	for _, f := range m {
		md.Append(f.Key, f.Value)
	}
	return md
}

// raw passes bytes through.
type raw struct{}

func (raw) Name() string { return "raw" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("%T is no message of the suite", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// named is a Conn that calls streams under the name of their service.
type named struct{ transport.Conn }

func (n named) Open(ctx context.Context, req *transport.Request) (transport.ClientStream, *status.Error) {
	r := *req
	r.Method = strings.Replace(r.Method, suite, streams, 1)
	return n.Conn.Open(ctx, &r)
}

type namedDialer struct{ transport.Dialer }

func (d namedDialer) Dial(ctx context.Context, addr string) (transport.Conn, *status.Error) {
	c, err := d.Dialer.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return named{c}, nil
}
