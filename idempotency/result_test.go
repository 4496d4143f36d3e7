package idempotency

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/hull-go/hull/status"
)

func TestResultsTravel(t *testing.T) {
	msg := structpb.NewStringValue("hello")
	for name, in := range map[string]any{"proto": msg, "json": map[string]any{"a": []int{1}}, "bytes": []byte("\x00\xff"), "pointer": &[]byte{1}, "nil": nil} {
		r, err := encode(in, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		back, err := unmarshalResult(r.marshal())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := back.answer()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if m, ok := got.(proto.Message); ok {
			if !proto.Equal(m, msg) {
				t.Errorf("%s: %v", name, got)
			}
			continue
		}
		want, _ := encode(in, 1<<20)
		if b, err := encode(got, 1<<20); err != nil || !bytes.Equal(b.body, want.body) {
			t.Errorf("%s: %q, %v", name, b.body, err)
		}
	}
	for _, err := range []error{inDoubt("x"), &status.Error{Code: status.NotFound, Message: "bad \xff text", Details: []status.Detail{{TypeURL: "a/b", Value: []byte{1}}}}} {
		back, e := unmarshalResult(failed(err).marshal())
		if e != nil {
			t.Fatal(e)
		}
		if back.err.Code != status.CodeOf(err) || back.doubt != InDoubt(err) || !reflect.DeepEqual(back.err.Details, status.From(err).Details) ||
			!strings.HasPrefix(status.From(err).Message, back.err.Message[:3]) {
			t.Errorf("%v became %v", err, back.err)
		}
	}
	for _, err := range []*status.Error{{Code: status.Unavailable, Origin: status.Downstream}, {Code: status.ResourceExhausted, Kind: status.Quota, Message: "enough"}} {
		b := failed(err).marshal()
		if back, e := unmarshalResult(b); e != nil || back.err.Code != err.Code || back.err.Origin != err.Origin || back.err.Kind != err.Kind {
			t.Errorf("%v became %v, %v", err, back, e)
		}
		for _, wrong := range [][]byte{{failureResult, 2, 0}, {failureResult, 0, 200}} {
			if back, e := unmarshalResult(append(wrong, b[3:]...)); e == nil {
				t.Errorf("%q became %v", wrong, back)
			}
		}
	}
	if b := failed(&status.Error{Code: status.NotFound}).marshal(); b[0] != plainResult {
		t.Error("processes of an earlier version cannot read what has no origin")
	}
	if _, err := encode(func() {}, 10); err == nil {
		t.Error("a function was encoded")
	}
}

func FuzzResult(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{plainResult})
	f.Add([]byte{failureResult, 1})
	f.Add([]byte{failureResult, 1, 0, 8, 14})
	f.Add((&Result{err: &status.Error{Code: status.Unavailable, Message: "below", Origin: status.Downstream, Kind: status.Quota}}).marshal())
	f.Add((&Result{kind: kindJSON, body: []byte("1")}).marshal())
	f.Add((&Result{kind: "google.protobuf.Value", body: []byte{0x20, 1}}).marshal())
	f.Add(failed(inDoubt("x")).marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := unmarshalResult(b)
		if err != nil {
			return
		}
		if _, err := unmarshalResult(r.marshal()); err != nil {
			t.Fatalf("%q can be read once only: %v", b, err)
		}
		if rep, err := r.answer(); (rep == nil) == (err == nil) {
			t.Fatalf("%q: %v, %v", b, rep, err)
		}
	})
}
