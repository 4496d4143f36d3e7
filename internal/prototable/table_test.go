package prototable_test

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/internal/prototable"
	"github.com/hull-go/hull/internal/prototable/testpb"
)

func TestFor(t *testing.T) {
	for _, typ := range eligible() {
		if prototable.For(typ) == nil {
			t.Errorf("%T has no table", typ)
		}
		if prototable.For(fresh(typ)) != prototable.For(typ) {
			t.Errorf("%T has two tables", typ)
		}
	}
	for _, typ := range ineligible() {
		if prototable.For(typ) != nil {
			t.Errorf("%T has a table", typ)
		}
	}
	if prototable.For(nil) != nil {
		t.Error("no message has a table")
	}
	// What holds a message is not one of its type.
	if prototable.For(struct{ *testpb.Small }{&testpb.Small{Id: "a"}}) != nil {
		t.Error("a struct around a message has a table")
	}
	if prototable.For(&struct{ testpb.Small }{}) != nil {
		t.Error("a pointer to a struct around a message has a table")
	}
}

// A type that turns out to have no table must not have got into another's,
// which was made meanwhile: neither now nor when that is asked for later.
func TestRing(t *testing.T) {
	ring := func() *testpb.Ring { return &testpb.Ring{N: 1, Texts: map[string]string{"k": "v"}} }
	full := ring()
	full.Link = &testpb.Link{Ring: ring(), Hub: &testpb.Hub{Ring: ring()}, Rings: []*testpb.Ring{ring(), ring()}}
	full.Hub = &testpb.Hub{Ring: ring()}
	for _, m := range []proto.Message{
		full,
		&testpb.Link{Name: "a", Ring: full, Rings: []*testpb.Ring{full}, Hub: &testpb.Hub{Ring: full}, Next: &testpb.Link{Ring: full}},
		&testpb.Hub{Ring: full},
	} {
		if prototable.For(m) != nil {
			checkBoth(t, m)
		}
	}
}

// checkBoth encodes m, and decodes what that gives.
func checkBoth(t *testing.T, m proto.Message) {
	t.Helper()
	checkAppend(t, m)
	if data, err := proto.Marshal(m); err == nil {
		if ok, _ := checkUnmarshal(t, m, data); !ok {
			t.Fatalf("%T does not decode %x", m, data)
		}
	}
}

