package hull

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/internal/hop"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// alternative is how one call goes on when it has failed, as its document says (spec.Fallback). Only calls that have a fallback have one.
type alternative struct {
	c          *Conn
	ctx        context.Context //nolint:containedctx // it lives no longer than the call
	began      policy.Time
	deadline   policy.Time // of everything; 0 = none
	req, reply any
}

// failed is what a call to another service knows of those that it stands in for.
type failed struct {
	service string
	before  *failed
	again   bool // one of them may have been sent
}

// includes reports whether one of them was a call to that service.
func (f *failed) includes(service string) bool {
	for ; f != nil; f = f.before {
		if f.service == service {
			return true
		}
	}
	return false
}

// insteadOption gives a call everything that was said of the one it stands in for.
type insteadOption struct {
	grpc.EmptyCallOption
	opt callOptions
}

// newAlternative keeps some of the call's time for another service, if there is one.
func newAlternative(ctx context.Context, c *Conn, p *prepared, now policy.Time) *alternative {
	a := &alternative{c: c, ctx: ctx, began: now, deadline: p.call.Deadline}
	if d, ok := ctx.Deadline(); ok {
		a.deadline = policy.Earliest(a.deadline, policy.At(d))
	}
	if f := p.m.Else; f.Service != "" && f.Mode == spec.On && a.deadline > now {
		kept := time.Duration(float64(a.deadline.Sub(now)) * float64(f.Reserve))
		p.call.Deadline = a.deadline.Add(-kept)
	}
	return a
}

// settle gives a call that has failed its last chance, and keeps the answer of one that has not.
func (a *alternative) settle(p *prepared, err error) error {
	if err == nil {
		a.keep(p)
		return nil
	}
	if errors.Is(a.ctx.Err(), context.Canceled) || !replaceable(status.From(err)) {
		return err
	}
	if p.m.Else.Mode == spec.DryRun {
		p.m.Unary.FellBack(policy.DryRun)
		return err
	}
	all := &policy.FallbackError{Call: err}
	done, err := a.try(p, all)
	if !done {
		return all
	}
	p.m.Unary.FellBack(policy.On)
	a.c.s.c.recorder.fellBack(a.began, p.call, p.instead)
	return err
}

// replaceable reports whether something else may take the place of a failure: it is no answer, and not the caller's own mistake.
func replaceable(e *status.Error) bool {
	switch {
	case e.Kind == status.Cancelled, e.Kind == status.Refused && e.Refusal == nil:
		return false
	}
	return !answers(e)
}

// answers reports whether any node would have answered so.
func answers(e *status.Error) bool {
	return policy.Classify(&status.Error{Code: e.Code}).Counts().Breaker == policy.Success ||
		policy.Classify(e).Counts().Breaker == policy.Success
}

// try tries one way after the other. The error that it returns with done is the call's: what it came to in the end.
func (a *alternative) try(p *prepared, all *policy.FallbackError) (done bool, err error) {
	f := p.m.Else
	if f.Service != "" {
		err := a.otherService(p, f.Service, all.Call)
		if err == nil || answers(status.From(err)) {
			p.instead = "service " + f.Service
			return true, err
		}
		all.Tried = append(all.Tried, policy.AlternativeError{Name: "service " + f.Service, Err: err})
	}
	if f.Stale > 0 && p.call.SideEffectFree {
		err := a.stale(p, time.Duration(f.Stale))
		if err == nil {
			return true, nil
		}
		all.Tried = append(all.Tried, policy.AlternativeError{Name: "stale answer", Err: err})
	}
	switch {
	case f.Answer != "":
		err := decodeAnswer(f.Answer, a.reply)
		if err == nil {
			p.by("answer", 0)
			return true, nil
		}
		all.Tried = append(all.Tried, policy.AlternativeError{Name: "answer", Err: err})
	case f.Code != "":
		e := &status.Error{Code: code(f.Code), Message: f.Message, Fate: status.FateOf(all.Call), Cause: all.Call}
		if len(all.Tried) > 0 {
			e.Cause = all
		}
		p.by("code", 0)
		return true, e
	}
	return false, nil
}

// by notes what answered.
func (p *prepared) by(what string, age time.Duration) {
	p.instead = what
	if i := p.opt.info; i != nil {
		i.Fallback, i.Age = what, age
	}
}

var errMayHaveRun = errors.New("the call may have been processed, and the method is not idempotent")

