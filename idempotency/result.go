package idempotency

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	spb "google.golang.org/genproto/googleapis/rpc/status"
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

// failed is the result of a call that ended with err.
func failed(err error) *Result {
	e := status.From(err)
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
	e := &status.Error{Code: r.err.Code, Message: r.err.Message, Fate: status.Processed}
	if r.doubt {
		e = inDoubt("no more was kept")
	} else if len(e.Message) > 100 {
		e.Message = e.Message[:100] + "…"
	}
	return &Result{err: e, doubt: r.doubt}
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
		return nil, refusal(status.FailedPrecondition, reasonNotKept, "a call with this key was done, but its answer was too large to be kept")
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

// resultVersion is the first byte of every encoded result.
const resultVersion = 1

// marshal encodes r for a Store: a version, and a google.rpc.Status whose one detail is the answer if it is OK.
func (r *Result) marshal() []byte {
	s := new(spb.Status)
	if r.err != nil {
		s.Code, s.Message = int32(r.err.Code), r.err.Message
		for _, d := range r.err.Details {
			s.Details = append(s.Details, &anypb.Any{TypeUrl: d.TypeURL, Value: d.Value})
		}
	} else {
		s.Details = []*anypb.Any{{TypeUrl: r.kind, Value: r.body}}
	}
	b, err := proto.MarshalOptions{}.MarshalAppend([]byte{resultVersion}, s)
	if err != nil { // a message that is no UTF-8
		s.Message = strings.ToValidUTF8(s.Message, "\ufffd")
		b, _ = proto.MarshalOptions{}.MarshalAppend([]byte{resultVersion}, s)
	}
	return b
}

var errResult = errors.New("the store's record is not one of this version")

// unmarshalResult decodes what marshal made.
func unmarshalResult(b []byte) (*Result, error) {
	if len(b) == 0 || b[0] != resultVersion {
		return nil, errResult
	}
	var s spb.Status
	if err := proto.Unmarshal(b[1:], &s); err != nil {
		return nil, fmt.Errorf("%w: %w", errResult, err)
	}
	if s.Code == 0 {
		if len(s.Details) != 1 || s.Details[0].GetTypeUrl() == "" {
			return nil, errResult
		}
		return &Result{kind: s.Details[0].GetTypeUrl(), body: s.Details[0].GetValue()}, nil
	}
	e := &status.Error{Code: status.Code(s.Code), Message: s.Message, Fate: status.Processed}
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
