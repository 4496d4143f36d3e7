package muxtransport

import (
	"encoding/hex"

	"github.com/hull-go/hull/transport"
)

// Trace context travels as a field of its own, in half as many bytes as the header traceparent of W3C Trace Context takes; to
// both ends it is metadata like any other. Only version 00, written as the standard wants it, is the same again afterwards:
// whatever else is under that name stays as it is.
const (
	traceKey = "traceparent"
	// traceText is the size of "00-" trace id "-" parent id "-" flags, traceSize that of the three as bytes.
	traceText = 55
	traceSize = 16 + 8 + 1
)

// findTrace returns the place of m's trace context, counted from 1; 0 = there is none, or it cannot be a field of its own.
func findTrace(m transport.Metadata) (place int) {
	for i := range m {
		if m[i].Key != traceKey {
			continue
		}
		if place != 0 || !isTrace(m[i].Value) {
			return 0
		}
		place = i + 1
	}
	return place
}

func isTrace(v string) bool {
	if len(v) != traceText || v[:3] != "00-" || v[35] != '-' || v[52] != '-' {
		return false
	}
	for i := 3; i < traceText; i++ {
		if c := v[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') && i != 35 && i != 52 {
			return false
		}
	}
	return true
}

// appendTrace appends v, for which isTrace is true.
func appendTrace(b []byte, v string) []byte {
	digit := func(c byte) byte {
		if c >= 'a' {
			return c - 'a' + 10
		}
		return c - '0'
	}
	for i := 3; i < traceText; i += 2 {
		if v[i] == '-' {
			i++
		}
		b = append(b, digit(v[i])<<4|digit(v[i+1]))
	}
	return b
}

// traceString is what appendTrace was given.
func traceString(b []byte) string {
	t := make([]byte, 0, traceText)
	t = append(t, "00-"...)
	t = hex.AppendEncode(t, b[:16])
	t = append(t, '-')
	t = hex.AppendEncode(t, b[16:24])
	t = append(t, '-')
	return string(hex.AppendEncode(t, b[24:traceSize]))
}
