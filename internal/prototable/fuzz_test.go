package prototable_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/internal/prototable"
)

// FuzzUnmarshal decodes whatever comes as a message of one of the types, and
// encodes it again: the table does as package proto, or leaves it alone. It is
// one type at a time, so that the fuzzer sees what each byte changes.
func FuzzUnmarshal(f *testing.F) {
	types := withTable(f)
	add := func(of proto.Message, data []byte) {
		for i, typ := range types {
			if typ.ProtoReflect().Type() == of.ProtoReflect().Type() {
				f.Add(uint8(i), data)
			}
		}
	}
	r := seeded(f, 9, oddities{unknown: true})
	for _, typ := range types {
		for range 2 {
			if data, err := proto.Marshal(r.message(typ)); err == nil && len(data) < 1000 {
				add(typ, data)
			}
		}
	}
	for _, m := range messages() {
		if data, err := proto.Marshal(m); err == nil && len(data) < 1000 {
			add(m, data)
		}
	}
	for i := range types {
		f.Add(uint8(i), []byte("\x1a\x02\x01\x80\x01"))
		f.Add(uint8(i), []byte("\x8a\x80\x00\x01a\x7b\x08\x01\xfc\x00\x0a\x81\x00b"))
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		typ := types[int(which)%len(types)]
		if ok, _ := checkUnmarshal(t, typ, data); !ok {
			return
		}
		m := fresh(typ)
		if !prototable.Decode(data, m) {
			t.Fatalf("%T decodes %x once only", typ, data)
		}
		if !manyEntries(m.ProtoReflect()) {
			checkAppend(t, m)
		}
	})
}
