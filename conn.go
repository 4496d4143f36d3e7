package hull

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/internal/hop"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// Conn is a client's way to one service. It implements grpc.ClientConnInterface, so generated clients take it as it is. It
// is safe for concurrent use, and is not closed: the Client is.
type Conn struct {
	s    *service
	base callOptions // what holds for every call

	nodes   policy.Nodes // the service's picker, or what the selector leaves of it
	invoke  UnaryInvoker // unary, in its interceptors; nil = there are none
	begin   StreamInvoker
	warned  atomic.Bool // that the service of a fallback is not there
	mu      sync.Mutex
	methods atomic.Pointer[map[string]*clientMethod]
	chosen  map[string]*Conn // for calls with a selector of their own, by its text
}

func newConn(s *service, opts []CallOption) *Conn {
	c := &Conn{s: s}
	c.base.apply(opts)
	c.begin = c.stream
	if len(s.c.opt.unary) > 0 {
		c.invoke = c.unary
	}
	for i := len(s.c.opt.unary) - 1; i >= 0; i-- {
		mw, next := s.c.opt.unary[i], c.invoke
		c.invoke = func(ctx context.Context, method string, req, reply any, opts ...CallOption) error {
			return mw(ctx, method, req, reply, next, opts...)
		}
	}
	for i := len(s.c.opt.stream) - 1; i >= 0; i-- {
		mw, next := s.c.opt.stream[i], c.begin
		c.begin = func(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...CallOption) (grpc.ClientStream, error) {
			return mw(ctx, desc, method, next, opts...)
		}
	}
	return c
}

// Service returns the service's name in discovery.
func (c *Conn) Service() string { return c.s.name }

// Invoke implements grpc.ClientConnInterface. The error, if any, is a *status.Error for errors.As, and grpc's status package
// understands it as well.
func (c *Conn) Invoke(ctx context.Context, method string, req, reply any, opts ...grpc.CallOption) error {
	method = strings.TrimPrefix(method, "/")
	if c.invoke == nil {
		return c.unary(ctx, method, req, reply, opts...)
	}
	return c.invoke(ctx, method, req, reply, opts...)
}

// NewStream implements grpc.ClientConnInterface.
func (c *Conn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return c.begin(ctx, desc, strings.TrimPrefix(method, "/"), opts...)
}

// Call calls a method with plain Go values and returns its answer. name is pkg.Service/Method. Messages travel as JSON, or as
// protobuf if they are generated ones.
func Call[Rep any](ctx context.Context, c grpc.ClientConnInterface, name string, req any, opts ...CallOption) (*Rep, error) {
	rep := new(Rep)
	if err := c.Invoke(ctx, name, req, rep, opts...); err != nil {
		return nil, err
	}
	return rep, nil
}

// CallElse is Call with a fallback: if the call fails, for whatever reason but the caller's own cancellation, the result is
// that of instead, which is given the error.
func CallElse[Rep any](ctx context.Context, c grpc.ClientConnInterface, name string, req any, instead func(context.Context, error) (*Rep, error), opts ...CallOption) (*Rep, error) {
	rep, err := Call[Rep](ctx, c, name, req, opts...)
	if err == nil || errors.Is(ctx.Err(), context.Canceled) {
		return rep, err
	}
	return instead(ctx, err)
}

// prepared is a call whose options, deadline and method are settled.
type prepared struct {
	keyed    bool   // it may be repeated because of its key only, where that is known
	borrowed bool   // its baggage is that of the call above
	instead  string // what answered when it had failed

	opt      *callOptions // what holds for the call: its Conn's, or its own, see change
	own      *callOptions // room for options of its own; nil = it has never had any
	m        *clientMethod
	now      policy.Time // when it began, or went on after it had to wait
	call     policy.Call
	codec    codec.Codec
	md       transport.Metadata
	parent   *incoming
	alt      *alternative // nil: a failure is a failure
	repeated int          // how often the call was made again to a node that knows its key
	wishes   *hop.Path    // of the call above, after which failures this one is repeated; nil = none

	explanation *Explanation // who else hears the story; nil = nobody
}

