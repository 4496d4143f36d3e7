package hull

import (
	"context"
	"sync"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/pool"
)

// unary makes one call, with all its policies.
func (c *Conn) unary(ctx context.Context, method string, req, reply any, opts ...CallOption) error {
	return c.call(ctx, c.newCall(method, req, reply), opts)
}

// newCall returns a call that is to be made.
func (c *Conn) newCall(method string, req, reply any) *unaryCall {
	u, _ := c.s.c.calls.Get().(*unaryCall)
	if u == nil {
		u = new(unaryCall)
		u.call, u.rep.Scratch = u.lane.Call(), &u.scratch
	}
	u.s, u.req.Message, u.rep.Message = c.s, req, reply
	u.call.Service, u.call.Method, u.codec = c.s.name, method, codecFor(reply)
	return u
}

// call makes a call, whose u is used up then.
func (c *Conn) call(ctx context.Context, u *unaryCall, opts []CallOption) error {
	err := c.prepare(ctx, &u.prepared, opts, false)
	if !u.plain && u.alt != nil {
		u.alt.req, u.alt.reply = u.req.Message, u.rep.Message
	}
	if err != nil {
		return u.refuse(c, err)
	}
	u.request()
	if u.m.Unary.Concurrent(u.call) {
		return c.hedged(ctx, u)
	}
	quiet := u.plain || u.quiet() // found out now: if many calls are under way, u has left the caches by then
	winner, failed := u.m.Unary.DriveIn(ctx, u.now, &u.lane, u.runner())
	if failed != nil || !quiet {
		failed = u.ended(winner, failed)
	}
	u.release(c.s.c)
	return failed
}

// quiet reports whether nobody wants to hear of the call if it succeeds.
func (u *unaryCall) quiet() bool {
	o := u.opt
	return u.alt == nil && u.explanation == nil && o.info == nil && o.header == nil && o.trailer == nil && o.peer == nil && o.onFinish == nil
}

// ended tells of the call, whose winner is the number of the attempt that counts, and returns what its caller gets.
func (u *unaryCall) ended(winner int, err error) error {
	u.tell(winner, u.node, &u.rep, err)
	if u.opt.explain {
		u.explained(u.s)
	}
	return u.finish(err)
}

// request fills in what goes out. It does so one by one: there is no copy then.
func (u *unaryCall) request() {
	r := &u.req
	r.Method, r.Codec = u.call.Method, u.codec
	if u.plain {
		return
	}
	r.Metadata, r.Criticality = u.md, u.call.Criticality
	r.MaxReply, r.MaxRequest, r.Authority, r.Compressor = u.opt.maxReply, u.opt.maxSend, u.opt.authority, u.opt.compressor
}

// runner is u, with the caller's wish to be told.
func (u *unaryCall) runner() policy.Runner {
	if u.opt.info != nil {
		return &toldCall{Runner: u, info: u.opt.info}
	}
	return u
}

// refuse ends a call that did not get as far as its pipeline.
func (u *unaryCall) refuse(c *Conn, e *status.Error) error {
	err := c.refused(&u.prepared, e)
	u.release(c.s.c)
	return err
}

// refused ends a call that did not get as far as its pipeline, and tells those who want to know of calls.
func (c *Conn) refused(p *prepared, err *status.Error) error {
	info := CallInfo{Service: c.s.name, Method: p.call.Method, Class: policy.ClassRefused, Err: err}
	if p.opt.info != nil {
		*p.opt.info = info
	}
	if p.opt.explain {
		p.explained(c.s)
	}
	c.s.c.recorder.refused(&info)
	if c.s.c.opt.seen != nil {
		c.s.c.opt.seen(&info)
	}
	return p.finish(err)
}

// unaryCall is the Runner of a call whose attempts follow one another. What all of them need lies together, see policy.Lane.
type unaryCall struct {
	lane policy.Lane // used as the last call left it; prepared.call is in it
	prepared
	s       *service
	node    *balance.Node // of the last attempt; nil = there was none
	rep     transport.Reply
	scratch any // rep's
	req     transport.Request
}

// release keeps u for another call, with nothing in it. After a plain call that is little, see prepared.
func (u *unaryCall) release(c *Client) {
	u.rep.Message = nil
	u.rep.Reset()
	if u.plain {
		u.opt, u.m, u.s, u.node, u.req.Message = nil, nil, nil, nil, nil
		c.calls.Put(u)
		return
	}
	own := u.own
	if own != nil && u.opt == own {
		*own = callOptions{}
	}
	*u.call = policy.Call{}
	u.prepared, u.s, u.req, u.node = prepared{own: own, call: u.call}, nil, transport.Request{}, nil
	c.calls.Put(u)
}

