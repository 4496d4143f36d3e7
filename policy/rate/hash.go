package rate

import "math/bits"

// Odd constants with about as many ones as zeroes: the fractional parts of √2, √3 and √5.
const (
	salt1 = 0x6a09e667f3bcc909
	salt2 = 0xbb67ae8584caa73b
	salt3 = 0x3c6ef372fe94f82b
)

// fold multiplies to 128 bits and adds up the halves without carry: each bit of both arguments reaches all bits of the result.
func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

func hashNumber(seed, v uint64) uint64 {
	return fold(fold(v^seed^salt1, seed|1)^salt2, salt3)
}

func hashString(seed uint64, s string) uint64 {
	h := seed ^ uint64(len(s))*salt3
	for len(s) >= 16 {
		h = fold(word(s)^h^salt1, word(s[8:])^h^salt2)
		s = s[16:]
	}
	var a, b uint64
	switch {
	case len(s) >= 8:
		a, b = word(s), word(s[len(s)-8:])
	default:
		for i := range len(s) {
			a = a<<8 | uint64(s[i])
		}
	}
	return fold(fold(a^h^salt1, b^seed^salt2)^h, salt3)
}

// word is the first 8 bytes of s. The compiler makes one load of it.
func word(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}
