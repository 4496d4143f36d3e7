package webfront

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// schema is the part of JSON Schema that is needed to say what a message looks like. The empty one stands for any value.
type schema struct {
	Ref        string             `json:"$ref,omitempty"`
	Type       any                `json:"type,omitempty"` // a name, or several
	Format     string             `json:"format,omitempty"`
	Encoding   string             `json:"contentEncoding,omitempty"`
	Enum       []string           `json:"enum,omitempty"`
	Items      *schema            `json:"items,omitempty"`
	Properties map[string]*schema `json:"properties,omitempty"`
	// Values is what the values of a map look like.
	Values *schema            `json:"additionalProperties,omitempty"`
	Defs   map[string]*schema `json:"$defs,omitempty"`
}

// typeSchema describes a Go type as encoding/json writes it.
func typeSchema(t reflect.Type) *schema {
	b := builder{defs: map[string]*schema{}}
	s := b.goType(t)
	return b.finish(s)
}

// messageSchema describes a protobuf message in its JSON form.
func messageSchema(d protoreflect.MessageDescriptor) *schema {
	b := builder{defs: map[string]*schema{}}
	return b.finish(b.message(d))
}

// builder collects the definitions that a schema refers to: named types, because they can contain themselves.
type builder struct{ defs map[string]*schema }

func (b *builder) finish(s *schema) *schema {
	top := *s
	if len(b.defs) > 0 {
		top.Defs = b.defs
	}
	return &top
}

// define returns a reference to a named type; fill describes it the first time.
func (b *builder) define(name string, fill func(*schema)) *schema {
	if b.defs[name] == nil {
		s := new(schema)
		b.defs[name] = s
		fill(s)
	}
	return &schema{Ref: "#/$defs/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)}
}

func (b *builder) goType(t reflect.Type) *schema {
	switch t {
	case reflect.TypeFor[time.Time]():
		return &schema{Type: "string", Format: "date-time"}
	case reflect.TypeFor[json.RawMessage]():
		return &schema{}
	case reflect.TypeFor[json.Number]():
		return &schema{Type: "number"}
	}
	for _, p := range []reflect.Type{t, reflect.PointerTo(t)} {
		switch {
		case p.Implements(reflect.TypeFor[json.Marshaler]()):
			return &schema{} // only its code knows
		case p.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
			return &schema{Type: "string"}
		}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return b.goType(t.Elem())
	case reflect.Bool:
		return &schema{Type: "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16,
		reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return &schema{Type: "integer"}
	case reflect.Float32, reflect.Float64:
		return &schema{Type: "number"}
	case reflect.String:
		return &schema{Type: "string"}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return &schema{Type: "string", Encoding: "base64"}
		}
		return &schema{Type: "array", Items: b.goType(t.Elem())}
	case reflect.Array:
		return &schema{Type: "array", Items: b.goType(t.Elem())}
	case reflect.Map:
		return &schema{Type: "object", Values: b.goType(t.Elem())}
	case reflect.Struct:
		if t.Name() == "" {
			s := new(schema)
			b.fields(t, s, 0)
			return s
		}
		return b.define(t.String(), func(s *schema) { b.fields(t, s, 0) })
	}
	return &schema{}
}

// maxEmbedded bounds how deep structs are embedded in each other: pointers can make that endless.
const maxEmbedded = 16

// fields describes the fields of a struct; embedded ones become those of the outer one.
func (b *builder) fields(t reflect.Type, s *schema, depth int) {
	s.Type = "object"
	if s.Properties == nil {
		s.Properties = map[string]*schema{}
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		ft := f.Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		switch {
		case name == "-" && opts == "":
		case f.Anonymous && name == "" && ft.Kind() == reflect.Struct:
			if depth < maxEmbedded {
				b.fields(ft, s, depth+1)
			}
		case !f.IsExported():
		default:
			if name == "" {
				name = f.Name
			}
			if opts == "string" {
				s.Properties[name] = &schema{Type: "string"}
				continue
			}
			s.Properties[name] = b.goType(f.Type)
		}
	}
}

func (b *builder) message(d protoreflect.MessageDescriptor) *schema {
	switch d.FullName() {
	case "google.protobuf.Timestamp":
		return &schema{Type: "string", Format: "date-time"}
	case "google.protobuf.Duration", "google.protobuf.FieldMask":
		return &schema{Type: "string"}
	case "google.protobuf.Struct", "google.protobuf.Any":
		return &schema{Type: "object"}
	case "google.protobuf.ListValue":
		return &schema{Type: "array"}
	case "google.protobuf.Value":
		return &schema{}
	case "google.protobuf.BoolValue", "google.protobuf.BytesValue", "google.protobuf.DoubleValue", "google.protobuf.FloatValue",
		"google.protobuf.Int32Value", "google.protobuf.Int64Value", "google.protobuf.StringValue", "google.protobuf.UInt32Value",
		"google.protobuf.UInt64Value":
		return b.single(d.Fields().Get(0))
	}
	return b.define(string(d.FullName()), func(s *schema) {
		s.Type = "object"
		s.Properties = map[string]*schema{}
		for i := range d.Fields().Len() {
			f := d.Fields().Get(i)
			s.Properties[f.JSONName()] = b.field(f)
		}
	})
}

func (b *builder) field(f protoreflect.FieldDescriptor) *schema {
	switch {
	case f.IsMap():
		return &schema{Type: "object", Values: b.single(f.MapValue())}
	case f.IsList():
		return &schema{Type: "array", Items: b.single(f)}
	}
	return b.single(f)
}

// single describes one value of a field.
func (b *builder) single(f protoreflect.FieldDescriptor) *schema {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return &schema{Type: "boolean"}
	case protoreflect.StringKind:
		return &schema{Type: "string"}
	case protoreflect.BytesKind:
		return &schema{Type: "string", Encoding: "base64"}
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		return &schema{Type: []string{"number", "string"}} // "NaN", "Infinity"
	case protoreflect.Int64Kind, protoreflect.Uint64Kind, protoreflect.Sint64Kind, protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind:
		return &schema{Type: []string{"string", "integer"}} // written as a string, because JavaScript's numbers are too small
	case protoreflect.EnumKind:
		if f.Enum().FullName() == "google.protobuf.NullValue" {
			return &schema{Type: "null"}
		}
		s := &schema{Type: "string"}
		for i := range f.Enum().Values().Len() {
			s.Enum = append(s.Enum, string(f.Enum().Values().Get(i).Name()))
		}
		return s
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return b.message(f.Message())
	}
	return &schema{Type: "integer"}
}
