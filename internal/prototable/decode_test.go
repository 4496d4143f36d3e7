package prototable_test

import (
	"bytes"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/hull-go/hull/internal/prototable"
	"github.com/hull-go/hull/internal/prototable/testpb"
)

// What the wire may hold that package proto never writes, and what it must not.
func TestUnmarshal(t *testing.T) {
	small, lists, unpacked := &testpb.Small{}, &testpb.Lists{}, &testpb.Unpacked{}
	singles, tree, choice, choices := &testpb.Singles{}, &testpb.Tree{}, &testpb.Choice{}, &testpb.Choices{}
	long := "\x80\x80\x80\x80\x80\x80\x80\x80\x80" // one byte more makes a varint of ten
	tests := []struct {
		name string
		typ  proto.Message
		data string
		ok   bool
	}{
		{"nothing", small, "", true},
		{"field twice", small, "\x0a\x01a\x0a\x01b", true},
		{"field twice, then empty", small, "\x2a\x01a\x2a\x00\x0a\x01a\x0a\x00\x18\x05\x18\x00", true},
		{"fields out of order", small, "\x2a\x01a\x18\x01\x0a\x01b\x20\x01", true},
		{"message twice", singles, "\x8a\x01\x03\x0a\x01a\x8a\x01\x03\x12\x01b", true},
		{"messages in lists are not merged", lists, "\x8a\x01\x03\x0a\x01a\x8a\x01\x03\x12\x01b", true},
		{"merged lists", tree, "\x2a\x04\x0a\x02\x08\x01\x2a\x04\x0a\x02\x08\x02", true},
		{"oneof twice", choice, "\x12\x01a\x18\x05", true},
		{"message of a oneof twice", choice, "\x22\x03\x0a\x01a\x22\x03\x12\x01b", true},
		{"message of a oneof, something else, message", choice, "\x22\x03\x0a\x01a\x18\x05\x22\x03\x12\x01b", true},
		{"empty bytes in a oneof", choice, "\x2a\x00", true},
		{"same case of a oneof twice", choice, "\x12\x01a\x12\x00", true},
		{"long tag", small, "\x8a\x80\x00\x01a", true},
		{"tag of ten bytes", small, "\x8a" + long[1:] + "\x00\x01a", true},
		{"tag of eleven bytes", small, "\x8a" + long + "\x00\x01a", false},
		{"tag of more than 64 bits", small, "\x8a" + long[1:] + "\x02\x01a", false},
		{"tag of 33 bits", small, "\x8a\x80\x80\x80\x10\x01a", false},
		{"tag of 64 bits", small, "\x8a" + long[1:] + "\x01\x01a", false},
		{"long length", small, "\x0a\x81\x00a", true},
		{"length of ten bytes", small, "\x0a\x81" + long[1:] + "\x00a", true},
		{"length of more than 63 bits", small, "\x0a\x81" + long[1:] + "\x01a", false},
		{"length of eleven bytes", small, "\x0a\x81" + long + "\x00a", false},
		{"length beyond the end", small, "\x0a\x02a", false},
		{"length of a message beyond the end", singles, "\x8a\x01\x04\x0a\x01a", false},
		{"length beyond the message, but not the data", singles, "\x8a\x01\x03\x0a\x02aaa", false},
		{"varint beyond the message, but not the data", singles, "\x8a\x01\x02\x18\x80\x01", false},
		{"tag beyond the message, but not the data", singles, "\x8a\x01\x01\x80\x01\x01", false},
		{"fixed beyond the message, but not the data", tree, "\x12\x05\x3d\x01\x01\x01\x00\x00", false},
		{"varint of a list beyond the message", choices, "\x7a\x02\x48\x80\x01", false},
		{"optional varint beyond the message", choices, "\x7a\x02\x28\x80\x01", false},
		{"fixed of a oneof beyond the message", choices, "\x7a\x03\x25\x01\x02\x03\x04", false},
		{"string of a oneof beyond the message", choices, "\x7a\x02\x42\x01a", false},
		{"message of a oneof beyond the message", choices, "\x7a\x02\x7a\x02\x08\x01", false},
		{"packed beyond the message", choices, "\x7a\x03\x4a\x02\x01\x02", false},
		{"required field missing from an extension", &testpb.ExtendableBelow{}, "\x12\x03\xba\x06\x00", false},
		{"no value", small, "\x18", false},
		{"half a varint", small, "\x18\x80", false},
		{"varint of eleven bytes", small, "\x18" + long + "\x80\x00", false},
		{"varint of more than 64 bits", small, "\x18" + long + "\x02", false},
		{"varint of 64 bits for int32", singles, "\x18\xff\xff\xff\xff\xff\xff\xff\xff\x7f", true},
		{"varint of 64 bits for uint32", singles, "\x28\xff\xff\xff\xff\xff\xff\xff\xff\x7f", true},
		{"varint of 64 bits for sint32", singles, "\x38\xff\xff\xff\xff\xff\xff\xff\xff\x7f", true},
		{"varint of 64 bits for an enum", singles, "\x80\x01\xff\xff\xff\xff\xff\xff\xff\xff\x7f", true},
		{"large bool", small, "\x20\x80\x80\x80\x80\x80\x80\x01", true},
		{"bool of long zero", small, "\x20\x80\x00", true},
		{"half a fixed32", singles, "\x4d\x01\x01", false},
		{"half a fixed64", singles, "\x09\x01\x01\x01\x01\x01", false},
		{"field 0", small, "\x00\x01", false},
		{"field 0 of a long tag", small, "\x80\x00\x01", false},
		{"field 0 in a message", singles, "\x8a\x01\x02\x00\x01", false},
		{"largest number", small, "\xf8\xff\xff\xff\x0f\x01", true},
		{"number too large", small, "\x80\x80\x80\x80\x10\x01", false},
		{"wrong wire types", small, "\x08\x01\x15\x01\x02\x03\x04\x1a\x01a\x2b\x2c", true},
		{"wrong wire type cut off", small, "\x1a\x02a", false},
		{"wire type 6", small, "\x0e", false},
		{"wire type 7", small, "\xff\x01\x00", false},
		{"group", small, "\x7b\x08\x01\x7c", true},
		{"group with a long end", small, "\x7b\x08\x01\xfc\x00", true},
		{"group in a group", small, "\x7b\x7b\x7c\x0b\x0c\x7c", true},
		{"group without an end", small, "\x7b\x08\x01", false},
		{"group with another's end", small, "\x7b\x0c", false},
		{"end of a group", small, "\x7c", false},
		{"end of a field's group", small, "\x0c", false},
		{"group around the end of a message", singles, "\x8a\x01\x01\x7b\x7c", false},
		{"unknown field with a long tag", small, "\xf8\x80\x00\x01", true},
		{"unknown field with a long value", small, "\x78\x81\x80\x00", true},
		{"unknown bytes cut off", small, "\x7a\x02a", false},
		{"no UTF-8", small, "\x0a\x01\xff", false},
		{"no UTF-8, then some", small, "\x0a\x01\xff\x0a\x01a", false},
		{"rune over two fields", small, "\x0a\x01\xc3\x12\x01\xa9", false},
		{"no UTF-8 in bytes", small, "\x2a\x01\xff", true},
		{"no UTF-8 in a list", lists, "\x72\x01\xff", false},
		{"no UTF-8 in proto2", &testpb.TwoSingles{}, "\x72\x01\xff", true},
		{"no UTF-8 with a feature", &testpb.EdSingles{}, "\x22\x01\xff\x2a\x01\xff", true},
		{"no UTF-8 without the feature", &testpb.EdSingles{}, "\x1a\x01\xff", false},
		{"packed", lists, "\x1a\x03\x01\x80\x01", true},
		{"packed, one by one", lists, "\x18\x01\x18\x02", true},
		{"both ways", lists, "\x18\x01\x1a\x02\x02\x03\x18\x04", true},
		{"one by one, packed", unpacked, "\x1a\x03\x01\x80\x01", true},
		{"nothing packed", lists, "\x1a\x00", true},
		{"nothing packed, one by one", unpacked, "\x0a\x00\x1a\x00\x6a\x00", true},
		{"packed with half a varint", lists, "\x1a\x02\x01\x80", false},
		{"packed with half a varint that goes on behind it", lists, "\x1a\x02\x01\x80\x01", false},
		{"packed with half a fixed32", lists, "\x12\x05aaaaa", false},
		{"packed with half a fixed64", lists, "\x0a\x09aaaaaaaaa", false},
		{"packed with a long varint", lists, "\x1a\x02\x81\x00", true},
		{"packed with a varint of eleven bytes", lists, "\x1a\x0b" + long + "\x80\x00", false},
		{"packed bools", lists, "\x6a\x05\x00\x01\x02\x80\x00", true},
		{"packed beyond the end", lists, "\x1a\x03\x01", false},
		{"list of numbers with another wire type", lists, "\x1d\x01\x02\x03\x04\x0d\x01\x02\x03\x04", true},
		{"list of strings with another wire type", lists, "\x70\x01\x88\x01\x01", true},
		{"unknown enum", &testpb.TwoEnums{}, "\x08\x63\x18\x63\x22\x02\x63\x01", true},
		{"unknown closed enum", &testpb.EdClosed{}, "\x08\x63\x10\x63\x12\x02\x63\x01", true},
		{"largest field", &testpb.Sparse{}, "\xfa\xff\xff\xff\x0f\x01a", true},
		{"near the largest field", &testpb.Sparse{}, "\xf2\xff\xff\xff\x0f\x01a", true},
		{"optional twice", &testpb.Optionals{}, "\x18\x01\x18\x00\x72\x01a\x72\x00\x7a\x01a\x7a\x00", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if prototable.For(tt.typ) == nil {
				return
			}
			ok, protoOK := checkUnmarshal(t, tt.typ, []byte(tt.data))
			if ok != protoOK || ok != tt.ok {
				t.Errorf("decodes: %v, package proto: %v; want %v", ok, protoOK, tt.ok)
			}
		})
	}
}

