package hull

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/internal/nearest"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/admission"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/muxtransport"
)

// Drain bounds, see Server.Run.
const (
	// DefaultDrainWait is how long a server that is going away stays open for callers that have not heard of it yet.
	DefaultDrainWait = time.Second
	// DefaultDrainTimeout is how long calls under way may take to finish.
	DefaultDrainTimeout = 20 * time.Second
)

// What a node can speak on its port, as discovery names it.
const (
	protocolNative = "hull/1"
	protocolGRPC   = "grpc"
	protocolHTTP   = "http"
)

// Server serves the methods of one service on one port and announces itself in discovery. Methods are added with Handle,
// HandleStream or generated Register functions before Run. It is safe for concurrent use.
type Server struct {
	// Every call writes these, on whatever processor it runs: they have a cache line of their own.
	calls, ended atomic.Int64 // that were let in, and those of them that are over
	_            [48]byte

	service string
	opt     serverOptions
	log     *slog.Logger
	keys    *grpcKeys
	ready   chan struct{}
	life    life
	stuck   chan bool     // the desk says that it is, or that it is not any more
	cut     chan struct{} // closed by Close
	cutOnce sync.Once

	failures atomic.Int64
	faults   atomic.Int64 // failures that are not what a caller asked for, such as NotFound
	streams  atomic.Int64 // under way
	decoders sync.Pool    // of *decoder, for calls whose Incoming has none

	desk    *admission.Desk
	asks    sync.Pool                 // of *admission.Ask
	doc     atomic.Pointer[spec.Spec] // in force; nil = that of the options
	origin  origin                    // of doc
	callers maphash.Seed

	unsayable unsayable

	guard *idempotency.Guard // of calls with a key; set by Run, under mu

	mu      sync.Mutex
	running bool
	methods map[string]*method // not changed once running
	infos   map[string]grpc.ServiceInfo
	node    registry.Node
	front   *front     // nil before Ready
	page    *adminPage // nil without
}

// method is one served method: unary or stream.
type method struct {
	info    registry.Method
	typed   bool              // speaks JSON of Go values unless they are protobuf messages
	builtin bool              // not the user's own
	desk    *admission.Method // nil if calls of it are always served
	// What other protocols and descriptions must know; each may be nil.
	request, reply           reflect.Type
	requestProto, replyProto protoreflect.MessageDescriptor
	// clientStreams and serverStreams say on which sides of a stream there can be many messages.
	clientStreams, serverStreams bool

	// One of serve and stream is set. serve is given impl, and mw or, for calls with an idempotency key, keyed, of which each may be nil.
	serve     grpc.MethodHandler
	impl      any
	mw, keyed grpc.UnaryServerInterceptor
	stream    func(s grpc.ServerStream) error
}

// NewServer returns a server of the service with that discovery name. Wrong options are all reported at once.
func NewServer(service string, opts ...ServerOption) (*Server, error) {
	s := &Server{service: service, stuck: make(chan bool), cut: make(chan struct{}), keys: findGRPCKeys(), ready: make(chan struct{}), methods: map[string]*method{},
		infos: map[string]grpc.ServiceInfo{}, callers: maphash.MakeSeed()}
	s.opt = serverOptions{drainWait: DefaultDrainWait, drainTimeout: DefaultDrainTimeout}
	var errs []error
	if err := registry.ValidName("service", service); err != nil {
		errs = append(errs, err)
	}
	for _, o := range opts {
		if err := o.server(&s.opt); err != nil {
			errs = append(errs, err)
		}
	}
	if s.opt.trust == nil {
		t := DefaultTrust()
		s.opt.trust = &t
	}
	var err error
	doc := s.opt.spec
	if doc == nil {
		doc = &spec.Spec{}
	}
	if err = doc.Validate(); err != nil {
		errs = append(errs, err)
	} else if s.desk, err = admission.New(rules(doc.Service(service))); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("hull: server %q: %w", service, errors.Join(errs...))
	}
	s.log = s.opt.log
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s, nil
}

