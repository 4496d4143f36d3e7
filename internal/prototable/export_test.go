package prototable

import "errors"

// For returns the table of v's type, or nil if it has none.
func For(v any) *table { return tableFor(v) }

var errOther = errors.New("left to others")

// Encode is Append where nobody else encodes.
func Encode(dst []byte, v any) (_ []byte, ok bool) {
	b, err := Append(dst, v, func(dst []byte, _ any) ([]byte, error) { return dst, errOther })
	return b, err == nil
}

// Decode is Unmarshal where nobody else decodes.
func Decode(data []byte, v any) (ok bool) {
	return Unmarshal(data, v, func([]byte, any) error { return errOther }) == nil
}