// otherService makes the call to another service, in what is left of its time. If the first one may have been sent this counts as a
// repetition: nobody below repeats it once more.
func (a *alternative) otherService(p *prepared, name string, why error) error {
	sent := status.FateOf(why) != status.NotSent
	switch {
	case p.opt.from.includes(name):
		return errors.New("it was called already")
	case sent && (!p.call.Idempotent || p.keyed): // the other service does not know the key
		return errMayHaveRun
	case a.deadline != 0 && policy.Now() >= a.deadline:
		return policy.ErrNoTime
	}
	ctx := a.ctx
	if a.deadline != 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, a.deadline.Clock())
		defer cancel()
	}
	opt := *p.opt
	opt.from = &failed{service: a.c.s.name, before: p.opt.from, again: sent || p.opt.from != nil && p.opt.from.again}
	opt.sel, opt.onFinish, opt.authority, opt.timeout, opt.patient = nil, nil, "", 0, false
	var info CallInfo
	if p.opt.info != nil {
		opt.info = &info
	}
	began := policy.Now()
	err := a.c.s.c.To(name).unary(ctx, p.call.Method, a.req, a.reply, insteadOption{opt: opt})
	if e := status.From(err); e != nil && e.Kind == status.NoNode && !a.c.warned.Swap(true) {
		a.c.s.c.log.Warn("fallback has no node", "service", a.c.s.name, "fallback", name, "error", err)
	}
	if i := p.opt.info; i != nil {
		for _, at := range info.Attempts {
			if at.Began += began.Sub(a.began); at.Service == "" {
				at.Service = name
			}
			i.Attempts = append(i.Attempts, at)
		}
		if p.opt.explain {
			i.Instead = &info
		}
		i.Took = policy.Now().Sub(a.began)
		if err == nil || answers(status.From(err)) {
			i.Node, i.Address, i.Age, i.Fallback = info.Node, info.Address, info.Age, "service "+name
			if info.Fallback != "" {
				i.Fallback += ", " + info.Fallback
			}
		}
	}
	return err
}

// keep keeps the answer of a call for ones that fail later.
func (a *alternative) keep(p *prepared) {
	if p.m.Stale == nil || p.m.Else.Mode != spec.On || !p.call.SideEffectFree {
		return
	}
	key, err := a.key(p)
	if err != nil {
		return
	}
	if raw, err := plainCodec(p.codec).Append(nil, a.reply); err == nil {
		p.m.Stale.Keep(a.began, key, raw) // it may be as old as that
	}
}

// stale answers with what an earlier call got.
func (a *alternative) stale(p *prepared, most time.Duration) error {
	key, err := a.key(p)
	if err != nil {
		return err
	}
	raw, age, ok := p.m.Stale.Get(policy.Now(), key)
	if !ok || age > most {
		return policy.ErrNothingKept
	}
	if err := plainCodec(p.codec).Unmarshal(raw, a.reply); err != nil {
		return err
	}
	p.by("stale answer", age)
	return nil
}

// plainCodec is a codec without the limits of one call.
func plainCodec(c codec.Codec) codec.Codec {
	if l, ok := c.(limitedCodec); ok {
		return l.Codec
	}
	return c
}

// key is a hash of all that the answer may depend on: what is asked, of which nodes, by whom.
func (a *alternative) key(p *prepared) (k spec.Request, err error) {
	c := plainCodec(p.codec)
	var raw []byte
	if m, ok := a.req.(proto.Message); ok && c.Name() == (codec.Proto{}).Name() {
		raw, err = proto.MarshalOptions{Deterministic: true}.Marshal(m)
	} else {
		raw, err = c.Append(nil, a.req)
	}
	if err != nil {
		return k, err
	}
	h := sha256.New()
	part(h, a.c.s.name)
	part(h, p.call.Method)
	part(h, c.Name())
	part(h, p.opt.authority)
	if s := a.c.base.sel; s != nil {
		part(h, s.String())
	}
	part(h, string(raw))
	md := slices.Clone(p.md)
	slices.SortStableFunc(md, func(x, y transport.Field) int { return strings.Compare(x.Key, y.Key) })
	for _, f := range md {
		if !incidental(f.Key) {
			part(h, f.Key)
			part(h, f.Value)
		}
	}
	return spec.Request(h.Sum(nil)), nil
}

func part(h hash.Hash, s string) {
	h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(s))))
	h.Write([]byte(s))
}

// incidental reports whether a header says nothing about the answer: where the call belongs to, how often it may be tried, and whether its story is asked for.
func incidental(key string) bool {
	switch key {
	case "traceparent", "tracestate", "grpc-trace-bin", "b3", "x-request-id", "x-correlation-id", headerExplain, hop.MaxRetries, hop.RetryOn, hop.RetryGRPCOn:
		return true
	}
	return strings.HasPrefix(key, "x-b3-")
}

// decodeAnswer puts an answer that stands in the document into reply. Bytes are the JSON itself.
func decodeAnswer(answer spec.JSON, reply any) error {
	if b, ok := reply.(*[]byte); ok && b != nil {
		*b = []byte(answer)
		return nil
	}
	return codec.JSON{}.Unmarshal([]byte(answer), reply)
}

// code is the code of that name.
func code(name string) status.Code {
	for c := status.OK; c.Valid(); c++ {
		if c.String() == name {
			return c
		}
	}
	return status.Unknown
}