// add registers a method; it panics on mistakes of the program, as http.Handle does: the same method twice, or after Run.
func (s *Server) add(m *method) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.running:
		panic(fmt.Sprintf("hull: method %s is added while the server runs: add methods before Run", m.info.Name))
	case s.methods[m.info.Name] != nil:
		panic(fmt.Sprintf("hull: method %s is served already", m.info.Name))
	}
	m.desk = s.desk.Add(m.info.Name)
	s.methods[m.info.Name] = m
}

// Declare says what callers may do with a method, where its proto file does not: Idempotent or SideEffectFree. It panics if the
// method is not served.
func (s *Server) Declare(name string, opts ...HandleOption) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.methods[name]
	if m == nil || s.running {
		panic(fmt.Sprintf("hull: declaring %s: the method is not served, or the server runs already", name))
	}
	for _, o := range opts {
		o.handle(&m.info)
	}
}

// Ready is closed when the server listens and is registered.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr returns the address that discovery knows, host:port. Valid once Ready.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.node.Address
}

// NodeID returns the name of this instance in discovery. Valid once Ready.
func (s *Server) NodeID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.node.ID
}

// ServerSnapshot is a reading of a server's counters.
type ServerSnapshot struct {
	// InFlight calls and streams now; Calls that began, and how many of them failed, since Run.
	InFlight, Calls, Failures int64
	// Admission is what was let in and what was refused, by which rule, and how the methods share the server.
	Admission admission.Snapshot
	// Keys is what became of calls with an idempotency key; the zero value before Run.
	Keys idempotency.Snapshot
	// Port is what the server's port has seen; the zero value before Ready.
	Port PortSnapshot
	// Native is what the native protocol's server has seen.
	Native muxtransport.Counters
}

// Snapshot reads the counters.
func (s *Server) Snapshot() ServerSnapshot {
	s.mu.Lock()
	f, guard := s.front, s.guard
	s.mu.Unlock()
	out := ServerSnapshot{InFlight: s.inFlight(), Calls: s.calls.Load(), Failures: s.failures.Load(), Admission: s.desk.Snapshot()}
	if f != nil {
		out.Port, out.Native = f.snapshot(), f.wire.Counters()
	}
	if guard != nil {
		out.Keys = guard.Snapshot()
	}
	return out
}

// Run listens, warms up, registers, serves, and returns when ctx has ended and the server is drained: it marks itself as draining in
// discovery, waits until callers know, deregisters, lets calls under way finish, and closes. Each step has its time and is a Phase. It returns nil after a
// clean drain, and if only streams and pages without an end were cut off. A Server runs once. See Serve for programs that end by a signal.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.running {
		s.mu.Unlock()
		return fmt.Errorf("hull: server %q has been run already: make a new one", s.service)
	}
	if len(s.methods) == 0 && s.opt.http == nil {
		s.mu.Unlock()
		return fmt.Errorf("hull: server %q serves nothing: add a method with hull.Handle or a generated Register function", s.service)
	}
	s.addBuiltins()
	s.running = true
	s.mu.Unlock()
	if s.opt.listener != nil {
		defer s.opt.listener.Close()
	}

	reg, closeReg, err := s.opt.shared.openRegistry()
	if err != nil {
		return fmt.Errorf("hull: server %q: %w", s.service, err)
	}
	defer closeReg()
	ln, err := s.listen()
	if err != nil {
		return fmt.Errorf("hull: server %q: %w", s.service, err)
	}
	defer ln.Close()
	page, err := openAdmin(s.opt.admin, s, nil, s.log)
	if err != nil {
		return fmt.Errorf("hull: server %q: %w", s.service, err)
	}
	defer page.close()
	s.mu.Lock()
	s.page = page
	s.mu.Unlock()
	guard, err := idempotency.New(s.opt.keys)
	if err != nil {
		return fmt.Errorf("hull: server %q: %w", s.service, err)
	}
	defer guard.Close()
	s.mu.Lock()
	s.guard = guard
	s.mu.Unlock()
	if err = s.live(ctx, reg, ln); err != nil {
		return fmt.Errorf("hull: server %q on %s: %w", s.service, ln.Addr(), err)
	}
	return nil
}

