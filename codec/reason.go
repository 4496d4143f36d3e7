package codec

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// Reason says why a message does not decode to the one who sent it, who knows
// nothing of the Go types on the other side: err is what a Codec's Unmarshal
// returned. Of JSON it says where, what came, and what was expected.
func Reason(err error) string {
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		at := fmt.Sprintf("at byte %d", t.Offset)
		if t.Field != "" {
			at = fmt.Sprintf("at %q", t.Field)
		}
		return fmt.Sprintf("%s: expected %s, got %s", at, expected(t.Type), article(t.Value))
	}
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("at byte %d: %v", s.Offset, s)
	}
	// The codecs of this package say which Go type they decode into, and wrap
	// the reason.
	if inner := errors.Unwrap(err); inner != nil && strings.HasPrefix(err.Error(), "codec ") {
		return inner.Error()
	}
	return err.Error()
}

// expected names what JSON has for a Go type.
func expected(t reflect.Type) string {
	if t == nil {
		return "something else"
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Sprintf("an integer of %d bits", t.Bits())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return fmt.Sprintf("an integer of %d bits that is not negative", t.Bits())
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "a string in base64"
		}
		return "an array"
	case reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	default:
		return "something else"
	}
}

// article puts one before what encoding/json says that it found.
func article(value string) string {
	switch {
	case value == "":
		return "nothing"
	case value == "bool":
		return "true or false"
	case value == "array", value == "object":
		return "an " + value
	case strings.HasPrefix(value, "number "): // and which
		return strings.TrimPrefix(value, "number ")
	}
	return "a " + value
}