// What a message held before is gone, the unknown fields too.
func TestUnmarshalReplaces(t *testing.T) {
	r := seeded(t, 10, oddities{unknown: true})
	eachTable(t, func(t *testing.T, typ proto.Message) {
		used, want := r.message(typ), fresh(typ)
		for range 30 {
			data := encoded(t, r, typ, 1000)
			if !prototable.Decode(data, used) || proto.Unmarshal(data, want) != nil {
				t.Fatalf("%T does not decode %x", typ, data)
			}
			if err := same(used, want); err != nil {
				t.Fatalf("%T from %x: %v", typ, data, err)
			}
		}
	})
}

// Wherever in a string what is no UTF-8 stands, it is found, and what is UTF-8 is not taken for it.
func TestUTF8(t *testing.T) {
	for n := 1; n <= 40; n++ {
		for at := range n {
			for _, char := range []string{"\xff", "\x80", "é", "\u20ac", "\U0001f600"} {
				b := bytes.Repeat([]byte("a"), n)
				copy(b[at:], char) // whose rest may be cut off
				m := &testpb.Small{Id: string(b)}
				checkAppend(t, m)
				data := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), b)
				if ok, protoOK := checkUnmarshal(t, m, data); ok != protoOK {
					t.Fatalf("%q decodes: %v, want %v", b, ok, protoOK)
				}
			}
		}
	}
}