// live is Run with a registry and a listener.
func (s *Server) live(ctx context.Context, reg *registry.Registry, ln net.Listener) error {
	front, err := newFront(ln, s)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- front.serve(); close(failed) }()
	stopTurning, stopWatching := s.turn(), s.watch()
	defer func() {
		front.close()
		for range failed { // until it is closed; what failed has been told of
		}
		front.wait()
		stopWatching()
		stopTurning()
		s.begin(Closed, "")
	}()
	s.begin(Listening, "")

	node, err := s.describe(ln.Addr())
	if err != nil {
		return err
	}
	if err := s.warm(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	if ctx.Err() != nil { // asked to stop before it began
		return nil
	}
	s.begin(Registering, "")
	starting, started := s.cuttable(ctx)
	registration, err := announce(starting, reg, node)
	stop := starting.Err()
	started()
	if stop == nil && err != nil {
		return fmt.Errorf("registering: %w", err)
	}
	if stop != nil { // asked to before it was ready
		if err == nil {
			s.takeBack(registration)
		}
		if ctx.Err() == nil {
			return errCut
		}
		return nil
	}
	s.mu.Lock()
	s.node = *registration.Node()
	s.front = front
	s.mu.Unlock()
	s.begin(Ready, "")
	close(s.ready)
	err = s.serveUntil(ctx, registration, failed)
	left := s.leaveGently(reg, registration, front)
	if errors.Is(left, err) { // both say that the server was closed
		return left
	}
	return errors.Join(err, left)
}

func (s *Server) listen() (net.Listener, error) {
	if s.opt.listener != nil {
		return s.opt.listener, nil
	}
	addr := s.opt.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	ln, err := listenOn(addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", addr, err)
	}
	return ln, nil
}

// describe says what discovery is told about this instance.
func (s *Server) describe(addr net.Addr) (registry.Node, error) {
	n := s.opt.node
	n.Service = s.service
	if n.Address == "" {
		a, err := reachable(addr)
		if err != nil {
			return n, err
		}
		n.Address, n.Identifies = a, true // one that was advertised may be a proxy's, with several instances behind it
	}
	n.Protocols = []string{protocolNative, protocolGRPC, protocolHTTP}
	for _, name := range slices.Sorted(maps.Keys(s.methods)) {
		if m := s.methods[name]; !m.builtin {
			info := m.info
			info.Keyed = m.keyed != nil && s.opt.keys.Store != nil
			n.Methods = append(n.Methods, info)
		}
	}
	n.Started = time.Now()
	n.Remembers = n.Identifies && s.opt.keys.Store == nil
	return n, nil
}

// reachable turns a listener's address into one that others can dial: a wildcard becomes this machine's own address.
func reachable(a net.Addr) (string, error) {
	t, ok := a.(*net.TCPAddr)
	if !ok || !t.IP.IsUnspecified() {
		return namedAddr(a), nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("finding this machine's address: %w; say which one to publish with hull.Advertise", err)
	}
	return net.JoinHostPort(ownAddress(addrs, t.IP.To4() == nil), fmt.Sprint(t.Port)), nil
}

// ownAddress is the address among a machine's that others may reach it at: one of version 4, else of version 6 if that will do, else the loopback one.
func ownAddress(addrs []net.Addr, six bool) string {
	host := "127.0.0.1"
	for _, a := range addrs {
		switch ip, ok := a.(*net.IPNet); {
		case !ok || !ip.IP.IsGlobalUnicast():
		case ip.IP.To4() != nil:
			return ip.IP.String()
		case six && host == "127.0.0.1":
			host = ip.IP.String()
		}
	}
	return host
}

// handler is the transport's side of a Server.
type handler struct{ *Server }

