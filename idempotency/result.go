package idempotency

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/hull-go/hull/status"
)

// Result is how a call with a key ended: an encoded answer or an error. It is not changed once made.
type Result struct {
	kind string // what body is: the full name of a protobuf message, kindJSON, kindBytes, or kindNone
	body []byte
	err  *status.Error
	// doubt: nobody knows whether it had its effect.
	doubt bool
}

// What a body can be beside a protobuf message, whose name has no slash.
const (
	kindJSON  = "hull/json"
	kindBytes = "hull/bytes"
	kindNone  = "hull/none" // it was done, but the answer was too large to keep
)

// failed is the result of a call that ended with err, which may be an error of grpc-go's.
func failed(err error) *Result {
	e := status.From(err)
	if _, own := errors.AsType[*status.Error](err); !own {
		if st, ok := grpcstatus.FromError(err); ok && st.Code() != codes.OK {
			e = &status.Error{Code: status.Code(st.Code()), Message: st.Message()}
			for _, d := range st.Proto().GetDetails() {
				e.Details = append(e.Details, status.Detail{TypeURL: d.GetTypeUrl(), Value: d.GetValue()})
			}
		}
	}
	return &Result{err: &status.Error{Code: e.Code, Message: messageOf(e), Details: e.Details, Fate: status.Processed, Kind: e.Kind, Origin: e.Origin}}
}

// encode is the result of a call that was answered; a body of more than most bytes is left out.
func encode(rep any, most int) (r *Result, err error) {
	r = new(Result)
	switch m := rep.(type) {
	case proto.Message:
		r.kind = string(m.ProtoReflect().Descriptor().FullName())
		r.body, err = proto.Marshal(m)
	case []byte:
		r.kind, r.body = kindBytes, bytes.Clone(m)
	case *[]byte:
		r.kind, r.body = kindBytes, bytes.Clone(*m)
	default:
		r.kind = kindJSON
		r.body, err = json.Marshal(m)
	}
	if err != nil {
		return nil, fmt.Errorf("encoding a %T: %w", rep, err)
	}
	if len(r.body) > most {
		r = notKept()
	}
	return r, nil
}

// messageOf is the error's text without its code, which travels beside it.
func messageOf(e *status.Error) string {
	if e.Message != "" {
		return e.Message
	}
	return strings.TrimPrefix(e.Error(), e.Code.String()+": ")
}

// least is what is kept of r if there is room for no more: how it ended.
func (r *Result) least() *Result {
	if r.err == nil {
		return notKept()
	}
	e := &status.Error{Code: r.err.Code, Message: cut(r.err.Message), Fate: status.Processed, Kind: r.err.Kind, Origin: r.err.Origin}
	if r.doubt {
		e = inDoubt("no more was kept")
	}
	return &Result{err: e, doubt: r.doubt}
}

// cut is the beginning of a text of any length.
func cut(s string) string {
	if len(s) <= 100 {
		return s
	}
	return strings.ToValidUTF8(s[:100], "") + "…"
}

// notKept is the result of a call whose answer is not kept.
func notKept() *Result { return &Result{kind: kindNone} }

func (r *Result) size() int64 {
	n := int64(100 + len(r.kind) + cap(r.body))
	if r.err != nil {
		n += int64(len(r.err.Message))
		for _, d := range r.err.Details {
			n += int64(len(d.TypeURL) + len(d.Value))
		}
	}
	return n
}

// answer is what a duplicate gets: a message that its transport can encode, or an error of its own.
func (r *Result) answer() (any, error) {
	if r.err != nil {
		e := *r.err
		return nil, &e
	}
	switch r.kind {
	case kindNone:
		return nil, refusal(status.FailedPrecondition, reasonNotKept, "a call with this key was done, but its answer could not be kept")
	case kindBytes:
		b := bytes.Clone(r.body)
		return &b, nil
	case kindJSON:
		raw := json.RawMessage(bytes.Clone(r.body))
		return &raw, nil
	}
	t, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(r.kind))
	if err != nil {
		return nil, refusal(status.FailedPrecondition, reasonNotKept, "a call with this key was done, but its answer is a "+r.kind+", which this node does not know")
	}
	m := t.New().Interface()
	if err := proto.Unmarshal(r.body, m); err != nil {
		return nil, refusal(status.FailedPrecondition, reasonNotKept, "a call with this key was done, but its answer cannot be read: "+err.Error())
	}
	return m, nil
}

// The first byte of every encoded result. The second version is written where the first cannot say it, so that processes which know no other can read the rest.
const (
	plainResult   = 1 // a google.rpc.Status follows
	failureResult = 2 // origin and kind of the error follow, a byte each, and then its google.rpc.Status
)

// marshal encodes r for a Store: a version, and a google.rpc.Status whose one detail is the answer if it is OK.
func (r *Result) marshal() []byte {
	s, head := new(spb.Status), []byte{plainResult}
	if r.err != nil && (r.err.Origin != status.Self || r.err.Kind != status.Answered) {
		head = []byte{failureResult, byte(r.err.Origin), byte(r.err.Kind)}
	}
	if r.err != nil {
		s.Code, s.Message = int32(r.err.Code), r.err.Message
		for _, d := range r.err.Details {
			s.Details = append(s.Details, &anypb.Any{TypeUrl: d.TypeURL, Value: d.Value})
		}
	} else {
		s.Details = []*anypb.Any{{TypeUrl: r.kind, Value: r.body}}
	}
	b, err := proto.MarshalOptions{}.MarshalAppend(head, s)
	if err != nil { // a message that is no UTF-8
		s.Message = strings.ToValidUTF8(s.Message, "\ufffd")
		b, _ = proto.MarshalOptions{}.MarshalAppend(head, s)
	}
	return b
}

var errResult = errors.New("the store's record is not one of this version")

// unmarshalResult decodes what marshal made.
func unmarshalResult(b []byte) (*Result, error) {
	var origin status.Origin
	var kind status.Kind
	switch {
	case len(b) >= 1 && b[0] == plainResult:
		b = b[1:]
	case len(b) >= 3 && b[0] == failureResult:
		origin, kind, b = status.Origin(b[1]), status.Kind(b[2]), b[3:]
		if origin > status.Downstream || !kind.Valid() {
			return nil, errResult
		}
	default:
		return nil, errResult
	}
	var s spb.Status
	if err := proto.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", errResult, err)
	}
	if s.Code == 0 {
		if len(s.Details) != 1 || s.Details[0].GetTypeUrl() == "" || origin != status.Self || kind != status.Answered {
			return nil, errResult
		}
		return &Result{kind: s.Details[0].GetTypeUrl(), body: s.Details[0].GetValue()}, nil
	}
	e := &status.Error{Code: status.Code(s.Code), Message: s.Message, Fate: status.Processed, Origin: origin, Kind: kind}
	if !e.Code.Valid() {
		return nil, errResult
	}
	for _, d := range s.Details {
		e.Details = append(e.Details, status.Detail{TypeURL: d.GetTypeUrl(), Value: d.GetValue()})
	}
	r := &Result{err: e}
	r.doubt = InDoubt(e)
	return r, nil
}