// prepare settles everything about a call but its outcome.
func (c *Conn) prepare(ctx context.Context, p *prepared, method string, message any, opts []CallOption, stream bool) *status.Error {
	p.opt = &c.base
	for len(opts) > 0 && saysNothing(opts[0]) {
		opts = opts[1:]
	}
	if len(opts) > 0 {
		p.change().apply(opts)
	}
	p.watch(ctx)
	if p.opt.err != nil {
		return &status.Error{Code: status.InvalidArgument, Kind: status.Refused, Fate: status.NotSent, Cause: p.opt.err}
	}
	if p.opt.once != "" && stream {
		return &status.Error{Code: status.InvalidArgument, Kind: status.Refused, Fate: status.NotSent,
			Message: "a stream has no idempotency key: leave the option out, or make what must not happen twice a unary call"}
	}
	p.now = policy.Now()
	p.parent = above(ctx)
	p.call.Service, p.call.Method, p.call.Hash = c.s.name, method, p.opt.hash
	p.call.Criticality = p.opt.inherits(p.parent)
	if p.parent != nil {
		p.call.PathAttempt = int(p.parent.pathAttempt)
	}
	if p.opt.from != nil && p.opt.from.again {
		p.call.PathAttempt = max(p.call.PathAttempt, 2)
	}
	chosen := c
	if p.opt.sel != c.base.sel {
		chosen = c.selecting(p.opt.sel)
	}
	var err *status.Error
	if p.m, err = chosen.method(method); err != nil {
		return err
	}
	if !stream {
		p.call.Deadline = p.deadline(ctx)
	}
	if p.opt.timeout != 0 {
		p.call.Deadline = policy.Earliest(p.call.Deadline, p.now.Add(p.opt.timeout))
	}
	if p.m.Else != nil && !stream {
		p.alt = newAlternative(ctx, c, p, message, p.now)
	}
	until := p.call.Deadline
	if d, ok := ctx.Deadline(); ok {
		until = policy.Earliest(until, policy.At(d))
	}
	unknown := c.s.discover(ctx, &p.now, policy.Earliest(until, p.now.Add(spec.DefaultTimeout)), p.opt.patient)
	if unknown != nil && p.alt == nil {
		return unknown
	}
	said := c.s.published(method)
	if p.m.Idempotent != nil {
		said.Idempotent = *p.m.Idempotent
	}
	if p.m.SideEffectFree != nil {
		said.SideEffectFree = *p.m.SideEffectFree
	}
	p.call.Idempotent = said.Idempotent || p.opt.idempotent || said.SideEffectFree
	p.call.SideEffectFree = said.SideEffectFree || p.opt.sideEffectFree
	if p.codec = p.opt.codec; p.codec == nil {
		if _, ok := message.(proto.Message); ok || (stream && message == nil) {
			p.codec = codec.Proto{}
		} else {
			p.codec = codec.JSON{}
		}
	}
	if p.opt.maxSend > 0 {
		p.codec = limitedCodec{p.codec, p.opt.maxSend}
	}
	if md, ok := metadata.FromOutgoingContext(ctx); ok {
		p.md = fromMD(md)
	}
	p.inherit()
	if p.opt.once != "" {
		p.md = slices.DeleteFunc(p.md, func(f transport.Field) bool { return f.Key == idempotency.Header }) // a handler may pass on what it was sent
		p.md = append(p.md, transport.Field{Key: idempotency.Header, Value: p.opt.once})
		if !p.call.Idempotent && said.Keyed {
			p.call.Idempotent, p.keyed = true, true
		}
	}
	p.explainOn()
	if p.opt.creds != nil {
		if err := c.authenticate(ctx, p, method); err != nil {
			return err
		}
		p.now = policy.Now() // that may have taken its time
	}
	p.fit()
	return unknown
}

// change returns the options to be changed for this call alone.
func (p *prepared) change() *callOptions {
	if p.own == nil {
		p.own = new(callOptions)
	}
	if p.opt != p.own {
		*p.own, p.opt = *p.opt, p.own
	}
	return p.own
}

// saysNothing reports whether an option changes nothing: generated code has one with every call, and streams of Go values have another.
func saysNothing(o CallOption) bool {
	switch o.(type) {
	case grpc.StaticMethodCallOption, messageOption:
		return true
	}
	return false
}

// deadline is the method's own timeout if the document names one; else what the caller has left, or the default.
func (p *prepared) deadline(ctx context.Context) policy.Time {
	if t := time.Duration(p.m.Timeout); t > 0 {
		return p.now.Add(t)
	}
	if _, ok := ctx.Deadline(); ok || p.opt.timeout != 0 {
		return 0
	}
	return p.now.Add(spec.DefaultTimeout)
}

