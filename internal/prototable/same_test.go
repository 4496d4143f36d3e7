package prototable_test

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/hull-go/hull/internal/prototable"
)

// checkAppend compares the encoding of m with package proto's.
func checkAppend(t *testing.T, m proto.Message) {
	t.Helper()
	const prefix = "before"
	want, err := proto.MarshalOptions{}.MarshalAppend([]byte(prefix), m)
	for _, room := range []int{0, 3, 1000} {
		dst := append(make([]byte, 0, len(prefix)+room), prefix...)
		got, ok := prototable.Encode(dst, m)
		switch {
		case err != nil && ok:
			t.Fatalf("%T encodes, against package proto: %v", m, err)
		case err == nil && !ok:
			t.Fatalf("%T does not encode: %x", m, want)
		case !ok && string(got) != prefix:
			t.Fatalf("%T does not encode and leaves %q of %q", m, got, prefix)
		case ok && !bytes.Equal(got, want):
			t.Fatalf("%T encodes to\n%x\nwant\n%x", m, got, want)
		}
	}
}

// checkUnmarshal compares what is decoded from data with what package
// proto does. It reports whether each of them decodes it.
func checkUnmarshal(t *testing.T, typ proto.Message, data []byte) (ok, protoOK bool) {
	t.Helper()
	want, got := fresh(typ), fresh(typ)
	err := proto.Unmarshal(data, want)
	own := bytes.Clone(data)
	ok = prototable.Decode(own, got)
	if !bytes.Equal(own, data) {
		t.Fatalf("%T: decoding changes %x to %x", typ, data, own)
	}
	if !ok {
		return false, err == nil
	}
	if err != nil {
		t.Fatalf("%T decodes %x, against package proto: %v", typ, data, err)
	}
	// A message that held on to its data would change with it.
	for i := range own {
		own[i] ^= 0xff
	}
	if err := same(got, want); err != nil {
		t.Fatalf("%T from %x: %v", typ, data, err)
	}
	return true, true
}

// fresh returns an empty message of m's type.
func fresh(m proto.Message) proto.Message { return m.ProtoReflect().New().Interface() }

// same tells in what two messages differ, be it in what is nil and what is
// empty. To package proto they must be equal too.
func same(got, want proto.Message) error {
	if err := sameValue(reflect.ValueOf(got), reflect.ValueOf(want)); err != nil {
		return err
	}
	if !proto.Equal(got, want) {
		return fmt.Errorf("got %v, want %v", got, want)
	}
	o := proto.MarshalOptions{Deterministic: true, AllowPartial: true}
	g, gotErr := o.Marshal(got)
	w, wantErr := o.Marshal(want)
	if !bytes.Equal(g, w) || (gotErr == nil) != (wantErr == nil) {
		return fmt.Errorf("encodes again to\n%x, %w; want\n%x, %w", g, gotErr, w, wantErr)
	}
	return nil
}

func sameValue(got, want reflect.Value) error {
	typ := got.Type()
	if typ != want.Type() {
		return fmt.Errorf("got a %v, want a %v", typ, want.Type())
	}
	switch got.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Slice, reflect.Map:
		if got.IsNil() != want.IsNil() {
			return fmt.Errorf("a %v is nil: %v, want %v", typ, got.IsNil(), want.IsNil())
		}
		if got.IsNil() {
			return nil
		}
	default: // has no nil
	}
	switch got.Kind() {
	case reflect.Pointer:
		if m, ok := got.Interface().(proto.Message); ok {
			w := want.Interface().(proto.Message)
			if g, w := m.ProtoReflect().GetUnknown(), w.ProtoReflect().GetUnknown(); !bytes.Equal(g, w) {
				return fmt.Errorf("%v has unknown fields %x, want %x", typ, g, w)
			}
		}
		return sameValue(got.Elem(), want.Elem())
	case reflect.Interface:
		return sameValue(got.Elem(), want.Elem())
	case reflect.Struct:
		for i := range typ.NumField() {
			// The others are package proto's business, which compares them itself.
			if !typ.Field(i).IsExported() {
				continue
			}
			if err := sameValue(got.Field(i), want.Field(i)); err != nil {
				return fmt.Errorf("%s: %w", typ.Field(i).Name, err)
			}
		}
	case reflect.Slice:
		if got.Len() != want.Len() {
			return fmt.Errorf("%d elements, want %d", got.Len(), want.Len())
		}
		for i := range got.Len() {
			if err := sameValue(got.Index(i), want.Index(i)); err != nil {
				return fmt.Errorf("[%d]: %w", i, err)
			}
		}
	case reflect.Map:
		if got.Len() != want.Len() {
			return fmt.Errorf("%d entries, want %d", got.Len(), want.Len())
		}
		for k, v := range want.Seq2() {
			g := got.MapIndex(k)
			if !g.IsValid() {
				return fmt.Errorf("has no [%v]", k)
			}
			if err := sameValue(g, v); err != nil {
				return fmt.Errorf("[%v]: %w", k, err)
			}
		}
	case reflect.Float32, reflect.Float64:
		// Bit for bit: NaNs are equal, zeros of two signs are not.
		if g, w := math.Float64bits(got.Float()), math.Float64bits(want.Float()); g != w {
			return fmt.Errorf("got %v (%x), want %v (%x)", got, g, want, w)
		}
	default:
		if !got.Equal(want) {
			return fmt.Errorf("got %v, want %v", got, want)
		}
	}
	return nil
}

// manyEntries reports whether m has a map of several entries, which are
// encoded in any order.
func manyEntries(m protoreflect.Message) bool {
	many := false
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			many = v.Map().Len() > 1
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					many = many || manyEntries(v.Message())
					return !many
				})
			}
		case fd.Message() == nil:
		case fd.IsList():
			for i := 0; i < v.List().Len() && !many; i++ {
				many = manyEntries(v.List().Get(i).Message())
			}
		default:
			many = manyEntries(v.Message())
		}
		return !many
	})
	return many
}
