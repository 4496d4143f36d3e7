package grpctransport

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// attempt is how far a call came, as the stats handler saw it.
type attempt struct {
	start          policy.Time
	sent, answered atomic.Bool
}

type attemptKey struct{}

// statsHandler makes notes of calls.
type statsHandler struct{ d *Dialer }

func (statsHandler) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (statsHandler) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (statsHandler) HandleConn(context.Context, stats.ConnStats)                       {}

// HandleRPC implements stats.Handler.
func (h statsHandler) HandleRPC(ctx context.Context, s stats.RPCStats) {
	at, ok := ctx.Value(attemptKey{}).(*attempt)
	if !ok {
		return
	}
	switch s := s.(type) {
	case *stats.Begin:
		if s.IsTransparentRetryAttempt {
			h.d.transparent.Add(1)
			at.sent.Store(false) // it does so only where the server has not processed what went before
		}
	case *stats.OutHeader:
		at.sent.Store(true)
	case *stats.InTrailer:
		at.answered.Store(true)
	}
}

// failure says what an error of grpc-go means, and what is proved about it. parent is the caller's context, ctx the call's.
func (c *conn) failure(parent, ctx context.Context, at *attempt, wc *wireCodec, err error, trailer metadata.MD) *status.Error {
	st := grpcstatus.Convert(err)
	e := &status.Error{Code: status.Code(st.Code()), Message: st.Message()}
	switch {
	case wc.bad != nil:
		return &status.Error{Code: status.Internal, Fate: status.Processed, Message: "the answer does not decode", Cause: wc.bad}
	case e.Code == status.ResourceExhausted && ofSize(e.Message, at.answered.Load()) && len(st.Proto().GetDetails()) == 0:
		// Of an answer that came, which is dropped, or that the server may not send; or of a request that it would not take.
		e.Kind = status.TooLarge
		transport.ReadFacts(func(key string) string { return first(trailer, key) }, e)
		return e
	case at.answered.Load() && parent.Err() == nil:
		transport.ReadFacts(func(key string) string { return first(trailer, key) }, e)
		e.Details = details(st)
		return e
	}
	sent := at.sent.Load()
	if !sent {
		e.Fate = status.NotSent
	}
	switch {
	case errors.Is(parent.Err(), context.Canceled):
		e.Code, e.Kind, e.Message = status.Canceled, status.Cancelled, "the caller gave up"
	case ctx.Err() != nil, e.Code == status.DeadlineExceeded:
		e.Code, e.Kind, e.Message = status.DeadlineExceeded, status.Timeout, "no answer within the deadline"
		if sent {
			c.suspect(at.start)
		}
	case !sent && (e.Code == status.Unavailable || e.Code == status.Canceled):
		return c.refusal(errors.New(e.Message))
	case !sent && strings.HasPrefix(e.Message, "header list size"), sent && e.Code == status.Internal && e.Message == largeHeader:
		e.Code, e.Kind = status.ResourceExhausted, status.TooLarge
	case !sent: // metadata that is none, for instance: nobody else's fault
		e.Kind = status.Refused
	case e.Code == status.Unavailable, e.Code == status.Canceled: // by the server, or with the connection
		e.Code, e.Kind = status.Unavailable, status.Reset
	case e.Code == status.Internal, e.Code == status.Unknown:
		e.Kind = status.Protocol
	}
	return e
}

// largeHeader is what grpc-go says of an answer whose metadata, or status, is over the limit. What the answer was is not known then.
const largeHeader = "peer header list size exceeded limit"

// tooLarge begins what gRPC's libraries say of a message over their limit: grpc-go, and those in C and JavaScript. A handler may speak of sizes too, in
// words of its own.
var tooLarge = [...]string{"grpc: received message larger than max", "grpc: message after decompression larger than max",
	"grpc: received message after decompression larger than max", "Received message larger than max (", "SERVER: Received message larger than max ("}

// tooLargeToSend is what grpc-go's server says of its own answer, and a client, in the same words, of a request that it has not sent.
const tooLargeToSend = "trying to send message larger than max ("

// ofSize reports whether it is a library that calls a message too large. answered = the server has ended the call.
func ofSize(message string, answered bool) bool {
	return answered && strings.HasPrefix(message, tooLargeToSend) || slices.ContainsFunc(tooLarge[:], func(prefix string) bool { return strings.HasPrefix(message, prefix) })
}

// details returns what a status says beside its message.
func details(st *grpcstatus.Status) (list []status.Detail) {
	for _, d := range st.Proto().GetDetails() {
		list = append(list, status.Detail{TypeURL: d.GetTypeUrl(), Value: d.GetValue()})
	}
	return list
}

// gaveUp is the error of a call whose context had ended before it began.
func gaveUp(err error) *status.Error {
	if errors.Is(err, context.DeadlineExceeded) {
		return late()
	}
	return &status.Error{Code: status.Canceled, Kind: status.Cancelled, Fate: status.NotSent, Message: "the caller gave up", Cause: err}
}

func late() *status.Error {
	return &status.Error{Code: status.DeadlineExceeded, Kind: status.Timeout, Fate: status.NotSent,
		Message: "the deadline had passed before the call was sent"}
}