// Unary implements transport.Handler.
func (s *handler) Unary(ctx context.Context, in *transport.Incoming) (out transport.Outgoing) {
	c := incomingOf(ctx)
	if c == nil {
		c = s.newIncoming(ctx, in)
	}
	m := c.m
	var x *extras
	if len(in.Metadata) > 0 {
		x = s.extras(c, in)
	}
	if m != nil && m.serve == nil {
		m = nil
	}
	cd, refusal := s.enter(c, in, m, x)
	if refusal != nil {
		out.Status, out.Load.InFlight = refusal, uint32(s.inFlight()+1)
		x.tell(s.Server, &out)
		return out
	}
	mw := m.mw
	if x != nil {
		x.story.begin()
		if x.keyed && m.keyed != nil {
			mw = m.keyed
		}
	}
	returned := false
	defer func() {
		if !returned {
			s.died(c)
			s.ended.Add(1)
		}
	}()
	d, own := in.Scratch.(*decoder)
	if !own {
		d = s.spareDecoder()
	}
	if d.in != in { // as it is mostly: the collector would be told of each pointer that is written
		d.in = in
	}
	d.c, d.codec, d.over = c, cd, false
	v, err := m.serve(m.impl, c, d.decode, mw)
	over := d.over
	d.c = nil
	if !own {
		d.in = nil
		s.decoders.Put(d)
	}
	out.Codec = cd
	c.speak(&out)
	switch {
	case err == nil:
		out.Message = v
	case over:
		out.Status = s.late(c)
	default:
		out.Status = s.failed(c, err)
	}
	returned = true
	s.leave(c, &out)
	x.tell(s.Server, &out)
	return out
}

// Stream implements transport.Handler.
func (s *handler) Stream(ctx context.Context, in *transport.Incoming, st transport.ServerStream) (out transport.Outgoing) {
	c := incomingOf(ctx)
	if c == nil {
		c = s.newIncoming(ctx, in)
	}
	c.answer.Store(&answer{stream: st})
	m := c.m
	var x *extras
	if len(in.Metadata) > 0 {
		x = s.extras(c, in)
	}
	if m != nil && m.stream == nil {
		m = nil
	}
	cd, refusal := s.enter(c, in, m, x)
	if refusal != nil {
		out.Status = refusal
		x.tell(s.Server, &out)
		return out
	}
	ss := &serverStream{c: c, s: st, srv: s.Server}
	s.streams.Add(1)
	returned := false
	defer func() {
		if !returned {
			s.died(c)
		}
		ss.talk()
		s.streams.Add(-1)
		s.ended.Add(1)
	}()
	if c.over() {
		returned = true
		out.Status = s.late(c)
		x.tell(s.Server, &out)
		return out
	}
	st.SetCodec(cd)
	if x != nil {
		x.story.begin()
	}
	err := m.stream(ss)
	returned = true
	c.speak(&out)
	if err != nil {
		out.Status = s.failed(c, err)
	}
	x.tell(s.Server, &out)
	return out
}

// extras are what a call's metadata asks of the server itself. Most calls have none, and nil.
type extras struct {
	self  transport.Metadata // for the answer's trailer
	wrong *status.Error      // not nil if the call is meant for somebody else
	keyed bool               // it has an idempotency key
	story *telling           // nil if the caller does not want to know what happens
}

// extras looks for what a call's metadata asks of the server itself.
func (s *Server) extras(c *incoming, in *transport.Incoming) *extras {
	for i := range in.Metadata {
		switch in.Metadata[i].Key {
		case headerNode, headerExplain, idempotency.Header:
			x := &extras{keyed: in.Metadata.Get(idempotency.Header) != "", story: s.explains(c, in)}
			x.self, x.wrong = s.meant(in)
			return x
		}
	}
	return nil
}

// tell adds to the answer what was asked.
func (x *extras) tell(s *Server, out *transport.Outgoing) {
	if x != nil {
		x.add(s, out)
	}
}

func (x *extras) add(s *Server, out *transport.Outgoing) {
	addTrailer(out, x.self...)
	x.story.end(s, out)
}

