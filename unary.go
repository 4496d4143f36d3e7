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
)

// unary makes one call, with all its policies.
func (c *Conn) unary(ctx context.Context, method string, req, reply any, opts ...CallOption) error {
	u, _ := c.s.c.calls.Get().(*unaryCall)
	if u == nil {
		u = new(unaryCall)
	}
	if err := c.prepare(ctx, &u.prepared, method, reply, opts, false); err != nil {
		if u.alt != nil {
			u.alt.req = req
		}
		err := c.refused(&u.prepared, method, err)
		u.release(c.s.c)
		return err
	}
	if u.alt != nil {
		u.alt.req = req
	}
	u.s, u.reply = c.s, reply
	u.req = transport.Request{Method: method, Codec: u.codec, Message: req, Metadata: u.md,
		Criticality: u.call.Criticality, MaxReply: u.opt.maxReply, MaxRequest: u.opt.maxSend, Authority: u.opt.authority, Compressor: u.opt.compressor}
	if u.m.Unary.Concurrent(&u.call) {
		return c.hedged(ctx, u)
	}
	u.rep.Message = reply
	var r policy.Runner = u
	if u.opt.info != nil {
		r = &toldCall{Runner: u, info: u.opt.info}
	}
	winner, err := u.m.Unary.Drive(ctx, u.call, r)
	u.tell(winner, u.node, &u.rep, err)
	if u.opt.explain {
		u.explained(c.s)
	}
	err = u.finish(err)
	u.release(c.s.c)
	return err
}

// refused ends a call that did not get as far as its pipeline, and tells those who want to know of calls.
func (c *Conn) refused(p *prepared, method string, err *status.Error) error {
	info := CallInfo{Service: c.s.name, Method: method, Class: policy.ClassRefused, Err: err}
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

// unaryCall is the Runner of a call whose attempts follow one another.
type unaryCall struct {
	prepared
	s     *service
	req   transport.Request
	reply any
	rep   transport.Reply
	node  policy.Node // of the last attempt
}

func (u *unaryCall) release(c *Client) {
	*u = unaryCall{}
	c.calls.Put(u)
}

// Run implements policy.Runner.
func (u *unaryCall) Run(ctx context.Context, a policy.Attempt) error {
	u.node = a.Node
	u.req.Deadline, u.req.PathAttempt, u.req.WantLoad = a.Deadline, pathAttempt(&u.call, a), a.Node.(*balance.Node).WantsReports()
	if a.N > 0 {
		u.rep = transport.Reply{Message: u.reply}
	}
	asked := a.Node.(*balance.Node).Info() // another process may have taken the name by the time the connection breaks
	err := u.wished(u.s.send(ctx, a, &u.req, &u.rep))
	if err != nil {
		err = u.sameAgain(ctx, u.s, a, asked, &u.req, &u.rep, err)
	}
	if err != nil {
		return err
	}
	return nil
}

// pathAttempt is the highest attempt number between the root of the call tree and an attempt of c.
func pathAttempt(c *policy.Call, a policy.Attempt) int { return max(c.PathAttempt, a.N+1) }

// send makes one attempt on the node that was picked for it.
func (s *service) send(ctx context.Context, a policy.Attempt, req *transport.Request, rep *transport.Reply) *status.Error {
	n := a.Node.(*balance.Node)
	info := n.Info()
	s.budget.Peak(a.Start, n.InFlight())
	doubted, found := s.doubts(info), registry.Unsure
	plain := req
	if doubted {
		req = addressed(req, info)
	}
	at := s.node(n)
	conn, err := at.Get(ctx, a.Deadline)
	if err == nil && strays(conn, info) {
		err = elsewhere(nil)
	}
	if err == nil {
		err = conn.Call(ctx, req, rep)
		if doubted {
			if found, err = vouched(ctx, conn, info, a.Deadline, err); found == registry.Lives {
				err = conn.Call(ctx, plain, rep)
			}
		}
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
	if doubted {
		if found == registry.Unsure {
			if found = recognise(info, rep); found == registry.Gone && err != nil && err.Fate == status.NotSent {
				err = elsewhere(err)
			}
		}
		s.report(info, found)
	}
	if err != nil && err.Kind == status.Dial {
		s.report(info, registry.Gone)
	}
	return err
}

// tell fills in what the caller asked to be told, well or not.
func (p *prepared) tell(winner int, n policy.Node, rep *transport.Reply, err error) {
	if p.opt.header != nil {
		*p.opt.header = toMD(rep.Header)
	}
	if p.opt.trailer != nil {
		*p.opt.trailer = toMD(rep.Trailer)
	}
	if p.opt.peer != nil {
		if b, ok := n.(*balance.Node); ok {
			p.opt.peer.Addr = nodeAddr(b.Info().Address)
		}
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
	h := &hedgedCall{prepared: u.prepared, s: u.s, req: u.req, codec: u.codec}
	raw, err := h.codec.Append(nil, u.req.Message)
	h.req.Codec, h.req.Message = rawCodec{h.codec}, raw
	method, reply := u.req.Method, u.reply
	u.release(c.s.c)
	if err != nil {
		return c.refused(&h.prepared, method, &status.Error{Code: status.Internal, Fate: status.NotSent, Kind: status.Refused,
			Message: "the request does not encode", Cause: err})
	}
	var r policy.Runner = h
	if h.opt.info != nil {
		r = &toldCall{Runner: h, info: h.opt.info}
	}
	winner, err := h.m.Unary.Drive(ctx, h.call, r)
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
	s     *service
	req   transport.Request
	codec codec.Codec

	mu       sync.Mutex
	attempts [policy.MaxAttempts]*hedgedAttempt
}

type hedgedAttempt struct {
	node policy.Node
	raw  []byte
	rep  transport.Reply
}

// Run implements policy.Runner.
func (h *hedgedCall) Run(ctx context.Context, a policy.Attempt) error {
	at := &hedgedAttempt{node: a.Node}
	at.rep.Message = &at.raw
	req := h.req
	req.Deadline, req.PathAttempt, req.WantLoad = a.Deadline, pathAttempt(&h.call, a), a.Node.(*balance.Node).WantsReports()
	err := h.wished(h.s.send(ctx, a, &req, &at.rep)) // it has no key, or may be repeated anywhere
	h.mu.Lock()
	h.attempts[a.N] = at
	h.mu.Unlock()
	if err != nil {
		return err
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
