package idempotency

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"runtime"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// unordered holds a text of that size under so many lists, each with a field that is not known and belongs before the list: no level is in order.
func unordered(depth, size int) *structpb.Value {
	v := structpb.NewStringValue(strings.Repeat("x", size))
	for range depth {
		v = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{v, structpb.NewNumberValue(1)}})
		v.ProtoReflect().SetUnknown(protowire.AppendFixed32(protowire.AppendTag(nil, 1, protowire.Fixed32Type), 7))
	}
	return v
}

// counted counts what is hashed.
type counted struct {
	hash.Hash
	bytes int
}

func (c *counted) Write(b []byte) (int, error) {
	c.bytes += len(b)
	return c.Hash.Write(b)
}

// TestFingerprintsOfDeepMessages is a regression test: a message was copied twice for each level of it, so that one request of 3 MiB took a core for seconds. What is
// hashed and what is allocated is the message's size, however deep it is.
func TestFingerprintsOfDeepMessages(t *testing.T) {
	const size = 1 << 20
	for _, depth := range []int{0, 10, 500, 2000} {
		v := unordered(depth, size)
		b, err := proto.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		h := &counted{Hash: sha256.New()}
		parts, n := inOrder(b, v.ProtoReflect().Descriptor(), 0, 1)
		if writeParts(h, parts); n != len(b) || depth > 0 && h.bytes != len(b) {
			t.Errorf("depth %d: of %d bytes %d are read and %d hashed", depth, len(b), n, h.bytes)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err = FingerprintOf(v); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 16*size {
			t.Errorf("depth %d: the fingerprint of %d bytes took %d of memory", depth, len(b), took)
		}
	}
}

// TestFingerprintsStay: nodes of a release and of the next share them.
func TestFingerprintsStay(t *testing.T) {
	for want, v := range map[string]any{
		"3f44de59c147a9f678544de46b059d2e86612870adbb4f17127d57bf4a2dd908": unordered(3, 1),
		"1aff5ef5cf9eede7f50f397e951a56b69c063155267a5c059df05a437b2d94cf": []byte("x"),
		"e214e2c6d2b10653624cee8b3c2d65eaf11772c3320a45f5f05a5b9293a7b99d": map[string]any{"b": 1, "a": []int{2}},
	} {
		if p, err := FingerprintOf(v); err != nil || hex.EncodeToString(p[:]) != want {
			t.Errorf("%T: %x, %v; want %s", v, p, err, want)
		}
	}
}

// tree describes a message Tree that holds itself, as field 4, and as field 5 in a group, both repeated, and a number as field 3.
func tree(t testing.TB) protoreflect.MessageDescriptor {
	t.Helper()
	field := func(name string, n int32, kind descriptorpb.FieldDescriptorProto_Type) *descriptorpb.FieldDescriptorProto {
		f := &descriptorpb.FieldDescriptorProto{Name: &name, Number: &n, Type: kind.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()}
		if kind == descriptorpb.FieldDescriptorProto_TYPE_MESSAGE {
			f.TypeName = proto.String(".p.Tree")
		}
		return f
	}
	group := field("group", 5, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE)
	group.Options = &descriptorpb.FieldOptions{Features: &descriptorpb.FeatureSet{MessageEncoding: descriptorpb.FeatureSet_DELIMITED.Enum()}}
	f, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{Name: proto.String("tree.proto"), Package: proto.String("p"),
		Syntax: proto.String("editions"), Edition: descriptorpb.Edition_EDITION_2023.Enum(),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("Tree"), Field: []*descriptorpb.FieldDescriptorProto{
			field("number", 3, descriptorpb.FieldDescriptorProto_TYPE_INT64), field("held", 4, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE), group}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f.Messages().Get(0)
}

// sorted is what inOrder promises, said simply.
func sorted(b []byte, of protoreflect.MessageDescriptor) []byte {
	type field struct {
		number protowire.Number
		raw    []byte
	}
	var fields []field
	for rest := b; len(rest) > 0; {
		number, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return b
		}
		size := protowire.ConsumeFieldValue(number, kind, rest[n:])
		if size < 0 {
			return b
		}
		raw := bytes.Clone(rest[:n+size])
		if fd := of.Fields().ByNumber(number); fd != nil && fd.Message() != nil {
			switch kind {
			case protowire.BytesType:
				inner, _ := protowire.ConsumeBytes(raw[n:])
				copy(inner, sorted(inner, fd.Message()))
			case protowire.StartGroupType:
				end := len(raw) // of the inner fields
				for at := n; at < len(raw); {
					number, kind, k := protowire.ConsumeTag(raw[at:])
					if kind == protowire.EndGroupType {
						end = at
						break
					}
					at += k + protowire.ConsumeFieldValue(number, kind, raw[at+k:])
				}
				copy(raw[n:end], sorted(raw[n:end], fd.Message()))
			}
		}
		fields = append(fields, field{number, raw})
		rest = rest[n+size:]
	}
	slices.SortStableFunc(fields, func(a, b field) int { return cmp.Compare(a.number, b.number) })
	var out []byte
	for _, f := range fields {
		out = append(out, f.raw...)
	}
	return out
}

// kept is a hash that keeps what it is given.
type kept struct {
	hash.Hash
	b []byte
}

func (k *kept) Write(b []byte) (int, error) {
	k.b = append(k.b, b...)
	return len(b), nil
}

// FuzzOrder puts messages within messages and groups in order, as the sender left them.
func FuzzOrder(f *testing.F) {
	for _, s := range []string{"", "1801", "22021801", "0801", "180108011802", "2b18012c", "2b180108012c", "2b2b180108012c1801082c2c", "2204180108010801", "2b220418010801180108012c1801", "2b1801", "2c",
		"0b18010c0801", "22032b2b2c", "2280001801", "2a041801080118010801", "2b1801ac00"} {
		b, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	of := tree(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		want := sorted(b, of)
		parts, n := inOrder(b, of, 0, 1)
		k := &kept{}
		if writeParts(k, parts); parts == nil {
			k.b = b
		}
		if !bytes.Equal(k.b, want) || n != len(b) && n != -1 || !bytes.Equal(b, before) {
			t.Errorf("%x is in order as %x, and was put as %x (%d)", b, want, k.b, n)
		}
	})
}
