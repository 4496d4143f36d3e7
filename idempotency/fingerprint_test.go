package idempotency_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/hull-go/hull/idempotency"
)

func fingerprint(t *testing.T, v any) idempotency.Fingerprint {
	t.Helper()
	p, err := idempotency.FingerprintOf(v)
	if err != nil {
		t.Fatalf("%+v: %v", v, err)
	}
	return p
}

type address struct {
	Street string
	No     int `json:"no,omitempty"`
}

// TestKeysAcrossVersionsOfAStruct: a later version of a request knows more fields, in another order. What an earlier one knows is the same request.
func TestKeysAcrossVersionsOfAStruct(t *testing.T) {
	type base struct{ ID string }
	type v1 struct {
		base
		Amount int `json:"amount"`
		To     address
		Items  []address
		By     map[string]address
	}
	type address2 struct {
		No      int `json:"no,omitempty"`
		Street  string
		Country string
	}
	type base2 struct {
		Version int
		ID      string
	}
	type v2 struct {
		By       map[string]address2
		Items    []address2
		To       *address2
		Currency string
		Limit    *int
		Tags     []string
		Until    time.Time
		Extra    map[string]any
		Raw      json.RawMessage
		Sum      int64 `json:"amount"`
		base2
	}
	a := v1{base{"x"}, 7, address{"here", 1}, []address{{"a", 0}, {}}, map[string]address{"k": {}}}
	b := v2{Sum: 7, To: &address2{Street: "here", No: 1}, Items: []address2{{Street: "a"}, {}}, By: map[string]address2{"k": {}}, base2: base2{ID: "x"}}
	if fingerprint(t, &a) != fingerprint(t, &b) {
		t.Error("the same request has another fingerprint at a node of the next version")
	}
	if b.Currency = "EUR"; fingerprint(t, &a) == fingerprint(t, &b) {
		t.Error("a field that is set does not count")
	}
}

// TestRequestsThatDifferHaveOtherFingerprints: what says something else is another request, however little it is.
func TestRequestsThatDifferHaveOtherFingerprints(t *testing.T) {
	type inner struct {
		N *int
		S []string
	}
	type request struct {
		A, B  string
		N     *int
		M     map[string]int
		L     []inner
		In    inner
		Any   any
		Bytes []byte
		At    time.Time
	}
	zero, one := 0, 1
	seen := map[idempotency.Fingerprint]string{}
	for _, v := range []any{
		&request{}, &request{A: "x"}, &request{B: "x"}, &request{A: "x", B: "x"}, &request{A: `x","B":"x`},
		&request{N: &zero}, &request{N: &one}, &request{M: map[string]int{}}, &request{M: map[string]int{"a": 0}}, &request{M: map[string]int{"b": 0}},
		&request{L: []inner{}}, &request{L: []inner{{}}}, &request{L: []inner{{}, {}}}, &request{L: []inner{{N: &zero}, {}}}, &request{L: []inner{{}, {N: &zero}}},
		&request{In: inner{N: &zero}}, &request{In: inner{S: []string{}}}, &request{In: inner{S: []string{""}}}, &request{Any: 0}, &request{Any: ""}, &request{Any: false},
		&request{Any: map[string]any{"a": nil}}, &request{Any: map[string]any{"a": 0.0}}, &request{Any: map[string]any{}}, &request{Bytes: []byte{}}, &request{Bytes: []byte{0}},
		&request{At: time.Unix(1, 0).UTC()}, &request{At: time.Unix(2, 0).UTC()}, 0, "", false, nil, []int{}, []int{0}, [2]int{}, map[string]int{"a": 1},
		&[]byte{}, &[]byte{1}, structpb.NewStringValue("a"), structpb.NewStringValue("b"), structpb.NewNumberValue(0),
	} {
		p := fingerprint(t, v)
		if was, ok := seen[p]; ok {
			t.Errorf("%s and %T %+v are one request", was, v, v)
		}
		seen[p] = fmt.Sprintf("%T %+v", v, v)
	}
	if fingerprint(t, []byte{1}) != fingerprint(t, &[]byte{1}) || fingerprint(t, map[string]any{"A": "x"}) != fingerprint(t, &request{A: "x"}) {
		t.Error("what encodes to the same has two fingerprints")
	}
}

// TestFingerprintsEnd: a value without an end has no fingerprint, and a deep one has.
func TestFingerprintsEnd(t *testing.T) {
	type list struct{ Next *list }
	end := &list{}
	deep := end
	for range 9000 { // more than a decoder lets through is not needed
		deep = &list{deep}
	}
	fingerprint(t, deep)
	end.Next = deep
	if _, err := idempotency.FingerprintOf(deep); err == nil {
		t.Error("a ring has a fingerprint")
	}
	if _, err := idempotency.FingerprintOf(func() {}); err == nil {
		t.Error("a function has a fingerprint")
	}
}

