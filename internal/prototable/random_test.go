package prototable_test

import (
	"math"
	"math/rand/v2"
	"reflect"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// random fills messages. odd says which oddities they may have.
type random struct {
	*rand.Rand
	odd oddities
}

type oddities struct {
	text    bool // strings that are not valid UTF-8
	nils    bool // nil messages in lists, empty bytes that are not nil
	unknown bool // unknown fields
}

// message returns a message of typ's type; half of them are rather full.
func (r random) message(typ proto.Message) proto.Message {
	m := fresh(typ)
	r.fill(m.ProtoReflect(), 3, r.Float64())
	if r.odd.nils {
		r.nils(reflect.ValueOf(m))
	}
	return m
}

// fill sets a share of m's fields, with messages up to that depth.
func (r random) fill(m protoreflect.Message, depth int, share float64) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if r.Float64() > share || fd.Message() != nil && depth == 0 {
			continue
		}
		switch {
		case fd.IsMap():
			// One entry: several are encoded in any order.
			entries := m.Mutable(fd).Map()
			key := r.value(fd.MapKey(), nil, depth, share).MapKey()
			entries.Set(key, r.value(fd.MapValue(), entries.NewValue, depth, share))
		case fd.IsList():
			list := m.Mutable(fd).List()
			for range r.IntN(4) {
				list.Append(r.value(fd, list.NewElement, depth, share))
			}
		default:
			m.Set(fd, r.value(fd, func() protoreflect.Value { return m.NewField(fd) }, depth, share))
		}
	}
	if r.odd.unknown && r.IntN(3) == 0 {
		m.SetUnknown(r.unknown(m.Descriptor()))
	}
}

// value returns a value for the field, or for an element of it.
func (r random) value(fd protoreflect.FieldDescriptor, empty func() protoreflect.Value, depth int, share float64) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(r.IntN(2) == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(r.bits()))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(r.bits()))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(int64(r.bits()))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(r.bits()))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(r.bits())
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(r.float()))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(r.float())
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(r.text())
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(r.text()))
	case protoreflect.MessageKind, protoreflect.GroupKind:
		v := empty()
		r.fill(v.Message(), depth-1, share)
		return v
	}
	panic("no such kind: " + fd.Kind().String())
}

// bits returns numbers of all lengths, of both signs, and the outermost ones.
func (r random) bits() uint64 {
	switch r.IntN(8) {
	case 0:
		return 0
	case 1:
		return uint64(r.Int64N(3) - 1)
	case 2:
		return []uint64{math.MaxInt32, 1 << 31, math.MaxUint32, math.MaxInt64, 1 << 63, math.MaxUint64}[r.IntN(6)]
	}
	v := r.Uint64() >> r.IntN(64)
	if r.IntN(4) == 0 {
		v = -v
	}
	return v
}

func (r random) float() float64 {
	special := []float64{0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.NaN(), math.MaxFloat32, 1}
	if i := r.IntN(2 * len(special)); i < len(special) {
		return special[i]
	}
	return r.NormFloat64()
}

// text is mostly short, sometimes of a length at which something changes, and
// rarely long.
func (r random) text() string {
	n := r.IntN(20)
	switch r.IntN(12) {
	case 0:
		n = 0
	case 1:
		n = []int{62, 63, 64, 65, 66, 127, 128, 129}[r.IntN(8)]
	case 2:
		n = r.IntN(300)
	}
	var b strings.Builder
	for b.Len() < n {
		b.WriteString([]string{"a", "b", "\x00", "é", "世", "\U0001f600"}[r.IntN(6)])
	}
	if r.odd.text && r.IntN(8) == 0 {
		b.WriteString([]string{"\xff", "\xc3", "\xed\xa0\x80", "\xc0\x80"}[r.IntN(4)])
	}
	return b.String()
}

// unknown returns fields that a message of the type does not know, and ones
// that it knows with another type.
func (r random) unknown(d protoreflect.MessageDescriptor) []byte {
	var b []byte
	for range 1 + r.IntN(3) {
		num := protowire.Number(1 + r.IntN(1<<r.IntN(29)))
		if r.IntN(4) == 0 {
			num = protowire.MaxValidNumber
		}
		if fd := d.Fields().ByNumber(num); fd == nil || fd.Message() == nil && !fd.IsList() && fd.Kind() != protoreflect.StringKind {
			b = r.field(b, num, 2)
		}
	}
	return b
}

// field appends a field of any wire type.
func (r random) field(b []byte, num protowire.Number, depth int) []byte {
	wire := []protowire.Type{
		protowire.VarintType, protowire.Fixed64Type, protowire.BytesType, protowire.Fixed32Type, protowire.StartGroupType,
	}[r.IntN(5)]
	b = protowire.AppendTag(b, num, wire)
	switch wire {
	case protowire.VarintType:
		return protowire.AppendVarint(b, r.bits())
	case protowire.Fixed32Type:
		return protowire.AppendFixed32(b, uint32(r.bits()))
	case protowire.Fixed64Type:
		return protowire.AppendFixed64(b, r.bits())
	case protowire.BytesType:
		return protowire.AppendString(b, r.text())
	default:
		for range r.IntN(3) {
			if depth > 0 {
				b = r.field(b, protowire.Number(1+r.IntN(20)), depth-1)
			}
		}
		return protowire.AppendTag(b, num, protowire.EndGroupType)
	}
}

// nils puts in what reflection over messages never makes, and programs do:
// nil messages in lists and oneofs, nil cases of oneofs, nil and empty slices.
func (r random) nils(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			r.nils(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				continue
			}
			f := v.Field(i)
			switch {
			case f.Kind() == reflect.Interface && !f.IsNil() && r.IntN(6) == 0:
				if r.IntN(2) == 0 {
					f.Set(reflect.Zero(f.Elem().Type()))
				} else {
					f.Elem().Elem().Field(0).SetZero()
				}
			case f.Kind() == reflect.Slice && f.Len() == 0:
				if r.IntN(2) == 0 {
					f.Set(reflect.MakeSlice(f.Type(), 0, r.IntN(2)))
				}
			default:
				r.nils(f)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			e := v.Index(i)
			if (e.Kind() == reflect.Pointer || e.Kind() == reflect.Slice) && r.IntN(6) == 0 {
				e.SetZero()
			} else {
				r.nils(e)
			}
		}
	default: // nothing to take away
	}
}