// Run implements policy.Runner.
func (u *unaryCall) Run(ctx context.Context, a policy.Attempt) error {
	n := a.Node.(*balance.Node)
	u.node = n
	if a.N > 0 {
		u.rep.Reset()
	}
	attempt(&u.req, u.call, &a)
	u.m.budget.Peak(a.Start, n.InFlight())
	info := n.Info() // another process may have taken the name by the time the connection breaks
	if err := u.s.send(ctx, n, info, &u.req, &u.rep); err != nil {
		return u.failed(ctx, &a, info, err)
	}
	return nil
}

// failed is the error of an attempt that has failed, unless the call has succeeded after all.
func (u *unaryCall) failed(ctx context.Context, a *policy.Attempt, asked *registry.Node, err *status.Error) error {
	if err = u.sameAgain(ctx, u.s, *a, asked, &u.req, &u.rep, u.wished(err)); err != nil {
		return err
	}
	return nil
}

// attempt says in a request which attempt at a call it is.
func attempt(req *transport.Request, c *policy.Call, a *policy.Attempt) {
	req.Deadline, req.PathAttempt, req.WantLoad = a.Deadline, pathAttempt(c, a.N), a.Node.(*balance.Node).WantsReports()
}

// pathAttempt is the highest attempt number between the root of the call tree and attempt n, from 0, of c.
func pathAttempt(c *policy.Call, n int) int { return max(c.PathAttempt, n+1) }

// send makes one attempt on the node that was picked for it, of which info is known.
func (s *service) send(ctx context.Context, n *balance.Node, info *registry.Node, req *transport.Request, rep *transport.Reply) *status.Error {
	if s.doubts(info) {
		return s.sendTo(ctx, n, info, req, rep)
	}
	at := s.node(n, info)
	conn, err := at.Get(ctx, req.Deadline)
	if err == nil && strays(conn, info) {
		err = elsewhere(nil)
	}
	if err == nil {
		if err = conn.Call(ctx, req, rep); err == nil && !req.WantLoad {
			at.Answered() // which is all that heard would note
			return nil
		}
		heard(n, at, req, rep, err)
	}
	if err != nil && err.Kind == status.Dial {
		s.report(info, registry.Gone)
	}
	return err
}

// sendTo is send for a node that may not be there any more: the request says whom it is meant for.
func (s *service) sendTo(ctx context.Context, n *balance.Node, info *registry.Node, plain *transport.Request, rep *transport.Reply) *status.Error {
	found, req := registry.Unsure, addressed(plain, info)
	at := s.node(n, info)
	conn, err := connection(ctx, at, info, req.Deadline)
	if err == nil {
		err = conn.Call(ctx, req, rep)
		if found, err = vouched(ctx, conn, info, req.Deadline, err); found == registry.Lives {
			rep.Reset()
			err = conn.Call(ctx, plain, rep)
		}
		heard(n, at, req, rep, err)
	}
	if found == registry.Unsure {
		if found = recognise(info, rep); found == registry.Gone && err != nil && err.Fate == status.NotSent {
			err = elsewhere(err)
		}
	}
	s.report(info, found)
	if err != nil && err.Kind == status.Dial {
		s.report(info, registry.Gone)
	}
	return err
}

// connection returns a connection to a node, unless it turns out to be another's.
func connection(ctx context.Context, at *pool.Node, info *registry.Node, deadline policy.Time) (transport.Conn, *status.Error) {
	conn, err := at.Get(ctx, deadline)
	if err != nil {
		return nil, err
	}
	if strays(conn, info) {
		return nil, elsewhere(nil)
	}
	return conn, nil
}

// heard notes what the end of an attempt says about its node.
func heard(n *balance.Node, at *pool.Node, req *transport.Request, rep *transport.Reply, err *status.Error) {
	if err == nil || err.Fate == status.Processed {
		at.Answered()
	}
	if lacksMethod(err) {
		n.Lacks(policy.Now(), req.Method)
	}
	if req.WantLoad && rep.Load.InFlight != 0 {
		n.Report(int(rep.Load.InFlight)) // the others that it says, and this one
	}
}

