package codec

import (
	"fmt"
	"reflect"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/internal/prototable"
)

// Proto encodes Protocol Buffers messages in their binary form. Every v is a
// non-nil [proto.Message].
//
// Messages are encoded and decoded as package proto does it, to the byte, but
// in less time: those of generated types by tables of where their fields lie.
// Package proto itself is left with those that have maps, groups or the opaque
// API, also where they lie in others, and with those that have extensions or
// required fields anywhere inside. A decoded message's strings and bytes of up to 64 bytes
// share their memory with their neighbours: who keeps one of them keeps 128
// bytes at most.
//
// A message that has generated methods of its own, SizeVT with
// MarshalToSizedBufferVT for encoding and UnmarshalVT for decoding, as the
// vtprotobuf generator makes them, is encoded and decoded with those. Such a
// type need not implement proto.Message.
type Proto struct{}

var _ Codec = Proto{}

// vtMarshaler is what the vtprotobuf generator gives a message for encoding.
// MarshalToSizedBufferVT fills its argument from the end and reports how many
// bytes it wrote.
type vtMarshaler interface {
	SizeVT() int
	MarshalToSizedBufferVT(b []byte) (int, error)
}

// vtUnmarshaler is what the same generator gives a message for decoding.
// UnmarshalVT merges into the message.
type vtUnmarshaler interface {
	UnmarshalVT(b []byte) error
}

// Name returns "proto".
func (Proto) Name() string { return "proto" }

// Append implements [Codec].
func (Proto) Append(dst []byte, v any) ([]byte, error) {
	return prototable.Append(dst, v, appendOther)
}

// Unmarshal implements [Codec].
func (Proto) Unmarshal(data []byte, v any) error {
	return prototable.Unmarshal(data, v, unmarshalOther)
}

// appendOther is Append for what tables do not encode.
func appendOther(dst []byte, v any) ([]byte, error) {
	if m, ok := v.(vtMarshaler); ok {
		return appendVT(dst, m)
	}
	m, ok := v.(proto.Message)
	if !ok {
		return dst, fmt.Errorf("codec proto: cannot encode %T; pass a proto.Message", v)
	}
	// A nil pointer would encode as an empty message: the caller forgot to make
	// one, and the other side would never know.
	if isNil(v) {
		return dst, fmt.Errorf("codec proto: cannot encode a nil %T; pass a message", v)
	}
	b, err := proto.MarshalOptions{}.MarshalAppend(dst, m)
	if err != nil {
		return dst, fmt.Errorf("codec proto: encode %T: %w", v, err)
	}
	return b, nil
}

// unmarshalOther is Unmarshal for what tables do not decode.
func unmarshalOther(data []byte, v any) error {
	if isNil(v) {
		return fmt.Errorf("codec proto: cannot decode into a nil %T; pass a message", v)
	}
	if fast, ok := v.(vtUnmarshaler); ok {
		// UnmarshalVT merges; the contract is to replace.
		if r, ok := v.(interface{ Reset() }); ok {
			r.Reset()
		}
		if err := fast.UnmarshalVT(data); err != nil {
			return fmt.Errorf("codec proto: decode %d bytes into %T: %w", len(data), v, err)
		}
		return nil
	}
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("codec proto: cannot decode into %T; pass a proto.Message", v)
	}
	if err := proto.Unmarshal(data, m); err != nil {
		return fmt.Errorf("codec proto: decode %d bytes into %T: %w", len(data), v, err)
	}
	return nil
}

// appendVT encodes m with its own methods.
func appendVT(dst []byte, m vtMarshaler) ([]byte, error) {
	if isNil(m) {
		return dst, fmt.Errorf("codec proto: cannot encode a nil %T; pass a message", m)
	}
	size := m.SizeVT()
	out := slices.Grow(dst, size)[:len(dst)+size]
	n, err := m.MarshalToSizedBufferVT(out[len(dst):])
	if err != nil {
		return dst, fmt.Errorf("codec proto: encode %T: %w", m, err)
	}
	// A message that changed while it was encoded can come out shorter than it
	// said; what came out lies at the end of the space.
	if n != size {
		return dst, fmt.Errorf("codec proto: encode %T: it said %d bytes and wrote %d; do not change a message while it is being sent", m, size, n)
	}
	return out, nil
}

// isNil reports whether v is nil or holds a nil pointer.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Pointer && r.IsNil()
}
