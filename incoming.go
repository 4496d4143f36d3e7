package hull

import (
	"context"
	"crypto/tls"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/internal/callctx"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/admission"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// incoming is the context of a call that is being served. It carries what calls further down inherit, and answers grpc's
// questions for metadata, peer and transport stream when somebody asks: most handlers never do. There is one for every call
// and it outlives the call if the handler lets it, so it is kept small and is not used again.
type incoming struct {
	// own ends with the call. Its values are this incoming itself, or the context of a transport that made one.
	own    callctx.Context
	from   *caller
	m      *method // nil if the server has no such method
	md     transport.Metadata
	answer atomic.Pointer[answer] // nil until the handler says something beside its message
	seat   admission.Seat

	pathAttempt int16 // or as much as fits
	criticality policy.Criticality
	// downstream is set when a call made with this context has failed for good.
	downstream atomic.Bool
}

// caller is what all calls of a connection have in common.
type caller struct {
	keys *grpcKeys
	says *unsayable
	log  *slog.Logger
	addr net.Addr
	tls  *tls.ConnectionState // nil without
	id   atomic.Uint64        // what identity returned; 0 = it has not been asked

	stranger bool // what it says of the call tree does not count
	proxied  bool // what comes through a proxy is trusted as it is
}

// answer is what a handler says beside its messages.
type answer struct {
	mu              sync.Mutex
	header, trailer metadata.MD
	stream          transport.ServerStream // nil for unary calls; not changed
	headerSaid      bool                   // no more may be added to it
	headerSent      bool                   // it has left
	parked          *parking               // while the call waits for a place; its own goroutine's
	telling         *telling               // nil if the caller does not want to know what happens; not changed
}

type incomingKey struct{}

// incomingOf returns what CallContext has made with ctx, nil if ctx is the transport's own.
func incomingOf(ctx context.Context) *incoming {
	own, _ := ctx.(*callctx.Context)
	if own == nil {
		return nil
	}
	c, _ := own.Values().(*incoming)
	return c
}

// newIncoming returns the context of a call that arrived with a context of its transport's own.
func (s *Server) newIncoming(ctx context.Context, in *transport.Incoming) *incoming {
	from, m, said := s.newCaller(in.Peer, in.TLS), s.methods[in.Method], in.Deadline
	s.heed(from, in, m)
	c := makeIncoming(from, m, in)
	if in.Deadline != said {
		ctx = bounded(ctx, in.Deadline)
	}
	c.own.Init(in.Deadline, ctx)
	return c
}

func (s *Server) newCaller(addr net.Addr, state *tls.ConnectionState) *caller {
	return &caller{keys: s.keys, says: &s.unsayable, log: s.log, addr: addr, tls: state, stranger: !s.opt.trust.knows(addr, state), proxied: s.opt.trust.Proxied}
}

// makeIncoming returns a call's context but for own.
func makeIncoming(from *caller, m *method, in *transport.Incoming) *incoming {
	return &incoming{from: from, m: m, md: in.Metadata, pathAttempt: int16(min(in.PathAttempt, math.MaxInt16)),
		criticality: in.Criticality}
}

// ConnInfo returns what CallContext is given with each call of a connection.
func (s *handler) ConnInfo(addr net.Addr, state *tls.ConnectionState) any {
	return s.newCaller(addr, state)
}

// FindMethod returns what CallContext is given with each call of a method, so that it need not look again; nil = there is no such method.
func (s *handler) FindMethod(name string) any {
	if m := s.methods[name]; m != nil {
		return m
	}
	return nil
}

// CallContext makes the context of a call and all that hangs on it in one piece, for transports that ask. These use an Incoming again, and what decodes its
// request with it.
func (s *handler) CallContext(info, found any, in *transport.Incoming) *callctx.Context {
	m, _ := found.(*method)
	if m == nil { // the connection has given the method no number
		m = s.methods[in.Method]
	}
	from := info.(*caller)
	if from.stranger || len(in.Metadata) > 0 { // others may say what they like
		s.heed(from, in, m)
	}
	if in.Scratch == nil {
		in.Scratch = newDecoder()
	}
	c := makeIncoming(from, m, in)
	c.own.Init(in.Deadline, c)
	return &c.own
}

// whole reports whether the call's context was made in one piece with it. Otherwise it hangs on a context of the transport's.
func (c *incoming) whole() bool { return c.own.Values() == callctx.Valuer(c) }

// base returns the context that ends with the call.
func (c *incoming) base() context.Context {
	if !c.whole() {
		if ctx, ok := c.own.Values().(context.Context); ok {
			return ctx
		}
	}
	return &c.own
}

// Deadline implements context.Context.
func (c *incoming) Deadline() (time.Time, bool) { return c.base().Deadline() }

// Done implements context.Context.
func (c *incoming) Done() <-chan struct{} { return c.base().Done() }

// Err implements context.Context.
func (c *incoming) Err() error {
	if c.whole() {
		return c.own.Err()
	}
	return c.base().Err()
}

// AfterFunc spares contexts that are derived from c a goroutine.
func (c *incoming) AfterFunc(f func()) (stop func() bool) { return context.AfterFunc(c.base(), f) }

// Value implements context.Context.
func (c *incoming) Value(key any) any {
	switch key {
	case incomingKey{}:
		return c
	case c.from.keys.metadata:
		md := toMD(c.md)
		delete(md, headerNode) // who passes it on would have it sent to another
		return md
	case c.from.keys.peer:
		return peerOf(c.from.addr, c.from.tls)
	case c.from.keys.stream:
		return serverTransportStream{c}
	}
	if c.whole() {
		return nil
	}
	return c.base().Value(key)
}

// decoder reads the request of one call. It is used again, so that the function which handlers are given is made once.
type decoder struct {
	c      *incoming // nil when its handler has returned
	codec  codec.Codec
	in     *transport.Incoming // the one that has it, or nil, between calls
	decode func(any) error
	over   bool // the call was over when its request had been read, so that its handler must not begin
}

// spareDecoder returns a decoder for a call whose Incoming has none.
func (s *Server) spareDecoder() *decoder {
	if d, _ := s.decoders.Get().(*decoder); d != nil {
		return d
	}
	return newDecoder()
}

func newDecoder() *decoder {
	d := new(decoder)
	d.decode = func(v any) error {
		if d.c == nil {
			return errAskedLate
		}
		if err := d.codec.Unmarshal(d.in.Payload, v); err != nil {
			return unreadable(d.in.Method, err)
		}
		// The last look: all that comes before the handler and can take its time, a goroutine's start and this very reading included, is over.
		if d.over = d.c.over(); d.over {
			return gone(d.c)
		}
		return nil
	}
	return d
}

var errAskedLate = status.Errorf(status.Internal, "the request was asked for after the handler had returned")

func unreadable(method string, err error) *status.Error {
	return &status.Error{Code: status.InvalidArgument, Fate: status.Processed, Message: fmt.Sprintf("the request of %s cannot be decoded: %s", method, codec.Reason(err))}
}

// above returns the incoming call that ctx belongs to, or nil at the root of a call tree.
func above(ctx context.Context) *incoming {
	c, _ := surroundings(ctx)
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

// says returns what the handler says beside its messages, to be added to.
func (c *incoming) says() *answer {
	if a := c.answer.Load(); a != nil {
		return a
	}
	c.answer.CompareAndSwap(nil, new(answer))
	return c.answer.Load()
}

func (c *incoming) addHeader(md metadata.MD) error {
	a := c.says()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.headerSaid {
		return status.Errorf(status.Internal, "the header of %s has been sent already", c.m.info.Name)
	}
	a.header = metadata.Join(a.header, md)
	return nil
}

func (c *incoming) sendHeader(md metadata.MD) error {
	if err := c.addHeader(md); err != nil {
		return err
	}
	a := c.says()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.headerSaid = true
	if a.stream == nil { // a unary call has one frame to answer with; the header goes with it
		return nil
	}
	a.headerSent = true
	if err := a.stream.SendHeader(c.sayable(a.header)); err != nil {
		return err
	}
	return nil
}

// message says that a stream's first message is about to leave: the header goes before it, and cannot be added to any more.
func (c *incoming) message() error {
	a := c.says()
	a.mu.Lock()
	pending := !a.headerSaid && len(a.header) > 0
	a.headerSaid = a.headerSaid || !pending
	a.mu.Unlock()
	if pending {
		return c.sendHeader(nil)
	}
	return nil
}

func (c *incoming) addTrailer(md metadata.MD) {
	a := c.says()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.trailer = metadata.Join(a.trailer, md)
}

// speak adds to an answer what the handler wants sent with it.
func (c *incoming) speak(out *transport.Outgoing) {
	if a := c.answer.Load(); a != nil {
		c.add(a, out)
	}
}

func (c *incoming) add(a *answer, out *transport.Outgoing) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.headerSent {
		out.Header = c.sayable(a.header)
	}
	out.Trailer = c.sayable(a.trailer)
}

// sayable is what can be said of md over every protocol.
func (c *incoming) sayable(md metadata.MD) transport.Metadata {
	if len(md) == 0 {
		return nil
	}
	name := ""
	if c.m != nil {
		name = c.m.info.Name
	}
	return c.from.says.answer(md, name, c.from.log)
}

// serverTransportStream lets grpc.SetHeader, grpc.SendHeader and grpc.SetTrailer work.
type serverTransportStream struct{ c *incoming }

func (s serverTransportStream) Method() string                  { return "/" + s.c.m.info.Name }
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

// identity is a number that tells callers apart: the one that TLS has proved, else the address without its port.
func (c *caller) identity(seed maphash.Seed) uint64 {
	if id := c.id.Load(); id != 0 {
		return id
	}
	var name string
	switch {
	case c.tls != nil && len(c.tls.VerifiedChains) > 0:
		name = "cert " + string(c.tls.VerifiedChains[0][0].RawSubject)
		if uris := c.tls.VerifiedChains[0][0].URIs; len(uris) > 0 {
			name = "uri " + uris[0].String()
		}
	case c.addr != nil:
		name = c.addr.String()
		if host, _, err := net.SplitHostPort(name); err == nil {
			name = host
		}
	}
	id := max(maphash.String(seed, name), 1)
	c.id.Store(id)
	return id
}