// method returns how a method is called, made anew when the specification has changed.
func (c *Conn) method(name string) (*clientMethod, *status.Error) {
	gen := c.s.c.book.Generation()
	if ms := c.methods.Load(); ms != nil {
		if m := (*ms)[name]; m != nil && m.gen == gen {
			if !m.used.Load() { // a look spares other cores the write
				m.used.Store(true)
			}
			return m, nil
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.s.err != nil {
		return nil, &status.Error{Code: status.InvalidArgument, Kind: status.NoNode, Fate: status.NotSent, Cause: c.s.err}
	}
	if c.nodes == nil {
		c.nodes = c.s.picker
		if c.base.sel != nil {
			c.nodes = c.s.picker.With(*c.base.sel)
		}
	}
	sm, err := c.s.c.book.Method(c.s.name, name, c.nodes, c.s.c.observer())
	if err != nil {
		return nil, &status.Error{Code: status.Internal, Kind: status.Refused, Fate: status.NotSent, Cause: err}
	}
	m := &clientMethod{Method: sm, gen: gen}
	next := map[string]*clientMethod{name: m}
	if old := c.methods.Load(); old != nil {
		full := len(*old) >= maxMethods
		for k, v := range *old {
			if k != name && v.gen == gen && (!full || v.used.Swap(false)) {
				next[k] = v
			}
		}
		if len(next) > maxMethods { // all of them are in use, and more than are kept: those that come again are made again
			next = map[string]*clientMethod{name: m}
		}
	}
	c.methods.Store(&next)
	return m, nil
}

// maxSelectors is how many selectors of single calls a Conn keeps at hand.
const maxSelectors = 100

// selecting returns what chooses the nodes of calls with a selector of their own: a Conn that does nothing else.
func (c *Conn) selecting(sel *balance.Selector) *Conn {
	both := *sel
	if c.base.sel != nil {
		both = c.base.sel.And(both)
	}
	key := both.String()
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.chosen[key]; n != nil {
		return n
	}
	if c.chosen == nil || len(c.chosen) >= maxSelectors {
		c.chosen = map[string]*Conn{}
	}
	n := &Conn{s: c.s, base: callOptions{sel: &both}}
	c.chosen[key] = n
	return n
}

// maxMethods is how many methods a Conn keeps at hand. What they share with calls under way, breakers and latencies, is the
// specification's to keep (spec.MaxMethods), so that dropping one here costs it nothing but the making of a pipeline.
const maxMethods = 1000

// finish turns a call's end into what the caller gets, and tells the incoming call that this one was made for.
func (p *prepared) finish(err error) error {
	if p.alt != nil {
		err = p.alt.settle(p, err)
	}
	for e := p.explanation; e != nil; e = e.outer {
		e.add(p.opt.info)
	}
	if err == nil {
		if p.opt.onFinish != nil {
			p.opt.onFinish(nil)
		}
		return nil
	}
	e := p.sized(status.From(err))
	if p.parent != nil && p.opt.from == nil && failure(e) {
		p.parent.downstream.Store(true)
	}
	err = callError{e}
	if p.opt.onFinish != nil {
		p.opt.onFinish(err)
	}
	return err
}

// failure reports whether a call that ended with e failed. "Not found" is an answer, and what a handler cancelled was its own
// wish: neither makes what it returns the fault of something further down.
func failure(e *status.Error) bool {
	switch policy.Classify(e) {
	case policy.ClassOK, policy.ClassCaller, policy.ClassAborted, policy.ClassCancelled:
		return false
	}
	return true
}

func (i *CallInfo) fill(now policy.Time, c *policy.Call, s *policy.Story) {
	i.Service, i.Method, i.Class, i.Err, i.Took, i.Stopped, i.StoppedBy = c.Service, c.Method, s.Class, s.Err, s.Took, s.Stopped, s.StoppedBy
	i.Node, i.Address, i.Fallback, i.Age, i.Instead = "", "", "", 0, nil
	i.Repeated = 0
	began := now.Add(-s.Took)
	i.Verdicts = i.Verdicts[:0]
	for _, v := range s.Verdicts {
		i.Verdicts = append(i.Verdicts, VerdictInfo{v.Policy, v.Attempt + 1, v.Decision, v.DryRun, v.At.Sub(began), v.Took, v.State, v.Reason})
	}
	i.Attempts = i.Attempts[:0]
	for _, a := range s.Attempts {
		ai := AttemptInfo{Class: a.Class, Began: a.Start.Sub(began), Took: a.Took, Hedge: a.Hedge, Err: a.Err}
		if n, ok := a.Node.(*balance.Node); ok {
			ai.Node, ai.Address, ai.Zone = n.ID(), n.Info().Address, n.Info().Zone
		}
		i.Attempts = append(i.Attempts, ai)
	}
}

func (i *CallInfo) answeredBy(n policy.Node) {
	if b, ok := n.(*balance.Node); ok {
		i.Node, i.Address = b.ID(), b.Info().Address
	}
}