// To package proto a nil pointer is an empty message to read, and none to write to.
func TestNilPointer(t *testing.T) {
	var none *testpb.Small
	if prototable.Decode(nil, none) {
		t.Error("decodes into a nil pointer")
	}
	if b, ok := prototable.Encode([]byte("before"), none); string(b) != "before" {
		t.Errorf("nothing encodes to %q, %v", b, ok)
	}
}

// Whatever is cut off, the table does not take it for the whole where package
// proto does not.
func TestTruncated(t *testing.T) {
	r := seeded(t, 6, oddities{unknown: true})
	eachTable(t, func(t *testing.T, typ proto.Message) {
		for range 5 {
			data := encoded(t, r, typ, 600)
			for n := range len(data) {
				checkUnmarshal(t, typ, data[:n])
			}
		}
	})
}

// Bytes changed, put in and taken away.
func TestFlipped(t *testing.T) {
	r := seeded(t, 7, oddities{unknown: true})
	eachTable(t, func(t *testing.T, typ proto.Message) {
		decoded := 0
		for range many {
			data := encoded(t, r, typ, 300)
			for range 1 + r.IntN(3) {
				at := r.IntN(len(data) + 1)
				switch r.IntN(4) {
				case 0:
					data = slices.Insert(data, at, byte(r.Uint32()))
				case 1:
					data = slices.Delete(data, at, min(at+1+r.IntN(3), len(data)))
				default:
					if at < len(data) {
						data[at] ^= 1 << r.IntN(8)
					}
				}
			}
			if ok, _ := checkUnmarshal(t, typ, data); ok {
				decoded++
			}
		}
		if decoded == 0 {
			t.Error("none decodes")
		}
	})
}

// Other encodings of the same, and of almost the same: package proto decodes
// most of them, and the table the same.
func TestRewritten(t *testing.T) {
	r := seeded(t, 8, oddities{unknown: true})
	eachTable(t, func(t *testing.T, typ proto.Message) {
		for _, bad := range []bool{false, true} {
			decoded, judged := 0, 0
			for range many {
				w := rewriter{r, bad}
				data := w.message(encoded(t, r, typ, 1000), typ.ProtoReflect().Descriptor())
				ok, protoOK := checkUnmarshal(t, typ, data)
				if ok {
					decoded++
				}
				if protoOK {
					judged++
				}
				if !bad && !protoOK {
					t.Fatalf("package proto does not decode %x", data)
				}
			}
			if decoded != judged {
				t.Errorf("decodes %d of the %d that package proto does", decoded, judged)
			}
		}
	})
}