// messages has what is easily got wrong.
func messages() []proto.Message {
	text := func(n int) string { return strings.Repeat("x", n) }
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 999, protowire.VarintType), 7)
	withUnknown := &testpb.Order{Id: "o", Lines: []*testpb.Order_Line{{Sku: "s"}}}
	withUnknown.ProtoReflect().SetUnknown(unknown)
	withUnknown.Lines[0].ProtoReflect().SetUnknown(unknown)
	emptyUnknown := &testpb.Empty{}
	emptyUnknown.ProtoReflect().SetUnknown(unknown)
	tree := &testpb.Tree{Value: -1, Left: &testpb.Tree{}, More: []*testpb.Tree{nil, {Value: 1}, {}}}
	tree.Branch = &testpb.Branch{Trees: []*testpb.Tree{{Left: &testpb.Tree{Right: &testpb.Tree{Value: math.MaxInt64}}}}}
	all := []proto.Message{
		emptyUnknown,
		withUnknown,
		tree,
		&testpb.Small{Id: "id", Text: "text", N: math.MinInt64, Ok: true, Data: []byte{0}},
		&testpb.Small{Data: []byte{}},
		&testpb.Small{Text: "\xff"},
		&testpb.Small{Id: "é", Text: "\x00"},
		&testpb.Singles{FDouble: math.Copysign(0, -1), FFloat: float32(math.Copysign(0, -1))},
		&testpb.Singles{FDouble: math.NaN(), FFloat: float32(math.Inf(-1))},
		&testpb.Singles{FInt32: -1, FEnum: -3, FSint32: math.MinInt32, FSint64: math.MinInt64, FSfixed32: -1, FSfixed64: -1},
		&testpb.Singles{FUint32: math.MaxUint32, FUint64: math.MaxUint64, FFixed32: math.MaxUint32, FFixed64: 1},
		&testpb.Singles{FMessage: &testpb.Small{}},
		&testpb.Singles{FMessage: &testpb.Small{Text: "\xff"}},
		&testpb.Optionals{
			FDouble: proto.Float64(0), FFloat: proto.Float32(0), FInt32: proto.Int32(0), FInt64: proto.Int64(0),
			FUint32: proto.Uint32(0), FUint64: proto.Uint64(0), FSint32: proto.Int32(0), FSint64: proto.Int64(0),
			FFixed32: proto.Uint32(0), FFixed64: proto.Uint64(0), FSfixed32: proto.Int32(0), FSfixed64: proto.Int64(0),
			FBool: proto.Bool(false), FString: proto.String(""), FBytes: []byte{},
			FEnum: testpb.Color_COLOR_UNSPECIFIED.Enum(), FMessage: &testpb.Small{},
		},
		&testpb.Optionals{FString: proto.String("\xff")},
		&testpb.Lists{FInt32: []int32{}, FString: []string{}, FMessage: []*testpb.Small{}},
		&testpb.Lists{FInt32: []int32{0, -1, 1 << 20}, FBool: []bool{false, true}, FDouble: []float64{0}, FEnum: []testpb.Color{-3, 7}},
		&testpb.Lists{FSint32: []int32{math.MinInt32, math.MaxInt32}, FSint64: []int64{math.MinInt64}, FUint64: []uint64{math.MaxUint64}},
		&testpb.Lists{FString: []string{"", "a", ""}, FBytes: [][]byte{nil, {}, {1}}, FMessage: []*testpb.Small{nil, {}, {Id: "a"}}},
		&testpb.Lists{FString: []string{"a", "\xff"}},
		&testpb.Lists{FEmpty: []*testpb.Empty{{}, nil}},
		&testpb.Lists{FInt64: make([]int64, 200), FFixed32: make([]uint32, 40), FFixed64: make([]uint64, 5000)},
		&testpb.Unpacked{FInt32: []int32{0, -1}, FBool: []bool{false}, FFloat: []float32{0, 1}},
		&testpb.Sparse{Last: "l", C: 1, B: -1, A: []byte("a"), FirstPacked: []int32{1}, D: 1, E: true, Z: 1, S: proto.String(""), Ss: []string{""}},
		// Their defaults are no reason to leave them out.
		&testpb.TwoSingles{FDouble: proto.Float64(1.5), FString: proto.String("text"), FBytes: []byte("data"), FBool: proto.Bool(true)},
		&testpb.TwoSingles{FString: proto.String("\xff"), FBytes: []byte{}},
		&testpb.TwoLists{FFloat: []float32{1}, FDouble: []float64{1}, FString: []string{"\xff"}, FSfixed64: []int64{-1}},
		&testpb.TwoEnums{Single: testpb.Shade(99).Enum(), List: []testpb.Shade{99, 1}, Packed: []testpb.Shade{1, -2, 99}},
		&testpb.EdSingles{Unchecked: proto.String("\xff"), ImplicitUnchecked: "\xff", ExplicitData: []byte{}, ImplicitData: []byte{}},
		&testpb.EdSingles{Checked: proto.String("\xff")},
		&testpb.EdLists{Unchecked: []string{"\xff"}},
		&testpb.EdLists{Checked: []string{"\xff"}},
		&testpb.Choice{Choice: (*testpb.Choice_Text)(nil)},
		&testpb.Choice{Choice: &testpb.Choice_Text{}},
		&testpb.Choice{Choice: &testpb.Choice_Text{Text: "\xff"}},
		&testpb.Choice{Choice: &testpb.Choice_Small{}},
		&testpb.Choice{Choice: &testpb.Choice_Data{}, N: 1},
		&testpb.Choice{Choice: &testpb.Choice_Data{Data: []byte{}}, N: 1},
		&testpb.Choices{First: 1, Middle: 3, Last: proto.Int32(0), B: &testpb.Choices_BDouble{}, A: &testpb.Choices_AString{}, List: []int32{1}},
		&testpb.Choices{B: &testpb.Choices_BChoices{BChoices: &testpb.Choices{A: &testpb.Choices_ASfixed64{}}}, A: &testpb.Choices_ABytes{}},
		&testpb.Around{Maps: &testpb.Maps{Texts: map[string]string{"": ""}}, Small: &testpb.Small{Id: "a"}, Opaques: []*testpb.Opaque{nil, {}}},
		&testpb.Around{Maps: &testpb.Maps{Smalls: map[int32]*testpb.Small{1: {Text: "\xff"}}}},
		&testpb.Around{Grouped: &testpb.Grouped{Part: &testpb.Grouped_Part{N: proto.Int32(1)}, Parts: []*testpb.Grouped_Parts{{}}}},
	}
	// Lengths at which the length of the length changes, of strings and of messages; and ones
	// at which strings cease to be short.
	for _, n := range []int{1, 62, 63, 64, 65, 66, 119, 123, 124, 125, 126, 127, 128, 129, 16375, 16379, 16380, 16381, 16383, 16384} {
		all = append(all,
			&testpb.Small{Id: text(n), Text: "a", Data: []byte(text(n))},
			&testpb.Tree{Value: 1, Branch: bough(n)},
			&testpb.Lists{FInt32: make([]int32, n), FBool: make([]bool, n), FString: []string{text(n), "a", text(n)}},
		)
	}
	all = append(all, bough(1<<21))
	for _, typ := range slices.Concat(eligible(), perhaps()) {
		all = append(all, fresh(typ))
	}
	return all
}

