package prototable

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// Varints of every length, and longer than they need be, with more and less behind them, are what package binary takes them for.
func TestVarint(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	check := func(data []byte) {
		t.Helper()
		want, n := binary.Uvarint(data[1:])
		next := 1 + n
		if n <= 0 {
			want, next = 0, -1
		}
		if v, i := varint(data, 1); v != want || i != next {
			t.Fatalf("varint(%x, 1) = %#x, %d, want %#x, %d", data, v, i, want, next)
		}
	}
	for bits := range 65 {
		for range 50 {
			v := rnd.Uint64() >> min(64-bits, 63)
			whole := binary.AppendUvarint([]byte{0xff}, v)
			for padding := range 3 {
				data := bytes.Clone(whole)
				for range padding {
					data[len(data)-1] |= 0x80
					data = append(data, 0)
				}
				for tail := range 10 {
					check(append(bytes.Clone(data), bytes.Repeat([]byte{byte(rnd.Uint32())}, tail)...))
				}
				for cut := 1; cut < len(data); cut++ {
					check(data[:cut])
				}
			}
		}
	}
}

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
