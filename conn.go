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
	methods atomic.Pointer[methodTable]
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
		return c.call(ctx, c.newCall(method, req, reply), opts) // as unary, with less of the stack
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

// prepared is a call whose options, deadline and method are settled. What every call needs comes last, where what follows in a unaryCall is needed too.
type prepared struct {
	own *callOptions // room for options of its own; nil = it has never had any

	// These are zero if the call is plain.
	instead     string // what answered when it had failed
	md          transport.Metadata
	parent      *incoming
	repeated    int          // how often the call was made again to a node that knows its key
	wishes      *hop.Path    // of the call above, after which failures this one is repeated; nil = none
	explanation *Explanation // who else hears the story; nil = nobody
	alt         *alternative // nil: a failure is a failure
	keyed       bool         // it may be repeated because of its key only, where that is known
	borrowed    bool         // its baggage is that of the call above

	// plain: no option, context or document says anything of the call that is nobody else's. Then call is zero too, but for names, deadline and what may
	// be repeated.
	plain bool
	opt   *callOptions // what holds for the call: its Conn's, or its own, see change
	m     *clientMethod
	now   policy.Time  // when it began, or went on after it had to wait
	call  *policy.Call // never nil; what it points to is part of whatever is prepared
	codec codec.Codec
}

// codecFor returns the codec of a message, where no option names another.
func codecFor(message any) codec.Codec {
	if _, ok := message.(proto.Message); ok {
		return codec.Proto{}
	}
	return codec.JSON{}
}

// prepare settles everything about a call but its outcome. Its names and codec are there.
func (c *Conn) prepare(ctx context.Context, p *prepared, opts []CallOption, stream bool) *status.Error {
	parent, told := surroundings(ctx)
	md, _ := metadata.FromOutgoingContext(ctx)
	p.opt = &c.base
	for i, o := range opts {
		if !saysNothing(o) {
			p.change().apply(opts[i:])
			break
		}
	}
	p.now = policy.Now()
	chosen := c
	p.plain = true
	if p.opt.said || parent != nil || told != nil || len(md) != 0 || stream {
		p.plain = false
		if err := p.begin(parent, told, stream); err != nil {
			return err
		}
		if p.opt.sel != c.base.sel {
			chosen = c.selecting(p.opt.sel)
		}
	}
	m, err := chosen.method(p.call.Method)
	if err != nil {
		return err
	}
	p.m, p.call.Deadline = m, 0
	switch t := time.Duration(m.Timeout); {
	case stream:
	case t > 0: // the document's word; else what the caller has left holds, or the default
		p.call.Deadline = p.now.Add(t)
	case p.opt.timeout == 0:
		if _, ok := ctx.Deadline(); !ok {
			p.call.Deadline = p.now.Add(spec.DefaultTimeout)
		}
	}
	if p.opt.timeout != 0 {
		p.call.Deadline = policy.Earliest(p.call.Deadline, p.now.Add(p.opt.timeout))
	}
	if m.Else != nil && !stream {
		p.plain, p.alt = false, newAlternative(ctx, c, p, p.now)
	}
	var unknown *status.Error
	if !c.s.known() {
		if unknown = c.discover(ctx, p); unknown != nil && p.alt == nil {
			return unknown
		}
	}
	said := m.published(c.s)
	p.call.Idempotent, p.call.SideEffectFree = said.idempotent, said.sideEffectFree
	if !p.plain {
		if err := c.complete(ctx, p, fromMD(md), said.keyed); err != nil {
			return err
		}
	}
	return unknown
}

// begin notes where a call that is not plain comes from.
func (p *prepared) begin(parent *incoming, told *Explanation, stream bool) *status.Error {
	p.watch(told)
	if p.opt.err != nil {
		return &status.Error{Code: status.InvalidArgument, Kind: status.Refused, Fate: status.NotSent, Cause: p.opt.err}
	}
	if p.opt.once != "" && stream {
		return &status.Error{Code: status.InvalidArgument, Kind: status.Refused, Fate: status.NotSent,
			Message: "a stream has no idempotency key: leave the option out, or make what must not happen twice a unary call"}
	}
	p.parent = parent
	p.call.Hash = p.opt.hash
	p.call.Criticality = p.opt.inherits(parent)
	if parent != nil {
		p.call.PathAttempt = int(parent.pathAttempt)
	}
	if p.opt.from != nil && p.opt.from.again {
		p.call.PathAttempt = max(p.call.PathAttempt, 2)
	}
	return nil
}