// bough returns a message with another one inside, of n bytes and more, in which no string is longer than tables take.
func bough(n int) *testpb.Branch {
	inner := &testpb.Branch{Name: strings.Repeat("x", min(n, 4<<10))}
	for n -= 4 << 10; n > 0; n -= 4 << 10 {
		inner.Trees = append(inner.Trees, &testpb.Tree{Branch: &testpb.Branch{Name: strings.Repeat("x", min(n, 4<<10))}})
	}
	return &testpb.Branch{Name: "b", Trees: []*testpb.Tree{{Branch: inner}}}
}

// Long strings inside other messages, and many messages inside each other, would be moved too often.
func TestMovedTooOften(t *testing.T) {
	long := strings.Repeat("x", 4<<10+1)
	deep := bough(1 << 20)
	for range 8 {
		deep = &testpb.Branch{Trees: []*testpb.Tree{{Branch: deep}}}
	}
	for _, m := range []proto.Message{
		&testpb.Branch{Trees: []*testpb.Tree{{Branch: &testpb.Branch{Name: long}}}},
		&testpb.Singles{FMessage: &testpb.Small{Data: []byte(long)}},
		&testpb.Lists{FMessage: []*testpb.Small{{Text: long}}},
		&testpb.Choice{Choice: &testpb.Choice_Small{Small: &testpb.Small{Text: long}}},
		deep,
	} {
		dst := []byte("before")
		if got, ok := prototable.Encode(dst, m); ok || string(got) != "before" {
			t.Errorf("%T is encoded: %t, %d bytes", m, ok, len(got))
		}
		data, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if ok, _ := checkUnmarshal(t, m, data); !ok {
			t.Errorf("%T does not decode", m)
		}
	}
}

func TestMessages(t *testing.T) {
	for i, m := range messages() {
		t.Run(fmt.Sprintf("%02d-%s", i, m.ProtoReflect().Descriptor().Name()), func(t *testing.T) {
			if prototable.For(m) != nil {
				checkBoth(t, m)
			}
		})
	}
}

func TestRandomMessages(t *testing.T) {
	r := seeded(t, 2, oddities{nils: true, unknown: true})
	eachTable(t, func(t *testing.T, typ proto.Message) {
		for i := range many {
			r.odd.text = i%4 == 0
			checkBoth(t, r.message(typ))
		}
	})
}

// What a message keeps of unknown fields is what the other side reads.
func TestUnknownFieldsPassThrough(t *testing.T) {
	r := seeded(t, 3, oddities{})
	for range 200 {
		m := r.message(&testpb.New{})
		data, ok := prototable.Encode(nil, m)
		var old testpb.Old
		if !ok || !prototable.Decode(data, &old) {
			t.Fatalf("%x passes: %v", data, ok)
		}
		data, ok = prototable.Encode(nil, &old)
		back := &testpb.New{}
		if !ok || !prototable.Decode(data, back) || !proto.Equal(back, m) {
			t.Fatalf("%v came back as %v", m, back)
		}
	}
}

// Who decodes a message may change its bytes in place, and append to them;
// the rest of the message stays what it was.
func TestBytesAreTheirOwn(t *testing.T) {
	r := seeded(t, 4, oddities{unknown: true})
	eachTable(t, func(t *testing.T, typ proto.Message) {
		for range 30 {
			data, err := proto.Marshal(r.message(typ))
			if err != nil {
				t.Fatal(err)
			}
			got, want := fresh(typ), fresh(typ)
			if !prototable.Decode(data, got) || proto.Unmarshal(data, want) != nil {
				t.Fatalf("does not decode %x", data)
			}
			gots, wants := bytesOf(reflect.ValueOf(got)), bytesOf(reflect.ValueOf(want))
			if len(gots) != len(wants) {
				t.Fatalf("%x: %d bytes fields, want %d", data, len(gots), len(wants))
			}
			for i := range gots {
				_ = append(gots[i], "more than there is between fields"...)
				for j := range min(len(gots[i]), len(wants[i])) {
					gots[i][j], wants[i][j] = ^gots[i][j], ^wants[i][j]
				}
			}
			if err := same(got, want); err != nil {
				t.Fatalf("%x: %v", data, err)
			}
		}
	})
}