// enter lets a call in, unless it is refused: it is meant for somebody else, there is no such method (m is nil), it speaks another codec, or there is no place.
func (s *handler) enter(c *incoming, in *transport.Incoming, m *method, x *extras) (codec.Codec, *status.Error) {
	var cd codec.Codec
	if m != nil && (x == nil || x.wrong == nil) {
		cd = m.codec(in.Codec)
	}
	if cd == nil {
		return nil, s.turnAway(c, in, m, x)
	}
	if m.desk != nil && !c.seat.Taken() {
		if refusal := s.admitted(c, in); refusal != nil {
			return nil, refusal
		}
	}
	s.calls.Add(1)
	return cd, nil
}

// turnAway says why a call cannot be served, however much room there is, and has it leave the line.
func (s *handler) turnAway(c *incoming, in *transport.Incoming, m *method, x *extras) (why *status.Error) {
	switch {
	case x != nil && x.wrong != nil:
		why = x.wrong
	case m == nil:
		why = s.unknown(in.Method, c.m)
	default:
		why = strange(in)
	}
	if c.seat.Waits() {
		_ = s.giveUp(c, policy.Now(), false) // why it is refused is known
	}
	s.settle(c)
	return why
}

// leave ends a call that enter has let in, and notes in its answer when that was and how many there were, itself included.
func (s *Server) leave(c *incoming, out *transport.Outgoing) {
	if c.seat.Taken() {
		out.Ended = policy.Now()
		s.desk.Done(out.Ended, policy.Source{}, c.m.desk, &c.seat, c.outcome(out.Ended, out.Status))
	}
	ended := s.ended.Add(1)
	out.Load.InFlight = uint32(s.calls.Load() - ended + 1)
}

// inFlight is how many calls are under way.
func (s *Server) inFlight() int64 {
	ended := s.ended.Load() // first: what ends meanwhile has begun
	return s.calls.Load() - ended
}

// died ends a call whose handler panicked or called Goexit; the transport answers.
func (s *handler) died(c *incoming) {
	s.settle(c)
	s.failures.Add(1)
	s.faults.Add(1)
}

func (s *handler) failed(c *incoming, err error) *status.Error {
	s.failures.Add(1)
	e := fromHandler(err)
	if e != nil {
		e.Origin = c.origin(e)
		if isFailure(policy.Classify(e)) {
			s.faults.Add(1)
		}
	}
	return e
}

// unknownCall answers calls of methods that are not served, or not in that shape.
func (s *handler) unknownCall(_ context.Context, in *transport.Incoming) transport.Outgoing {
	self, wrong := s.meant(in)
	if wrong == nil {
		wrong = s.unknown(in.Method, s.methods[in.Method])
	}
	return transport.Outgoing{Status: wrong, Trailer: self}
}

func (s *handler) unknown(name string, m *method) *status.Error {
	e := &status.Error{Code: status.Unimplemented, Kind: status.NoMethod, Fate: status.Processed}
	switch {
	case m != nil && m.serve == nil:
		e.Message = fmt.Sprintf("%s is a stream, not a unary method", name)
	case m != nil:
		e.Message = fmt.Sprintf("%s is a unary method, not a stream", name)
	default:
		e.Message = fmt.Sprintf("service %q has no method %s", s.service, name)
		if near := nearest.Find(name, slices.Collect(maps.Keys(s.methods))); len(near) > 0 && !s.opt.hidden {
			e.Message += "; did you mean " + strings.Join(near, " or ") + "?"
		}
	}
	return e
}

// codec finds the codec that a caller uses; nil = the method does not speak it.
func (m *method) codec(name string) codec.Codec {
	switch {
	case name == "proto" && !m.typed:
		return codec.Proto{}
	case name == "json":
		return codec.JSON{}
	case name == "bytes":
		return codec.Bytes{}
	}
	return nil
}

// strange refuses a call whose codec its method does not speak.
func strange(in *transport.Incoming) *status.Error {
	e := &status.Error{Code: status.Unimplemented, Fate: status.Processed}
	if in.Codec == "proto" {
		e.Message = in.Method + " is a typed Go function and speaks JSON, not protobuf: call it with hull.Call, or with a client that sends JSON"
	} else {
		e.Message = fmt.Sprintf("codec %q is not known here; known are proto, json and bytes", in.Codec)
	}
	return e
}