// encoded returns the encoding of a random message, of at most that size.
func encoded(t *testing.T, r random, typ proto.Message, size int) []byte {
	t.Helper()
	for {
		data, err := proto.Marshal(r.message(typ))
		if err != nil {
			t.Fatal(err)
		}
		if len(data) <= size {
			return data
		}
	}
}

// A rewriter encodes messages in ways that package proto never chooses. The
// bad ones are mostly errors.
type rewriter struct {
	random
	bad bool
}

// message rewrites the encoding of a message of the type, which is nil if unknown.
func (w rewriter) message(data []byte, d protoreflect.MessageDescriptor) []byte {
	var fields [][]byte
	for len(data) > 0 {
		num, wire, n := protowire.ConsumeTag(data)
		size := protowire.ConsumeFieldValue(num, wire, data[n:])
		field := w.field(num, wire, data[n:n+size], d)
		fields = append(fields, field)
		if w.IntN(8) == 0 {
			fields = append(fields, field)
		}
		data = data[n+size:]
	}
	if w.IntN(4) == 0 {
		w.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	}
	if w.IntN(4) == 0 {
		fields = append(fields, w.random.field(nil, 77, 3))
	}
	if w.bad && w.IntN(20) == 0 {
		bad := []string{"\x00\x01", "\x7c", "\x0e", "\x80\x80\x80\x80\x10\x01", "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"}
		fields = append(fields, []byte(bad[w.IntN(len(bad))]))
	}
	return bytes.Join(fields, nil)
}

// field rewrites one field with its tag.
func (w rewriter) field(num protowire.Number, wire protowire.Type, value []byte, d protoreflect.MessageDescriptor) []byte {
	var fd protoreflect.FieldDescriptor
	if d != nil {
		fd = d.Fields().ByNumber(num)
	}
	if w.bad && w.IntN(30) == 0 {
		return append(w.varint(protowire.EncodeTag(num, protowire.Type(w.IntN(8)))), value...)
	}
	if fd != nil && fd.IsList() && w.IntN(3) == 0 {
		if b, ok := w.otherwise(num, wire, value, fd); ok {
			return b
		}
	}
	b := w.varint(protowire.EncodeTag(num, wire))
	switch wire {
	case protowire.VarintType:
		v, _ := protowire.ConsumeVarint(value)
		return append(b, w.varint(v)...)
	case protowire.BytesType:
		body, _ := protowire.ConsumeBytes(value)
		if fd != nil && fd.Message() != nil {
			body = w.message(body, fd.Message())
		}
		size := uint64(len(body))
		if w.bad && w.IntN(30) == 0 {
			size += uint64(w.IntN(3)) - 1
		}
		return slices.Concat(b, w.varint(size), body)
	default:
		return append(b, value...)
	}
}

// otherwise packs what is not packed, and takes apart what is.
func (w rewriter) otherwise(num protowire.Number, wire protowire.Type, value []byte, fd protoreflect.FieldDescriptor) ([]byte, bool) {
	element := protowire.VarintType
	switch fd.Kind() {
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind, protoreflect.GroupKind:
		return nil, false
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		element = protowire.Fixed32Type
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		element = protowire.Fixed64Type
	default: // varints
	}
	if wire == element {
		b := w.varint(protowire.EncodeTag(num, protowire.BytesType))
		return slices.Concat(b, w.varint(uint64(len(value))), value), true
	}
	if wire != protowire.BytesType {
		return nil, false // it was unknown before
	}
	body, _ := protowire.ConsumeBytes(value)
	var b []byte
	for len(body) > 0 {
		n := protowire.ConsumeFieldValue(num, element, body)
		if n < 0 {
			return nil, false
		}
		b = append(append(b, w.varint(protowire.EncodeTag(num, element))...), body[:n]...)
		body = body[n:]
	}
	return b, true
}

// varint encodes v, at times in more bytes than it takes; the bad ones in too many.
func (w rewriter) varint(v uint64) []byte {
	b := protowire.AppendVarint(nil, v)
	if w.IntN(10) > 0 {
		return b
	}
	most := 10
	if w.bad {
		most = 12
	}
	for n := w.IntN(most - len(b) + 1); n > 0; n-- {
		b[len(b)-1] |= 0x80
		b = append(b, 0)
	}
	return b
}