// bytesOf returns all bytes fields of a message, in the order of the struct.
func bytesOf(v reflect.Value) [][]byte {
	var all [][]byte
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			all = bytesOf(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				all = append(all, bytesOf(v.Field(i))...)
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return [][]byte{v.Bytes()}
		}
		for i := range v.Len() {
			all = append(all, bytesOf(v.Index(i))...)
		}
	default: // no bytes
	}
	return all
}

// Encoding reads the message only: it may be somebody else's, too.
func TestAppendLeavesMessage(t *testing.T) {
	r := seeded(t, 5, oddities{unknown: true})
	eachTable(t, func(t *testing.T, typ proto.Message) {
		for range 20 {
			data, err := proto.Marshal(r.message(typ))
			m, before := fresh(typ), fresh(typ)
			if err != nil || proto.Unmarshal(data, m) != nil || proto.Unmarshal(data, before) != nil {
				t.Fatalf("package proto does not decode its %x, %v", data, err)
			}
			if _, ok := prototable.Encode(nil, m); !ok {
				t.Fatalf("%v does not encode", m)
			}
			if err := same(m, before); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// How deep messages may lie in each other is package proto's to say.
func TestDepth(t *testing.T) {
	const (
		left  = 2<<3 | byte(protowire.BytesType)
		more  = 4<<3 | byte(protowire.BytesType)
		ring  = 2<<3 | byte(protowire.BytesType)
		link  = 1<<3 | byte(protowire.BytesType)
		next  = 4<<3 | byte(protowire.BytesType)
		trees = 1<<3 | byte(protowire.BytesType)
		way   = 5<<3 | byte(protowire.BytesType)
	)
	bound := []int{9_999, 10_000} // and the outermost message
	tests := []struct {
		name   string
		typ    proto.Message
		tags   []byte // from the outermost on, again and again
		depths []int
	}{
		{"field", &testpb.Tree{}, []byte{left}, append(bound, 11_000)},
		{"list", &testpb.Tree{}, []byte{more}, bound},
		{"two types", &testpb.Tree{}, []byte{way, trees}, bound},
		{"types with and without a table", &testpb.Link{}, []byte{ring, link}, bound},
		{"type without a table now and then", &testpb.Link{}, []byte{next, next, ring, link, next}, bound},
	}
	for _, tt := range tests {
		for _, depth := range tt.depths {
			t.Run(fmt.Sprintf("%s/%d", tt.name, depth), func(t *testing.T) {
				if prototable.For(tt.typ) == nil {
					return
				}
				data := nested(tt.tags, depth)
				m := fresh(tt.typ)
				protoOK := proto.Unmarshal(data, m) == nil
				if ok := prototable.Decode(data, fresh(tt.typ)); ok != protoOK {
					t.Errorf("decodes: %v, want %v", ok, protoOK)
				}
				// Encoding knows no bound, but the table may leave what is deep to package proto.
				if err := (proto.UnmarshalOptions{RecursionLimit: depth + 1}).Unmarshal(data, m); err != nil {
					t.Fatal(err)
				}
				if got, ok := prototable.Encode(nil, m); ok && !bytes.Equal(got, data) {
					t.Errorf("encodes to %d bytes that are not the %d decoded", len(got), len(data))
				}
			})
		}
	}
}

// nested returns messages that deep in each other, the fields' tags in turn.
func nested(tags []byte, depth int) []byte {
	sizes := make([]int, depth+1) // of what is in each
	for i := depth - 1; i >= 0; i-- {
		sizes[i] = 1 + protowire.SizeBytes(sizes[i+1])
	}
	b := make([]byte, 0, sizes[0])
	for i := range depth {
		b = append(b, tags[i%len(tags)])
		b = protowire.AppendVarint(b, uint64(sizes[i+1]))
	}
	return b
}

// Groups that nobody knows are bounded too.
func TestDepthOfUnknownGroups(t *testing.T) {
	for _, depth := range []int{100, 9_999, 10_000, 10_001, 11_000} {
		data := bytes.Repeat(protowire.AppendTag(nil, 99, protowire.StartGroupType), depth)
		data = append(data, bytes.Repeat(protowire.AppendTag(nil, 99, protowire.EndGroupType), depth)...)
		typ := &testpb.Small{}
		ok, protoOK := checkUnmarshal(t, typ, data)
		if ok != protoOK {
			t.Errorf("%d groups: decodes: %v, want %v", depth, ok, protoOK)
		}
	}
}
