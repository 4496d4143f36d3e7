package idempotency

import (
	"cmp"
	"crypto/sha256"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/hull-go/hull/status"
)

// Fingerprint tells requests apart: the same key with another request is a mistake.
type Fingerprint [sha256.Size]byte

// What is hashed first: how fingerprints are made, which is counted up when it changes, and of what.
const (
	ofProto = "hull fingerprint 2, proto\x00"
	ofJSON  = "hull fingerprint 2, json\x00"
	ofBytes = "hull fingerprint 2, bytes\x00"
)

// FingerprintOf returns the fingerprint of a message: the same for equal protobuf messages, Go values with the same JSON, and equal bytes.
//
// While a service is updated its nodes know different versions of a message, and a call that is repeated reaches both. Of a Go struct, fields that have their
// zero value are left out, since a version without such a field would have none; a pointer to a zero value is not one. A protobuf message counts with its
// fields that are not known, as they were sent. A JSON field that is set and that a node does not know is lost when the request is decoded: there it is another request.
func FingerprintOf(v any) (Fingerprint, error) {
	var b []byte
	var err error
	of := ofBytes
	switch v := v.(type) {
	case proto.Message:
		of = ofProto
		if b, err = (proto.MarshalOptions{Deterministic: true}).Marshal(v); err == nil {
			b = inOrder(b, v.ProtoReflect().Descriptor())
		}
	case []byte:
		b = v
	case *[]byte:
		b = *v
	default:
		of = ofJSON
		var told any
		if told, err = setOnly(reflect.ValueOf(v), 0); err == nil {
			b, err = json.Marshal(told)
		}
	}
	if err != nil {
		return Fingerprint{}, refusal(status.InvalidArgument, reasonBadKey, fmt.Sprintf("requests that are a %T cannot have a key: %v", v, err))
	}
	return sha256.Sum256(append([]byte(of), b...)), nil
}

// inOrder sorts the fields of an encoded message by number, those that are not known too, which come last otherwise; and so in the messages inside. What is
// repeated stays in its order.
func inOrder(b []byte, of protoreflect.MessageDescriptor) []byte {
	type field struct {
		number protowire.Number
		raw    []byte
	}
	var fields []field
	for rest := b; len(rest) > 0; {
		number, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return b
		}
		size := protowire.ConsumeFieldValue(number, kind, rest[n:])
		if size < 0 {
			return b
		}
		raw := rest[:n+size]
		if fd := of.Fields().ByNumber(number); fd != nil && fd.Message() != nil {
			switch kind {
			case protowire.BytesType:
				inner, _ := protowire.ConsumeBytes(rest[n:])
				raw = protowire.AppendBytes(slices.Clip(rest[:n]), inOrder(inner, fd.Message()))
			case protowire.StartGroupType:
				inner, _ := protowire.ConsumeGroup(number, rest[n:])
				raw = protowire.AppendGroup(slices.Clip(rest[:n]), number, inOrder(inner, fd.Message()))
			}
		}
		fields = append(fields, field{number, raw})
		rest = rest[n+size:]
	}
	slices.SortStableFunc(fields, func(a, b field) int { return cmp.Compare(a.number, b.number) })
	out := make([]byte, 0, len(b))
	for _, f := range fields {
		out = append(out, f.raw...)
	}
	return out
}

// deepest is how many values within values are looked at. encoding/json decodes 10,000 objects within objects, each of which can be behind a pointer.
const deepest = 30_000

var (
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// setOnly returns what encodes to the JSON of v without the fields of structs that have their zero value. What writes its JSON itself stays as it is.
func setOnly(v reflect.Value, depth int) (any, error) {
	if depth > deepest {
		return nil, errors.New("it is nested too deep")
	}
	if !v.IsValid() {
		return nil, nil
	}
	if v.CanAddr() && marshals(v.Addr().Type()) {
		return v.Addr().Interface(), nil
	}
	if marshals(v.Type()) {
		return v.Interface(), nil
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil, nil
		}
		return setOnly(v.Elem(), depth+1)
	case reflect.Struct:
		out := map[string]any{}
		return out, setFields(out, v, depth)
	case reflect.Map:
		if v.IsNil() {
			return nil, nil
		}
		return setMembers(v, depth)
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 || v.Kind() == reflect.Slice && v.IsNil() {
			return v.Interface(), nil
		}
		out := make([]any, v.Len())
		for i := range out {
			var err error
			if out[i], err = setOnly(v.Index(i), depth+1); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return v.Interface(), nil
}

func marshals(t reflect.Type) bool { return t.Implements(jsonMarshaler) || t.Implements(textMarshaler) }

// setFields adds those fields of a struct to out that have another value than zero, under their names in JSON.
func setFields(out map[string]any, v reflect.Value, depth int) error {
	if depth > deepest {
		return errors.New("it is nested too deep")
	}
	own := map[string]any{} // which hide those of embedded structs
	for f, fv := range v.Fields() {
		tag := f.Tag.Get("json")
		name, _, _ := strings.Cut(tag, ",")
		if tag == "-" || fv.IsZero() {
			continue
		}
		if f.Anonymous && name == "" {
			if fv.Kind() == reflect.Pointer {
				fv = fv.Elem()
			}
			if fv.Kind() == reflect.Struct {
				if err := setFields(out, fv, depth+1); err != nil {
					return err
				}
				continue
			}
		}
		if !f.IsExported() {
			continue
		}
		told, err := setOnly(fv, depth+1)
		if err != nil {
			return err
		}
		own[cmp.Or(name, f.Name)] = told
	}
	maps.Copy(out, own)
	return nil
}

// setMembers is setOnly of a map, whose members all count. Its keys are written as encoding/json does.
func setMembers(v reflect.Value, depth int) (any, error) {
	out := reflect.MakeMapWithSize(reflect.MapOf(v.Type().Key(), reflect.TypeFor[any]()), v.Len())
	for it := v.MapRange(); it.Next(); {
		told, err := setOnly(it.Value(), depth+1)
		if err != nil {
			return nil, err
		}
		member := reflect.Zero(reflect.TypeFor[any]())
		if told != nil {
			member = reflect.ValueOf(told)
		}
		out.SetMapIndex(it.Key(), member)
	}
	return out.Interface(), nil
}
