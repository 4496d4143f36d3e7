package hull

import (
	"context"
	"errors"
	"strings"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/hull-go/hull/status"
)

// callError is a *status.Error as callers get it: generated code and grpc's status package understand it as well.
type callError struct{ err *status.Error }

func (e callError) Error() string { return e.err.Error() }

func (e callError) Unwrap() error { return e.err }

// GRPCStatus implements what grpc's status.FromError and status.Code look for.
func (e callError) GRPCStatus() *grpcstatus.Status { return toGRPC(e.err) }

func toGRPC(e *status.Error) *grpcstatus.Status {
	p := &spb.Status{Code: int32(e.Code), Message: strings.TrimPrefix(e.Error(), e.Code.String()+": ")}
	if e.Kind == status.Answered && e.Cause == nil {
		p.Message = e.Message
	}
	for _, d := range e.Details {
		p.Details = append(p.Details, &anypb.Any{TypeUrl: d.TypeURL, Value: d.Value})
	}
	return grpcstatus.FromProto(p)
}

// contextError says how a context ended, whatever its cause is.
func contextError(ctx context.Context) *status.Error {
	e := &status.Error{Code: status.Canceled, Kind: status.Cancelled, Cause: context.Cause(ctx)}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		e.Code, e.Kind = status.DeadlineExceeded, status.Timeout
	}
	return e
}

// fromHandler turns what a handler returned into what travels: grpc's status errors keep code, message and details.
func fromHandler(err error) *status.Error {
	if c, ok := err.(callError); ok { //nolint:errorlint // of one that is wrapped the text of the wrapping counts
		err = c.err
	}
	e, ok := err.(*status.Error) //nolint:errorlint // a nil one must not be asked for its chain
	if !ok {
		if r, ok := errors.AsType[notBegunError](err); ok {
			refused := *r.err
			return &refused
		}
		e, ok = errors.AsType[*status.Error](err)
	}
	if ok && (e == nil || e.Code == status.OK) {
		return &status.Error{Code: status.Unknown, Message: "the handler returned an error that says OK, or a nil *status.Error: return nil instead", Fate: status.Processed}
	}
	if ok {
		return answered(status.From(err), e)
	}
	if g, ok := errors.AsType[interface {
		error
		GRPCStatus() *grpcstatus.Status
	}](err); ok {
		st := g.GRPCStatus()
		if st.Code() == codes.OK { // or there is none; still it is an error
			return &status.Error{Code: status.Unknown, Message: err.Error(), Fate: status.Processed}
		}
		e := &status.Error{Code: status.Code(st.Code()), Message: st.Message(), Fate: status.Processed}
		for _, d := range st.Proto().GetDetails() {
			e.Details = append(e.Details, status.Detail{TypeURL: d.GetTypeUrl(), Value: d.GetValue()})
		}
		return e
	}
	return answered(status.From(err), nil)
}

// answered makes of an error that a handler returned the answer that its caller gets. How a call further down failed is
// said by the origin; kind and fate are about the call that is being answered.
func answered(e, inner *status.Error) *status.Error {
	out := &status.Error{Code: e.Code, Message: e.Message, Fate: status.Processed, Origin: e.Origin, Pushback: e.Pushback, Details: e.Details}
	if out.Message == "" {
		out.Message = strings.TrimPrefix(e.Error(), e.Code.String()+": ")
		if e.Cause != nil {
			out.Message = strings.TrimPrefix(e.Cause.Error(), e.Code.String()+": ")
		}
	}
	if inner != nil && inner.Kind == status.Quota {
		out.Kind = status.Quota
	}
	return out
}
