package prototable

import (
	"encoding/binary"
	"unicode/utf8"
	"unsafe"
)

// everyByte has one in each of eight bytes.
const everyByte = 0x0101010101010101

// validString reports whether s is UTF-8. Most strings are short, and ASCII.
func validString(s string) bool {
	return valid(unsafe.Slice(unsafe.StringData(s), len(s)))
}

// valid reports whether s is UTF-8.
func valid(s []byte) bool {
	const high = 0x80 * everyByte
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
	return bits&high == 0 || utf8.Valid(s)
}
