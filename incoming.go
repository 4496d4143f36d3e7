package hull

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/internal/callctx"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// incoming is the context of a call that is being served. It carries what calls further down inherit, and answers grpc's
// questions for metadata, peer and transport stream when somebody asks: most handlers never do.
type incoming struct {
	context.Context                 // the transport's, or own
	own             callctx.Context // of a transport that lets its handler make it
	keys            *grpcKeys
	method          string
	addr            net.Addr
	tls             *tls.ConnectionState // nil without
	md              transport.Metadata
	pathAttempt     int
	criticality     policy.Criticality
	// downstream is set when a call made with this context has failed for good.
	downstream atomic.Bool

	mu              sync.Mutex
	header, trailer metadata.MD
	stream          transport.ServerStream // nil for unary calls
	headerSaid      bool                   // no more may be added to it
	headerSent      bool                   // it has left
}

type incomingKey struct{}

// newIncoming returns the context of a call that arrived with ctx. If ctx was made by CallContext it is already there.
func newIncoming(ctx context.Context, keys *grpcKeys, in *transport.Incoming, s transport.ServerStream) *incoming {
	if own, ok := ctx.(*callctx.Context); ok {
		if c, ok := own.Values().(*incoming); ok {
			c.stream = s
			return c
		}
	}
	return &incoming{Context: ctx, keys: keys, method: in.Method, md: in.Metadata, addr: in.Peer, tls: in.TLS,
		pathAttempt: in.PathAttempt, criticality: in.Criticality, stream: s}
}

// CallContext makes the context of a call and all that hangs on it in one piece, for transports that ask.
func (s *handler) CallContext(in *transport.Incoming) *callctx.Context {
	c := &incoming{keys: s.keys, method: in.Method, md: in.Metadata, addr: in.Peer, tls: in.TLS, pathAttempt: in.PathAttempt, criticality: in.Criticality}
	c.Context = &c.own
	c.own.Init(in.Deadline, c)
	return &c.own
}

// Value implements context.Context.
func (c *incoming) Value(key any) any {
	switch key {
	case incomingKey{}:
		return c
	case c.keys.metadata:
		return toMD(c.md)
	case c.keys.peer:
		return peerOf(c.addr, c.tls)
	case c.keys.stream:
		return serverTransportStream{c}
	}
	if c.Context == &c.own {
		return nil
	}
	return c.Context.Value(key)
}

// decoder reads the request of one call. It is used again, so that the function which handlers are given is made once.
type decoder struct {
	codec  codec.Codec
	in     *transport.Incoming
	decode func(any) error
}

// decoder returns what decodes in, until release.
func (s *Server) decoder(cd codec.Codec, in *transport.Incoming) *decoder {
	d, _ := s.decoders.Get().(*decoder)
	if d == nil {
		d = new(decoder)
		d.decode = d.unmarshal
	}
	d.codec, d.in = cd, in
	return d
}

func (s *Server) release(d *decoder) {
	d.codec, d.in = nil, nil
	s.decoders.Put(d)
}

func (d *decoder) unmarshal(v any) error {
	if d.in == nil {
		return status.Errorf(status.Internal, "the request was asked for after the handler had returned")
	}
	if err := d.codec.Unmarshal(d.in.Payload, v); err != nil {
		return &status.Error{Code: status.InvalidArgument, Fate: status.Processed, Message: fmt.Sprintf("the request of %s cannot be decoded: %v", d.in.Method, err)}
	}
	return nil
}

// above returns the incoming call that ctx belongs to, or nil at the root of a call tree.
func above(ctx context.Context) *incoming {
	c, _ := ctx.Value(incomingKey{}).(*incoming)
	return c
}

// origin says whose failure err is. An answer such as NotFound is nobody's, whatever happened on the way to it.
func (c *incoming) origin(err *status.Error) status.Origin {
	if policy.Classify(&status.Error{Code: err.Code}) == policy.ClassCaller {
		return status.Self
	}
	if err.Origin == status.Downstream || c.downstream.Load() {
		return status.Downstream
	}
	return status.Self
}

func (c *incoming) addHeader(md metadata.MD) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.headerSaid {
		return status.Errorf(status.Internal, "the header of %s has been sent already", c.method)
	}
	c.header = metadata.Join(c.header, md)
	return nil
}

func (c *incoming) sendHeader(md metadata.MD) error {
	if err := c.addHeader(md); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.headerSaid = true
	if c.stream == nil { // a unary call has one frame to answer with; the header goes with it
		return nil
	}
	c.headerSent = true
	if err := c.stream.SendHeader(fromMD(c.header)); err != nil {
		return err
	}
	return nil
}

// message says that a stream's first message is about to leave: the header goes before it, and cannot be added to any more.
func (c *incoming) message() error {
	c.mu.Lock()
	pending := !c.headerSaid && len(c.header) > 0
	c.headerSaid = c.headerSaid || !pending
	c.mu.Unlock()
	if pending {
		return c.sendHeader(nil)
	}
	return nil
}

func (c *incoming) addTrailer(md metadata.MD) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trailer = metadata.Join(c.trailer, md)
}

// metadata returns what the handler wants sent with the answer.
func (c *incoming) metadata() (header, trailer transport.Metadata) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.headerSent {
		header = fromMD(c.header)
	}
	return header, fromMD(c.trailer)
}

// serverTransportStream lets grpc.SetHeader, grpc.SendHeader and grpc.SetTrailer work.
type serverTransportStream struct{ c *incoming }

func (s serverTransportStream) Method() string                  { return "/" + s.c.method }
func (s serverTransportStream) SetHeader(md metadata.MD) error  { return s.c.addHeader(md) }
func (s serverTransportStream) SendHeader(md metadata.MD) error { return s.c.sendHeader(md) }
func (s serverTransportStream) SetTrailer(md metadata.MD) error { s.c.addTrailer(md); return nil }

// grpcKeys are the keys under which grpc looks things up in a context. They are not exported, so grpc is asked with a
// context that notes what it is asked for.
type grpcKeys struct{ metadata, peer, stream any }

func findGRPCKeys() *grpcKeys {
	k := new(grpcKeys)
	metadata.FromIncomingContext(noteKey{context.Background(), &k.metadata})
	peer.FromContext(noteKey{context.Background(), &k.peer})
	grpc.ServerTransportStreamFromContext(noteKey{context.Background(), &k.stream})
	return k
}

type noteKey struct {
	context.Context
	key *any
}

func (n noteKey) Value(key any) any { *n.key = key; return nil }

func toMD(m transport.Metadata) metadata.MD {
	md := make(metadata.MD, len(m))
	for _, f := range m {
		md[f.Key] = append(md[f.Key], f.Value)
	}
	return md
}

// fromMD also puts keys in lower case: a metadata.MD that was written as a map may have others.
func fromMD(md metadata.MD) transport.Metadata {
	if len(md) == 0 {
		return nil
	}
	m := make(transport.Metadata, 0, len(md))
	for k, vs := range md {
		k = strings.ToLower(k)
		for _, v := range vs {
			m = append(m, transport.Field{Key: k, Value: v})
		}
	}
	return m
}
