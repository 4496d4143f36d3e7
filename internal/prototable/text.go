package prototable

import (
	"encoding/binary"
	"unicode/utf8"
	"unsafe"
)

// everyByte has one in each of eight bytes.
const everyByte = 0x0101010101010101

// highBits has the bit of each of eight bytes that no byte of ASCII has.
const highBits = 0x80 * everyByte

// validString reports whether s is UTF-8. Most strings are short, and ASCII.
func validString(s string) bool {
	return valid(unsafe.Slice(unsafe.StringData(s), len(s)))
}

// valid reports whether s is UTF-8.
func valid(s []byte) bool {
	var bits uint64
	if len(s) >= 8 {
		for i := 0; i < len(s)-8; i += 8 {
			bits |= binary.LittleEndian.Uint64(s[i:])
		}
		bits |= binary.LittleEndian.Uint64(s[len(s)-8:])
	} else {
		for _, b := range s {
			bits |= uint64(b)
		}
	}
	return bits&highBits == 0 || utf8.Valid(s)
}

// shortASCII reports whether the n bytes at p are ASCII, and between 8 and 32, as those of most strings. It
// looks at some of them twice, and needs no loop.
func shortASCII(p unsafe.Pointer, n int) bool {
	if n < 8 || n > 32 {
		return false
	}
	bits := word(p, 0) | word(p, n-8)
	if n > 16 {
		bits |= word(p, 8) | word(p, n-16)
	}
	return bits&highBits == 0
}

// word returns the eight bytes at off in what p points to, in an order of no matter.
func word(p unsafe.Pointer, off int) uint64 {
	return binary.LittleEndian.Uint64((*[8]byte)(unsafe.Add(p, off))[:])
}
