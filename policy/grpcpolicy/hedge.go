package grpcpolicy

import (
	"context"
	"reflect"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/policy"
)

// hedgedCall is a unary call whose attempts may run at the same time: each has a reply of its own, and places of its own for what
// call options ask for. The winner's become the call's.
type hedgedCall struct {
	*unary
	mu   sync.Mutex
	runs map[int]*hedgedRun
}

// hedgedRun is what one attempt fills in.
type hedgedRun struct {
	reply           any
	header, trailer metadata.MD
	peer            peer.Peer
}

// hedged drives the call.
func (u *unary) hedged(ctx context.Context, p *policy.Pipeline) error {
	h := &hedgedCall{unary: u, runs: map[int]*hedgedRun{}}
	winner, err := p.Drive(ctx, *u.call, h)
	h.mu.Lock()
	run := h.runs[winner]
	h.mu.Unlock()
	if run != nil {
		if err == nil {
			give(u.reply, run.reply)
		}
		run.tell(u.opts)
	}
	for _, o := range u.opts {
		if f, ok := o.(grpc.OnFinishCallOption); ok {
			f.OnFinish(outward(err))
		}
	}
	return err
}

// Run implements policy.Runner.
func (h *hedgedCall) Run(ctx context.Context, a policy.Attempt) error {
	run := &hedgedRun{reply: another(h.reply)}
	u := *h.unary
	u.reply, u.opts = run.reply, run.options(h.opts)
	err := u.Run(ctx, a)
	h.mu.Lock()
	h.runs[a.N] = run
	h.mu.Unlock()
	return err
}

// options returns opts with the attempt's own places in place of the call's.
func (r *hedgedRun) options(opts []grpc.CallOption) []grpc.CallOption {
	own := make([]grpc.CallOption, 0, len(opts))
	for _, o := range opts {
		switch o.(type) {
		case grpc.HeaderCallOption:
			o = grpc.Header(&r.header)
		case grpc.TrailerCallOption:
			o = grpc.Trailer(&r.trailer)
		case grpc.PeerCallOption:
			o = grpc.Peer(&r.peer)
		case grpc.OnFinishCallOption:
			continue // the call's end, not an attempt's
		}
		own = append(own, o)
	}
	return own
}

// tell fills in what the caller asked for.
func (r *hedgedRun) tell(opts []grpc.CallOption) {
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.HeaderCallOption:
			*o.HeaderAddr = r.header
		case grpc.TrailerCallOption:
			*o.TrailerAddr = r.trailer
		case grpc.PeerCallOption:
			*o.PeerAddr = r.peer
		}
	}
}

// another returns an empty reply of the kind of reply, or what codecs refuse, as they do with reply.
func another(reply any) any {
	if m, ok := reply.(proto.Message); ok {
		return m.ProtoReflect().New().Interface()
	}
	if t := reflect.TypeOf(reply); t != nil && t.Kind() == reflect.Pointer {
		return reflect.New(t.Elem()).Interface()
	}
	return nil
}

// give makes reply what won is.
func give(reply, won any) {
	if m, ok := reply.(proto.Message); ok {
		proto.Reset(m)
		proto.Merge(m, won.(proto.Message))
		return
	}
	reflect.ValueOf(reply).Elem().Set(reflect.ValueOf(won).Elem())
}
