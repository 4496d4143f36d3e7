// Package varint reads unsigned varints, as package encoding/binary and Protocol Buffers have them, in few steps.
package varint

import (
	"encoding/binary"
	"math/bits"
)

// everyByte has one in each of eight bytes.
const everyByte = 0x0101010101010101

// Read decodes the varint at b[i], of which i may be at most the length. It returns where the next thing begins, or -1 if b ends too early or the
// number has more than 64 bits. With eight bytes left, as nearly always, one of up to eight is put together without a loop; one of a single byte
// is worth a look before Read is called.
func Read(b []byte, i int) (v uint64, next int) {
	if i <= len(b)-8 {
		w := binary.LittleEndian.Uint64(b[i:])
		if last := ^w & (0x80 * everyByte); last != 0 {
			n := bits.TrailingZeros64(last) // of its last byte the highest bit
			w &= 1<<n - 1
			w = w&(0x7f*0x0001_0001_0001_0001) | w>>1&(0x7f*0x0001_0001_0001_0001<<7)
			w = w&(0x3fff*0x0000_0001_0000_0001) | w>>2&(0x3fff*0x0000_0001_0000_0001<<14)
			w = w&0xfff_ffff | w>>4&(0xfff_ffff<<28)
			return w, i + n/8 + 1
		}
	}
	v, n := binary.Uvarint(b[i:])
	if n <= 0 {
		return 0, -1
	}
	return v, i + n
}
