package muxtransport

import (
	"context"
	"crypto/tls"
	"fmt"
	"hash/maphash"
	"net"
	"sync"
	"time"

	"github.com/hull-go/hull/internal/callctx"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// Server serves connections. It is safe for concurrent use.
type Server struct {
	sh      *shared
	handler transport.Handler
	// contexts is the handler, if it makes the contexts of its calls itself.
	contexts contextMaker
	admits   admitter // the handler, if it wants to be asked first
	seed     maphash.Seed
	calls    sync.Pool // of *serverCall
	lot      lot

	mu       sync.Mutex
	conns    map[*serverConn]struct{} // until they are gone and so are their handlers
	shaking  map[net.Conn]struct{}    // in the handshake
	draining bool
	closed   bool
	empty    chan struct{} // closed when no connection is left and none can come
	emptied  bool
}

var _ transport.Server = (*Server)(nil)

// contextMaker is a Handler that keeps more with a call's context than this package does, and saves an allocation by making
// both in one. The context has in's deadline; info and found are what ConnInfo returned for the connection and FindMethod for the call's method.
type contextMaker interface {
	ConnInfo(addr net.Addr, state *tls.ConnectionState) (info any)
	FindMethod(name string) (found any)
	CallContext(info, found any, in *transport.Incoming) *callctx.Context
}

// admitter is a Handler that decides whether a unary call may run before it gets a goroutine, so that a refusal costs little and what has to wait
// does not hold up the reader. It is told of each call that it did not refuse again: by Unary, or by Forget if the call is over before that. ctx
// is what CallContext returned.
type admitter interface {
	// Arrive runs on the reader and must not wait. waits says that Unary is going to.
	Arrive(ctx *callctx.Context, in *transport.Incoming, now policy.Time) (waits bool, refusal *status.Error)
	Forget(ctx *callctx.Context)
	// Refusing says that calls are being refused, so that it is worth asking about those, too, that get a goroutine anyway.
	Refusing(now policy.Time) bool
}

// NewServer returns a Server that passes calls to h. It fails if an option makes no sense.
func NewServer(h transport.Handler, o Options) (*Server, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	s := &Server{sh: &shared{opts: o}, handler: h, conns: make(map[*serverConn]struct{}), shaking: make(map[net.Conn]struct{}),
		empty: make(chan struct{}), seed: maphash.MakeSeed()}
	s.contexts, _ = h.(contextMaker)
	if s.contexts != nil {
		s.admits, _ = h.(admitter)
	}
	s.calls.New = func() any { return new(serverCall) }
	return s, nil
}

// Counters returns what has happened so far on all connections.
func (s *Server) Counters() Counters { return s.sh.counters() }

// lingerTime is how long a drained connection waits for its client to close it: closing first could take away answers
// that the client has not read.
const lingerTime = time.Second

// ServeConn implements transport.Server. It returns when hands have been shaken: an idle connection costs one goroutine
// that has nothing on its stack. Close ends what it has begun, and Wait waits for it.
func (s *Server) ServeConn(nc net.Conn) {
	s.mu.Lock()
	if s.draining || s.closed {
		s.mu.Unlock()
		nc.Close()
		return
	}
	s.shaking[nc] = struct{}{}
	s.mu.Unlock()

	peer, met, err := s.shakeHands(nc)

	s.mu.Lock()
	delete(s.shaking, nc)
	refused := s.draining || s.closed
	if err != nil || refused {
		s.mu.Unlock()
		if !refused {
			s.sh.handshakesFailed.Add(1)
		}
		nc.Close()
		return
	}
	c := newServerConn(s, nc, peer, met)
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	go c.read()
}

// shakeHands answers the client's preface. met is when its HELLO had arrived.
func (s *Server) shakeHands(nc net.Conn) (peer hello, met policy.Time, err error) {
	_ = nc.SetDeadline(time.Now().Add(s.sh.opts.HandshakeTimeout))
	if err := checkTLS(nc); err != nil {
		return hello{}, 0, err
	}
	p, err := readPreface(nc)
	if err != nil {
		return hello{}, 0, err
	}
	chosen := negotiate(preface{min: p.min, max: p.max})
	out := preface{chosen, minVersion, maxVersion}.bytes()
	if chosen == 0 {
		_, err := nc.Write(out)
		if err == nil {
			err = fmt.Errorf("no protocol version in common: the client speaks %d to %d", p.min, p.max)
		}
		return hello{}, 0, err
	}
	peer, err = readHello(nc)
	met = policy.Now()
	if err != nil {
		return hello{}, 0, err
	}
	h := s.sh.opts.hello(nc.RemoteAddr())
	h.features |= featureWithdraw
	if s.sh.opts.Instance != nil && peer.features&featureInstance != 0 {
		if name := s.sh.opts.Instance(); len(name) <= maxInstance {
			h.instance = name
		}
	}
	if _, err := nc.Write(appendHello(out, h)); err != nil {
		return hello{}, 0, err
	}
	return peer, met, nc.SetDeadline(time.Time{})
}

// gone forgets a connection that has ended and has no handler running.
func (s *Server) gone(c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.conns[c]; !ok {
		return
	}
	delete(s.conns, c)
	s.checkEmpty()
}

func (s *Server) checkEmpty() {
	if (s.draining || s.closed) && len(s.conns) == 0 && !s.emptied {
		s.emptied = true
		close(s.empty)
	}
}

func (s *Server) all() []*serverConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	conns := make([]*serverConn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

// Drain implements transport.Server.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	for nc := range s.shaking {
		nc.Close()
	}
	s.checkEmpty()
	s.mu.Unlock()
	for _, c := range s.all() {
		c.beginDrain()
	}
	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
		s.Close()
		return context.Cause(ctx)
	}
}

// Close implements transport.Server.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	for nc := range s.shaking {
		nc.Close()
	}
	s.checkEmpty()
	s.mu.Unlock()
	for _, c := range s.all() {
		c.fail(status.Reset, errClosed)
		c.mu.Lock()
		done := c.doneChan()
		c.mu.Unlock()
		<-done
	}
	return nil
}

// Wait waits, after Drain or Close, for the handlers that still run. It returns ctx's error if some do not end.
func (s *Server) Wait(ctx context.Context) error {
	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// recycle keeps ca for another call. Nobody may know it any more.
func (s *Server) recycle(ca *serverCall) {
	ca.out, ca.buf, ca.spare = s.sh.keep(ca.out), s.sh.keep(ca.buf), s.sh.keep(ca.spare)
	ca.ctx, ca.m, ca.stream, ca.in, ca.head = nil, nil, nil, transport.Incoming{Scratch: ca.in.Scratch}, answerHead{}
	ca.state.Store(callWaiting)
	s.calls.Put(ca)
}
