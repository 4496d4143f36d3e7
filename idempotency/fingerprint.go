package idempotency

import (
	"cmp"
	"crypto/sha256"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
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
	var parts []part
	var err error
	of := ofBytes
	switch v := v.(type) {
	case proto.Message:
		of = ofProto
		if b, err = (proto.MarshalOptions{Deterministic: true}).Marshal(v); err == nil {
			parts, _ = inOrder(b, v.ProtoReflect().Descriptor(), 0, 1)
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
	h := sha256.New()
	h.Write([]byte(of))
	if parts == nil {
		h.Write(b)
	}
	writeParts(h, parts)
	return Fingerprint(h.Sum(nil)), nil
}

// deepestMessage is how many messages within messages are put in order: as many as protobuf decodes.
const deepestMessage = protowire.DefaultRecursionLimit

// part is a field of an encoded message, or some that follow each other and have the same number.
type part struct {
	number protowire.Number
	raw    []byte
	in     *inside // nil: raw counts as it is
}

// inside is a message whose fields are not in order, or those of a message inside: raw[from:to] of its part.
type inside struct {
	parts    []part
	from, to int
}

// inOrder sorts the fields of an encoded message by number, those that are not known too, which come last otherwise; and so in the messages inside. What is
// repeated stays in its order. It returns no parts for a message that is in order, or is none, and how long the message is: all of b, or for a group what comes before
// its end, and -1 for what is none. It looks at each field once and copies nothing, however deep the fields lie.
func inOrder(b []byte, of protoreflect.MessageDescriptor, group protowire.Number, depth int) (parts []part, size int) {
	asIs, last := true, protowire.Number(0)
	for size < len(b) {
		rest := b[size:]
		number, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return nil, -1
		}
		if kind == protowire.EndGroupType {
			if number != group {
				return nil, -1
			}
			break
		}
		var in *inside
		fd := of.Fields().ByNumber(number)
		switch holds := fd != nil && fd.Message() != nil && depth < deepestMessage; {
		case holds && kind == protowire.BytesType:
			inner, m := protowire.ConsumeBytes(rest[n:])
			if m < 0 {
				return nil, -1
			}
			n += m
			if ps, _ := inOrder(inner, fd.Message(), 0, depth+1); ps != nil {
				in = &inside{ps, n - len(inner), n}
			}
		case holds && kind == protowire.StartGroupType:
			ps, m := inOrder(rest[n:], fd.Message(), number, depth+1)
			if m < 0 {
				return nil, -1
			}
			if ps != nil {
				in = &inside{ps, n, n + m}
			}
			_, _, end := protowire.ConsumeTag(rest[n+m:])
			if end < 0 {
				return nil, -1
			}
			n += m + end
		default:
			m := protowire.ConsumeFieldValue(number, kind, rest[n:])
			if m < 0 {
				return nil, -1
			}
			n += m
		}
		if k := len(parts) - 1; k >= 0 && number == last && in == nil && parts[k].in == nil {
			parts[k].raw = parts[k].raw[:len(parts[k].raw)+n]
		} else {
			parts = append(parts, part{number, rest[:n], in})
		}
		asIs = asIs && number >= last && in == nil
		last = number
		size += n
	}
	if asIs {
		return nil, size
	}
	slices.SortStableFunc(parts, func(a, b part) int { return cmp.Compare(a.number, b.number) })
	return parts, size
}

// writeParts writes the parts one after the other, each byte once.
func writeParts(h hash.Hash, parts []part) {
	for _, p := range parts {
		if p.in == nil {
			h.Write(p.raw)
			continue
		}
		h.Write(p.raw[:p.in.from])
		writeParts(h, p.in.parts)
		h.Write(p.raw[p.in.to:])
	}
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
