package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// JSON encodes ordinary Go values as [encoding/json] does, and Protocol
// Buffers messages in their canonical JSON form, whose white space is not
// stable from one build of a program to the next.
//
// Fields that the target does not have are ignored, so that an old program
// understands a new one. Empty input is an error, for every target: an empty
// message is {}. Anything after the value is an error too.
type JSON struct{}

var _ Codec = JSON{}

var errNoJSON = errors.New("the input is empty; an empty message is {}")

// Name returns "json".
func (JSON) Name() string { return "json" }

// Append implements [Codec].
func (JSON) Append(dst []byte, v any) ([]byte, error) {
	if m, ok := v.(proto.Message); ok {
		if isNil(v) {
			return dst, fmt.Errorf("codec json: cannot encode a nil %T; pass a message", v)
		}
		b, err := protojson.MarshalOptions{}.MarshalAppend(dst, m)
		if err != nil {
			return dst, fmt.Errorf("codec json: encode %T: %w", v, err)
		}
		return b, nil
	}
	// An Encoder writes straight behind dst, where Marshal would make a copy of
	// its own first.
	buf := bytes.NewBuffer(dst)
	if err := json.NewEncoder(buf).Encode(v); err != nil {
		return dst, fmt.Errorf("codec json: encode %T: %w", v, err)
	}
	b := buf.Bytes()
	return b[:len(b)-1], nil // without the Encoder's newline
}

// Unmarshal implements [Codec].
func (JSON) Unmarshal(data []byte, v any) error {
	target := reflect.ValueOf(v)
	if target.Kind() != reflect.Pointer {
		return fmt.Errorf("codec json: cannot decode into %T; pass a pointer", v)
	}
	if target.IsNil() {
		return fmt.Errorf("codec json: cannot decode into a nil %T; pass a pointer to a value", v)
	}
	if err := unmarshalJSON(data, v, target); err != nil {
		return fmt.Errorf("codec json: decode %d bytes into %T: %w", len(data), v, err)
	}
	return nil
}

// unmarshalJSON decodes data into v, of which target is the reflection.
func unmarshalJSON(data []byte, v any, target reflect.Value) error {
	if len(bytes.TrimLeft(data, " \t\r\n")) == 0 {
		return errNoJSON
	}
	if m, ok := v.(proto.Message); ok {
		return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, m)
	}
	// encoding/json merges into what the target holds; the contract is to
	// replace.
	target.Elem().SetZero()
	return json.Unmarshal(data, v)
}