// complete settles what remains of a call that is not plain: keyed, its method remembers keys.
func (c *Conn) complete(ctx context.Context, p *prepared, md transport.Metadata, keyed bool) *status.Error {
	p.call.Idempotent = p.call.Idempotent || p.opt.idempotent
	p.call.SideEffectFree = p.call.SideEffectFree || p.opt.sideEffectFree
	if p.opt.codec != nil {
		p.codec = p.opt.codec
	}
	if p.opt.maxSend > 0 {
		p.codec = limitedCodec{p.codec, p.opt.maxSend}
	}
	p.md = md
	p.inherit()
	if p.opt.once != "" {
		p.md = slices.DeleteFunc(p.md, func(f transport.Field) bool { return f.Key == idempotency.Header }) // a handler may pass on what it was sent
		p.md = append(p.md, transport.Field{Key: idempotency.Header, Value: p.opt.once})
		if !p.call.Idempotent && keyed {
			p.call.Idempotent, p.keyed = true, true
		}
	}
	p.explainOn()
	if p.opt.creds != nil {
		if err := c.authenticate(ctx, p, p.call.Method); err != nil {
			return err
		}
		p.now = policy.Now() // that may have taken its time
	}
	p.fit()
	return nil
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
	if _, ok := o.(grpc.StaticMethodCallOption); ok {
		return true
	}
	_, ok := o.(messageOption)
	return ok
}

// discover has the service find out where its nodes are.
func (c *Conn) discover(ctx context.Context, p *prepared) *status.Error {
	until := p.call.Deadline
	if d, ok := ctx.Deadline(); ok {
		until = policy.Earliest(until, policy.At(d))
	}
	return c.s.discover(ctx, &p.now, policy.Earliest(until, p.now.Add(spec.DefaultTimeout)), p.opt.patient)
}

// method returns how a method is called, made anew when the specification has changed.
func (c *Conn) method(name string) (*clientMethod, *status.Error) {
	gen := c.s.c.book.Generation()
	if t := c.methods.Load(); t != nil && t.gen == gen {
		m := t.quick[quickSlot(name)]
		if m == nil || m.name != name {
			m = t.byName[name]
		}
		if m != nil {
			if !m.used.Load() { // a look spares other cores the write
				m.used.Store(true)
			}
			return m, nil
		}
	}
	return c.newMethod(name, gen)
}

// newMethod makes a method, and a table with it.
func (c *Conn) newMethod(name string, gen uint64) (*clientMethod, *status.Error) {
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
	m := &clientMethod{Method: sm, name: name, budget: c.s.budget.current()}
	next := map[string]*clientMethod{name: m}
	if old := c.methods.Load(); old != nil && old.gen == gen {
		full := len(old.byName) >= maxMethods
		for k, v := range old.byName {
			if k != name && (!full || v.used.Swap(false)) {
				next[k] = v
			}
		}
		if len(next) > maxMethods { // all of them are in use, and more than are kept: those that come again are made again
			next = map[string]*clientMethod{name: m}
		}
	}
	c.methods.Store(newMethodTable(gen, next))
	return m, nil
}

// methodTable are the methods of a Conn that are at hand, made under one specification. It is not changed.
type methodTable struct {
	gen    uint64
	byName map[string]*clientMethod
	quick  [1 << quickBits]*clientMethod // most of them, where quickSlot says: to compare one name is quicker than to search
}

const quickBits = 6

func newMethodTable(gen uint64, methods map[string]*clientMethod) *methodTable {
	t := &methodTable{gen: gen, byName: methods}
	for name, m := range methods {
		t.quick[quickSlot(name)] = m
	}
	return t
}

// quickSlot is where a method is looked for first. Methods of one service begin alike: the last 16 bytes tell them apart.
func quickSlot(name string) uint64 {
	n := len(name)
	if n < 16 {
		return uint64(n)
	}
	const odd1, odd2 = 0x9e3779b97f4a7c15, 0xd6e8feb86659fd93 // any odd numbers whose bits are mixed
	return (word(name[n-8:])*odd1 ^ word(name[n-16:])*odd2) >> (64 - quickBits)
}

// word is eight bytes as a number.
func word(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
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

func (i *CallInfo) answeredBy(n *balance.Node) { i.Node, i.Address = n.ID(), n.Info().Address }
