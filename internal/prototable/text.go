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

// Most strings are this long, and looked at in whole words, and copied so, without a loop.
const (
	minShort = 8
	maxShort = 32
)

// shortASCII reports whether the n bytes at p are ASCII, and as many as of a short string.
func shortASCII(p unsafe.Pointer, n int) bool {
	if n < minShort || n > maxShort {
		return false
	}
	bits := word(p, 0) | word(p, n-8) // which may be the same in part
	if n > 16 {
		bits |= word(p, 8) | word(p, n-16)
	}
	return bits&highBits == 0
}

// copyEnds copies the first and the last eight of n bytes, which may be the same in part, and returns all bits that
// any of them has.
func copyEnds(to, from unsafe.Pointer, n int) uint64 {
	first, last := word(from, 0), word(from, n-8)
	putWord(to, 0, first)
	putWord(to, n-8, last)
	return first | last
}

// word returns the eight bytes at off in what p points to, of which the first is the lowest.
func word(p unsafe.Pointer, off int) uint64 {
	return binary.LittleEndian.Uint64((*[8]byte)(unsafe.Add(p, off))[:])
}

// putWord writes them.
func putWord(p unsafe.Pointer, off int, w uint64) {
	binary.LittleEndian.PutUint64((*[8]byte)(unsafe.Add(p, off))[:], w)
}
