package codec

import (
	"errors"
	"fmt"
)

// Bytes passes bytes through unchanged. It encodes []byte and *[]byte and
// decodes into *[]byte, whose capacity it reuses; an empty payload decodes to
// an empty slice, which is nil if the target was nil.
type Bytes struct{}

var _ Codec = Bytes{}

// Name returns "bytes".
func (Bytes) Name() string { return "bytes" }

// Append implements [Codec].
func (Bytes) Append(dst []byte, v any) ([]byte, error) {
	switch b := v.(type) {
	case []byte:
		return append(dst, b...), nil
	case *[]byte:
		if b == nil {
			return dst, errors.New("codec bytes: cannot encode a nil *[]byte; pass a []byte, nil or not")
		}
		return append(dst, *b...), nil
	}
	return dst, fmt.Errorf("codec bytes: cannot encode %T; pass a []byte or *[]byte", v)
}

// Unmarshal implements [Codec].
func (Bytes) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("codec bytes: cannot decode into %T; pass a *[]byte", v)
	}
	if b == nil {
		return errors.New("codec bytes: cannot decode into a nil *[]byte; pass the address of a slice")
	}
	*b = append((*b)[:0], data...)
	return nil
}