// versions describes a message Pay of those string fields, and a message In with the same ones that it holds as fields 14, and 15, repeated.
func versions(t *testing.T, numbers ...int32) protoreflect.MessageDescriptor {
	t.Helper()
	field := func(name string, n int32, kind descriptorpb.FieldDescriptorProto_Type, label descriptorpb.FieldDescriptorProto_Label, of string) *descriptorpb.FieldDescriptorProto {
		f := &descriptorpb.FieldDescriptorProto{Name: proto.String(name), Number: proto.Int32(n), Type: kind.Enum(), Label: label.Enum()}
		if of != "" {
			f.TypeName = proto.String(of)
		}
		return f
	}
	const optional, repeated = descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL, descriptorpb.FieldDescriptorProto_LABEL_REPEATED
	in := &descriptorpb.DescriptorProto{Name: proto.String("In")}
	pay := &descriptorpb.DescriptorProto{Name: proto.String("Pay")}
	for _, n := range numbers {
		f := field(fmt.Sprintf("f%d", n), n, descriptorpb.FieldDescriptorProto_TYPE_STRING, optional, "")
		in.Field, pay.Field = append(in.Field, f), append(pay.Field, proto.CloneOf(f))
	}
	pay.Field = append(pay.Field, field("one", 14, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, optional, ".p.In"),
		field("many", 15, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, repeated, ".p.In"))
	f, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{Name: proto.String("pay.proto"), Package: proto.String("p"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{pay, in}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f.Messages().ByName("Pay")
}

// TestKeysAcrossVersionsOfAMessage: a caller of the next version sends fields that one of the nodes does not know yet, and they lie between those that it knows, in the
// message itself and in those inside. The same bytes are the same request, and others are another one.
func TestKeysAcrossVersionsOfAMessage(t *testing.T) {
	next := versions(t, 1, 2, 3)
	fill := func(m protoreflect.Message, value string) {
		for n := range protoreflect.FieldNumber(3) {
			m.Set(m.Descriptor().Fields().ByNumber(n+1), protoreflect.ValueOfString(fmt.Sprint(value, n)))
		}
	}
	send := func(values ...string) []byte {
		m := dynamicpb.NewMessage(next)
		fill(m, values[0])
		fill(m.Mutable(next.Fields().ByNumber(14)).Message(), values[1])
		many := m.Mutable(next.Fields().ByNumber(15)).List()
		for _, v := range values[2:] {
			fill(many.AppendMutable().Message(), v)
		}
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	seen := map[idempotency.Fingerprint]int{}
	for i, wire := range [][]byte{send("a", "b", "c", "d"), send("a", "b", "d", "c"), send("b", "a", "c", "d"), send("a", "b", "c"), send("a", "b", "c", "d", "d")} {
		var first idempotency.Fingerprint
		for k, d := range []protoreflect.MessageDescriptor{next, versions(t, 1, 3), versions(t, 2), versions(t)} {
			got := dynamicpb.NewMessage(d)
			if err := proto.Unmarshal(wire, got); err != nil {
				t.Fatal(err)
			}
			p := fingerprint(t, got)
			if k == 0 {
				first = p
			} else if p != first {
				t.Errorf("request %d has another fingerprint at a node that knows %d fields", i, d.Fields().Len())
			}
		}
		if was, ok := seen[first]; ok {
			t.Errorf("requests %d and %d are one", was, i)
		}
		seen[first] = i
	}
}

// TestKeysWhenAMessageHoldsAnother: a version that does not know yet that a field holds a message has the same fingerprint for it as the next one.
func TestKeysWhenAMessageHoldsAnother(t *testing.T) {
	next := versions(t, 1, 2)
	m := dynamicpb.NewMessage(next)
	m.Set(next.Fields().ByNumber(1), protoreflect.ValueOfString("a"))
	for range 2 {
		in := m.Mutable(next.Fields().ByNumber(15)).List().AppendMutable().Message()
		in.Set(in.Descriptor().Fields().ByNumber(2), protoreflect.ValueOfString("b"))
	}
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	got := dynamicpb.NewMessage(next.ParentFile().Messages().ByName("In"))
	if err := proto.Unmarshal(wire, got); err != nil {
		t.Fatal(err)
	}
	if fingerprint(t, got) != fingerprint(t, m) {
		t.Error("the same request has another fingerprint at a node that does not know a message inside")
	}
}
