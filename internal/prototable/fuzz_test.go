package prototable_test

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/internal/prototable"
)

// FuzzUnmarshal decodes whatever comes as a message of every type, and encodes
// it again: the table does as package proto, or leaves it alone.
func FuzzUnmarshal(f *testing.F) {
	types := slices.Concat(eligible(), perhaps())
	tables := make([]*prototable.Table, len(types))
	r := seeded(f, 9, oddities{unknown: true})
	for i, typ := range types {
		tables[i] = prototable.For(typ)
		for range 2 {
			if data, err := proto.Marshal(r.message(typ)); err == nil && len(data) < 1000 {
				f.Add(data)
			}
		}
	}
	for _, m := range messages() {
		if data, err := proto.Marshal(m); err == nil && len(data) < 1000 {
			f.Add(data)
		}
	}
	f.Add([]byte("\x1a\x02\x01\x80\x01"))
	f.Add([]byte("\x8a\x80\x00\x01a\x7b\x08\x01\xfc\x00\x0a\x81\x00b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for i, typ := range types {
			table := tables[i]
			if table == nil {
				continue
			}
			if ok, _ := checkUnmarshal(t, table, typ, data); !ok {
				continue
			}
			m := fresh(typ)
			if !table.Unmarshal(data, m) {
				t.Fatalf("%T decodes %x once only", typ, data)
			}
			if !manyEntries(m.ProtoReflect()) {
				checkAppend(t, table, m)
			}
		}
	})
}