// tell fills in what the caller asked to be told, well or not.
func (p *prepared) tell(winner int, n *balance.Node, rep *transport.Reply, err error) {
	if p.opt.header != nil {
		*p.opt.header = toMD(rep.Header)
	}
	if p.opt.trailer != nil {
		*p.opt.trailer = toMD(rep.Trailer)
	}
	if p.opt.peer != nil && n != nil {
		p.opt.peer.Addr = nodeAddr(n.Info().Address)
	}
	if p.opt.info != nil {
		p.opt.info.Repeated = p.repeated
	}
	if p.opt.explain {
		p.opt.info.Server = serverStory(rep.Trailer)
	}
	if winner < 0 {
		return
	}
	if p.opt.info != nil && status.FateOf(err) == status.Processed {
		p.opt.info.answeredBy(n)
	}
}

// nodeAddr is a node's address as a net.Addr.
type nodeAddr string

func (nodeAddr) Network() string  { return "tcp" }
func (a nodeAddr) String() string { return string(a) }

// toldCall is a Runner that fills in a CallInfo.
type toldCall struct {
	policy.Runner
	info *CallInfo
}

// Call implements policy.Observer.
func (t *toldCall) Call(now policy.Time, c *policy.Call, s *policy.Story) { t.info.fill(now, c, s) }

// hedged makes a call whose attempts run at the same time: the request is encoded once, because a loser may still send it when the
// caller has its answer and changes it; each attempt has an answer of its own, and the winner's is decoded.
func (c *Conn) hedged(ctx context.Context, u *unaryCall) error {
	h := &hedgedCall{prepared: u.prepared, whole: *u.call, s: u.s, req: u.req, codec: u.codec}
	h.call = &h.whole
	raw, err := h.codec.Append(nil, u.req.Message)
	h.req.Codec, h.req.Message = rawCodec{h.codec}, raw
	reply := u.rep.Message
	u.opt, u.own = nil, nil // they are h's now
	u.release(c.s.c)
	if err != nil {
		return c.refused(&h.prepared, &status.Error{Code: status.Internal, Fate: status.NotSent, Kind: status.Refused,
			Message: "the request does not encode", Cause: err})
	}
	var r policy.Runner = h
	if h.opt.info != nil {
		r = &toldCall{Runner: h, info: h.opt.info}
	}
	winner, err := h.m.Unary.Drive(ctx, h.whole, r)
	if winner >= 0 {
		h.mu.Lock()
		won := h.attempts[winner]
		h.mu.Unlock()
		if won != nil {
			h.tell(winner, won.node, &won.rep, err)
			if err == nil {
				if derr := h.codec.Unmarshal(won.raw, reply); derr != nil {
					err = &status.Error{Code: status.Internal, Fate: status.Processed, Message: "the answer cannot be decoded", Cause: derr}
				}
			}
		}
	}
	if h.opt.explain {
		h.explained(h.s)
	}
	return h.finish(err)
}

// hedgedCall is the Runner of a hedged call. Losers may still use it when the call has ended, so it is not pooled.
type hedgedCall struct {
	prepared
	whole policy.Call
	s     *service
	req   transport.Request
	codec codec.Codec

	mu       sync.Mutex
	attempts [policy.MaxAttempts]*hedgedAttempt
}

type hedgedAttempt struct {
	node *balance.Node
	raw  []byte
	rep  transport.Reply
}

// Run implements policy.Runner.
func (h *hedgedCall) Run(ctx context.Context, a policy.Attempt) error {
	n := a.Node.(*balance.Node)
	at := &hedgedAttempt{node: n}
	at.rep.Message = &at.raw
	req := h.req
	attempt(&req, &h.whole, &a)
	h.m.budget.Peak(a.Start, n.InFlight())
	err := h.s.send(ctx, n, n.Info(), &req, &at.rep)
	h.mu.Lock()
	h.attempts[a.N] = at
	h.mu.Unlock()
	if err != nil {
		return h.wished(err) // it has no key, or may be repeated anywhere
	}
	return nil
}

// rawCodec sends requests that are encoded already and keeps answers as they are, to be decoded later.
type rawCodec struct{ codec.Codec }

// Append implements codec.Codec.
func (rawCodec) Append(dst []byte, v any) ([]byte, error) { return append(dst, v.([]byte)...), nil }

// Unmarshal implements codec.Codec.
func (rawCodec) Unmarshal(data []byte, v any) error {
	p := v.(*[]byte)
	*p = append((*p)[:0], data...)
	return nil
}
