package grpcfront

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress with what every gRPC implementation knows
	"google.golang.org/grpc/keepalive"

	"github.com/hull-go/hull/internal/foreign"
	"github.com/hull-go/hull/internal/oneport"
	"github.com/hull-go/hull/transport"
)

// Options say what a Server accepts.
type Options struct {
	// MaxMessage is the largest message to receive, MaxHeader the most metadata with one call, in bytes; MaxStreams is the number of
	// calls and streams of one connection at a time.
	MaxMessage, MaxHeader, MaxStreams int
	// Handshake is how long HTTP/2's SETTINGS may take.
	Handshake time.Duration
	// Unknown says what calls of methods that are not served get.
	Unknown func(ctx context.Context, in *transport.Incoming) transport.Outgoing
	// Logger is told of panics in handlers; nil = nobody.
	Logger *slog.Logger
}

// minPing is how often clients may ping. Hull's own ask every second on a connection that has calls and is silent.
const minPing = 500 * time.Millisecond

// Server serves gRPC. It starts with the first connection. It is safe for concurrent use.
type Server struct {
	caller  foreign.Caller
	methods []foreign.Method
	opt     Options
	conns   *oneport.Handed
	mdKey   any // see mdKey
	// streamID is the function of that name.
	streamID func(grpc.ServerTransportStream) uint32

	tooLarge atomic.Int64

	mu     sync.Mutex
	grpc   *grpc.Server // nil before the first connection
	closed bool
	served sync.WaitGroup
}

// New returns a Server that passes the calls of methods to h.
func New(h transport.Handler, methods []foreign.Method, addr net.Addr, o Options) *Server {
	return &Server{caller: foreign.Caller{Handler: h, Logger: o.Logger}, methods: methods, opt: o, mdKey: mdKey(),
		streamID: streamID, conns: oneport.NewHanded(addr)}
}

// Counters reads the counters.
func (s *Server) Counters() foreign.CallerCounters { return s.caller.Counters() }

// TooLarge is how many messages were refused because of their size.
func (s *Server) TooLarge() int64 { return s.tooLarge.Load() }

// ServeConn takes c over and returns.
func (s *Server) ServeConn(c net.Conn) {
	if !s.start() {
		c.Close()
		return
	}
	s.conns.Hand(c)
}

func (s *Server) start() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.grpc == nil {
		g := s.build()
		s.grpc = g
		s.served.Go(func() { _ = g.Serve(s.conns) }) // ends with Drain or Close
	}
	return true
}

func (s *Server) build() *grpc.Server {
	g := grpc.NewServer(
		grpc.ForceServerCodecV2(rawCodec{}),
		grpc.Creds(established{}),
		grpc.MaxRecvMsgSize(s.opt.MaxMessage),
		grpc.MaxHeaderListSize(uint32(s.opt.MaxHeader)),
		grpc.MaxConcurrentStreams(uint32(s.opt.MaxStreams)),
		grpc.ConnectionTimeout(s.opt.Handshake),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		grpc.UnknownServiceHandler(s.unknown),
		grpc.WaitForHandlers(false),
	)
	for _, desc := range s.services() {
		g.RegisterService(desc, nil)
	}
	return g
}

// services describes the methods as grpc-go knows services.
func (s *Server) services() []*grpc.ServiceDesc {
	all := map[string]*grpc.ServiceDesc{}
	for i := range s.methods {
		m := &s.methods[i]
		slash := strings.LastIndexByte(m.Name, '/')
		service, name := m.Name[:slash], m.Name[slash+1:]
		d := all[service]
		if d == nil {
			d = &grpc.ServiceDesc{ServiceName: service}
			all[service] = d
		}
		if m.Stream {
			d.Streams = append(d.Streams, grpc.StreamDesc{StreamName: name, Handler: s.stream(m.Name, m.ClientStreams),
				ClientStreams: m.ClientStreams, ServerStreams: m.ServerStreams})
		} else {
			d.Methods = append(d.Methods, grpc.MethodDesc{MethodName: name, Handler: s.unary(m.Name)})
		}
	}
	return slices.Collect(maps.Values(all))
}

// Drain sends GOAWAY on all connections and waits until their calls have ended or ctx has; then it cuts off what is left and returns
// ctx's error.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	g := s.grpc
	s.mu.Unlock()
	if g == nil {
		return nil
	}
	done := make(chan struct{})
	go func() {
		g.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		g.Stop() // GracefulStop would go on waiting for handlers that do not listen to their contexts
		return context.Cause(ctx)
	}
}

// Close ends everything at once: the contexts of handlers are cancelled, but not waited for.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	g := s.grpc
	s.mu.Unlock()
	if g != nil {
		g.Stop()
	}
}

// Wait waits until everything has ended after Drain or Close, handlers included, or ctx ends.
func (s *Server) Wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		s.served.Wait()
		close(done)
	}()
	select {
	case <-done:
		return s.caller.Wait(ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
