package prototable_test

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/internal/prototable"
)

// However much room a buffer has, what is encoded is the same, and nothing is written behind it.
func TestRoom(t *testing.T) {
	const prefix, guard = 3, 40
	r := seeded(t, 11, oddities{unknown: true})
	eachTable(t, func(t *testing.T, typ proto.Message) {
		for range 20 {
			data := encoded(t, r, typ, 100)
			m := fresh(typ)
			if err := proto.Unmarshal(data, m); err != nil {
				t.Fatal(err)
			}
			if manyEntries(m.ProtoReflect()) {
				continue
			}
			want, err := proto.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			for room := range len(want) + guard {
				whole := bytes.Repeat([]byte{0xa5}, prefix+room+guard)
				got, ok := prototable.Encode(whole[:prefix:prefix+room], m)
				if !ok || !bytes.Equal(got[prefix:], want) || !bytes.Equal(got[:prefix], whole[:prefix]) {
					t.Fatalf("%v with room for %d encodes to %x, %v; want %x", m, room, got, ok, want)
				}
				if !bytes.Equal(whole[prefix+room:], bytes.Repeat([]byte{0xa5}, guard)) {
					t.Fatalf("%v with room for %d is written to %x", m, room, whole)
				}
			}
		}
	})
}
