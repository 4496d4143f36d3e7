package prototable

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// What is put together in whole words is what package binary writes.
func TestPutVarint(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	check := func(v uint64) {
		t.Helper()
		b := append(make([]byte, 0, 1+room), 0xff)
		if got, want := upTo(b, putVarint(tail(b), v)), binary.AppendUvarint([]byte{0xff}, v); !bytes.Equal(got, want) {
			t.Fatalf("putVarint(%#x) writes %x, want %x", v, got, want)
		}
	}
	for size := range 65 {
		for range 50 {
			v := rnd.Uint64()>>1 | 1<<63
			v >>= min(64-size, 63)
			check(v)
		}
	}
	check(0)
}
