package prototable

import (
	"cmp"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/runtime/protoimpl"
)

// tableOf makes the table of a type of messages, or nil if there can be none.
func tableOf(typ reflect.Type) *table {
	b := make(builder)
	b.add(typ)
	// Only now is it known which types have one: they contain each other.
	for _, t := range b {
		if t == nil {
			continue
		}
		for _, f := range t.fields[:len(t.fields)-1] {
			if f.kind == kindMessage {
				f.more.sub.table = b[reflect.PointerTo(f.more.sub.typ)]
			}
		}
	}
	return b[typ]
}

// A builder makes the tables of a type and of the types of its fields, by the types of pointers to
// them. What is asked for later has tables of its own for the same types; there is little to share.
type builder map[reflect.Type]*table

// add adds the table of a type and those of its fields, nil for types that can have none.
func (b builder) add(typ reflect.Type) {
	if _, ok := b[typ]; ok {
		return
	}
	b[typ] = nil // while its fields are looked at, which may be of this type
	if !generated(typ) {
		return
	}
	m, ok := reflect.New(typ.Elem()).Interface().(proto.Message)
	if !ok {
		return
	}
	// What protoc-gen-go generates says so; other messages code themselves as they like.
	r, ok := m.ProtoReflect().(interface{ ProtoMessageInfo() *protoimpl.MessageInfo })
	if !ok {
		return
	}
	// So do those with methods of their own.
	switch m.(type) {
	case interface{ SizeVT() int }, interface{ UnmarshalVT([]byte) error }:
		return
	}
	info := r.ProtoMessageInfo()
	if info == nil || info.GoReflectType != typ || !complete(info.Desc, make(map[protoreflect.FullName]bool)) {
		return
	}
	l, ok := layoutOf(typ.Elem(), info)
	if !ok {
		return
	}
	t := &table{words: typ.Elem().Size() / wordSize, unknown: l.unknown}
	if b.fill(t, info.Desc, l) {
		b[typ] = t
	}
}

// generated reports whether the type is a pointer to a struct as protoc-gen-go makes them. What wraps such a message may not be able
// to say what it is while there is none inside.
func generated(typ reflect.Type) bool {
	if typ.Kind() != reflect.Pointer || typ.Elem().Kind() != reflect.Struct {
		return false
	}
	state, ok := typ.Elem().FieldByName("state")
	return ok && len(state.Index) == 1 && state.Type == reflect.TypeFor[protoimpl.MessageState]()
}

// complete reports whether every message of the type is: no required field
// anywhere in it, nor an extension, which could have some. Package proto looks
// at all of the others after each message.
func complete(d protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) bool {
	if seen[d.FullName()] {
		return true
	}
	seen[d.FullName()] = true
	if d.ExtensionRanges().Len() > 0 || d.RequiredNumbers().Len() > 0 {
		return false
	}
	for i := range d.Fields().Len() {
		if sub := d.Fields().Get(i).Message(); sub != nil && !complete(sub, seen) {
			return false
		}
	}
	return true
}

// A layout is where a generated struct holds what.
type layout struct {
	fields  map[protoreflect.FieldNumber]reflect.StructField
	oneofs  map[protoreflect.Name]reflect.StructField
	cases   map[protoreflect.FieldNumber]reflect.Type // the structs that hold a oneof's cases
	unknown uintptr
}

// layoutOf reads the layout from the struct's tags. It fails if the struct has
// anything that it does not know.
func layoutOf(typ reflect.Type, info *protoimpl.MessageInfo) (layout, bool) {
	l := layout{
		fields: make(map[protoreflect.FieldNumber]reflect.StructField),
		oneofs: make(map[protoreflect.Name]reflect.StructField),
		cases:  make(map[protoreflect.FieldNumber]reflect.Type),
	}
	hasUnknown := false
	for i := range typ.NumField() {
		f := typ.Field(i)
		switch {
		case f.Type == reflect.TypeFor[protoimpl.MessageState](), f.Name == "sizeCache":
		case f.Name == "unknownFields" && f.Type == reflect.TypeFor[[]byte]():
			l.unknown, hasUnknown = f.Offset, true
		case f.IsExported() && f.Tag.Get("protobuf_oneof") != "" && f.Type.Kind() == reflect.Interface:
			l.oneofs[protoreflect.Name(f.Tag.Get("protobuf_oneof"))] = f
		case f.IsExported():
			n, ok := number(f)
			if !ok {
				return l, false
			}
			l.fields[n] = f
		default:
			return l, false
		}
	}
	for _, w := range info.OneofWrappers {
		typ := reflect.TypeOf(w)
		if typ.Kind() != reflect.Pointer || typ.Elem().Kind() != reflect.Struct || typ.Elem().NumField() != 1 {
			return l, false
		}
		n, ok := number(typ.Elem().Field(0))
		if !ok {
			return l, false
		}
		l.cases[n] = typ.Elem()
	}
	return l, hasUnknown
}

// number reads a field's number from its tag, such as "bytes,1,opt,name=id,proto3".
func number(f reflect.StructField) (protoreflect.FieldNumber, bool) {
	parts := strings.Split(f.Tag.Get("protobuf"), ",")
	if len(parts) < 2 {
		return 0, false
	}
	n, err := strconv.ParseInt(parts[1], 10, 32)
	return protoreflect.FieldNumber(n), err == nil
}

// fill gives t its fields, in the order in which package proto encodes them.
func (b builder) fill(t *table, d protoreflect.MessageDescriptor, l layout) bool {
	var all []protoreflect.FieldDescriptor
	for i := range d.Fields().Len() {
		all = append(all, d.Fields().Get(i))
	}
	slices.SortFunc(all, func(x, y protoreflect.FieldDescriptor) int {
		// By number; those in oneofs after all others, one oneof after the other.
		return cmp.Or(cmp.Compare(oneofIndex(x), oneofIndex(y)), cmp.Compare(x.Number(), y.Number()))
	})
	if len(all) >= 1<<16-1 {
		return false
	}
	t.fields = make([]field, 0, len(all)+1)
	t.further = make(map[uint32]uint16)
	for i, fd := range all {
		f, ok := b.field(fd, l)
		if !ok {
			return false
		}
		t.fields = append(t.fields, f)
		// Dense as long as a quarter of the numbers is used.
		if n := uint32(fd.Number()); n < 16 || n < 4*uint32(len(all)) {
			t.byNumber = append(t.byNumber, make([]uint16, max(0, int(n)+1-len(t.byNumber)))...)
			t.byNumber[n] = uint16(i + 1)
		} else {
			t.further[n] = uint16(i + 1)
		}
	}
	t.fields = append(t.fields, field{code: none})
	return true
}

// oneofIndex is -1 for a field in no oneof. Of an optional field of proto3, which is
// described as a oneof of its own, the struct knows nothing.
func oneofIndex(fd protoreflect.FieldDescriptor) int {
	if o := fd.ContainingOneof(); o != nil && !o.IsSynthetic() {
		return o.Index()
	}
	return -1
}

// field describes one field. It fails if the struct does not hold it as generated structs do.
func (b builder) field(fd protoreflect.FieldDescriptor, l layout) (field, bool) {
	if fd.IsMap() || fd.IsExtension() {
		return field{}, false
	}
	k, wire, ok := kindOf(fd.Kind())
	if !ok {
		return field{}, false
	}
	f := field{kind: k, utf8: k == kindString && enforceUTF8(fd)}
	var holds code
	var value reflect.Type
	switch {
	case oneofIndex(fd) >= 0:
		in, ok := l.oneofs[fd.ContainingOneof().Name()]
		wrapper, known := l.cases[fd.Number()]
		if !ok || !known || !reflect.PointerTo(wrapper).Implements(in.Type) {
			return field{}, false
		}
		holds, value, f.off = inOneof, wrapper.Field(0).Type, uint32(in.Offset)
		f.more = &more{one: oneof{word: typeWord(in.Type, wrapper), typ: wrapper, in: in.Type}}
	default:
		sf, ok := l.fields[fd.Number()]
		if !ok {
			return field{}, false
		}
		value, f.off = sf.Type, uint32(sf.Offset)
		switch {
		case fd.IsList():
			if value.Kind() != reflect.Slice {
				return field{}, false
			}
			value = value.Elem()
			if holds = repeated; fd.IsPacked() {
				holds, wire = packed, protowire.BytesType
			}
		case k == kindMessage:
			holds = plain
		case !fd.HasPresence():
			holds = plain
		case k == kindBytes:
			holds = pointer
		default:
			if value.Kind() != reflect.Pointer {
				return field{}, false
			}
			holds, value = pointer, value.Elem()
		}
	}
	if !holdsKind(fd.Kind(), value) {
		return field{}, false
	}
	if k == kindMessage {
		m, ok := reflect.New(value.Elem()).Interface().(proto.Message)
		if !ok || m.ProtoReflect().Descriptor() != fd.Message() {
			return field{}, false
		}
		b.add(value)
		if f.more == nil {
			f.more = &more{}
		}
		f.more.sub.typ = value.Elem()
	}
	f.code = holds + code(k)
	f.tag = uint32(protowire.EncodeTag(fd.Number(), wire))
	f.size = uint8(copy(f.head[:], protowire.AppendTag(nil, fd.Number(), wire)))
	return f, true
}

// kindOf says how values of a kind are encoded.
func kindOf(k protoreflect.Kind) (kind, protowire.Type, bool) {
	switch k {
	case protoreflect.BoolKind:
		return kindBool, protowire.VarintType, true
	case protoreflect.Int32Kind, protoreflect.EnumKind:
		return kindInt32, protowire.VarintType, true
	case protoreflect.Uint32Kind:
		return kindUint32, protowire.VarintType, true
	case protoreflect.Sint32Kind:
		return kindSint32, protowire.VarintType, true
	case protoreflect.Int64Kind, protoreflect.Uint64Kind:
		return kindInt64, protowire.VarintType, true
	case protoreflect.Sint64Kind:
		return kindSint64, protowire.VarintType, true
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return kindFixed32, protowire.Fixed32Type, true
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return kindFixed64, protowire.Fixed64Type, true
	case protoreflect.StringKind:
		return kindString, protowire.BytesType, true
	case protoreflect.BytesKind:
		return kindBytes, protowire.BytesType, true
	case protoreflect.MessageKind:
		return kindMessage, protowire.BytesType, true
	}
	return 0, 0, false // groups
}

// holdsKind reports whether Go values of the type are what generated code has for the kind.
func holdsKind(k protoreflect.Kind, typ reflect.Type) bool {
	switch k {
	case protoreflect.BoolKind:
		return typ.Kind() == reflect.Bool
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind, protoreflect.EnumKind:
		return typ.Kind() == reflect.Int32
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return typ.Kind() == reflect.Uint32
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return typ.Kind() == reflect.Int64
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return typ.Kind() == reflect.Uint64
	case protoreflect.FloatKind:
		return typ.Kind() == reflect.Float32
	case protoreflect.DoubleKind:
		return typ.Kind() == reflect.Float64
	case protoreflect.StringKind:
		return typ.Kind() == reflect.String
	case protoreflect.BytesKind:
		return typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Uint8
	case protoreflect.MessageKind:
		return typ.Kind() == reflect.Pointer && typ.Elem().Kind() == reflect.Struct
	}
	return false
}

// enforceUTF8 reports whether a string of the field must be valid: always in proto3, never in
// proto2, and with editions as the field says.
func enforceUTF8(fd protoreflect.FieldDescriptor) bool {
	if fd.Syntax() == protoreflect.Editions {
		if f, ok := fd.(interface{ EnforceUTF8() bool }); ok {
			return f.EnforceUTF8()
		}
	}
	return fd.Syntax() == protoreflect.Proto3
}

// typeWord returns the word by which an interface of the type in tells that it holds a pointer
// to a wrapper. It is the same for all of them, and no other type's.
func typeWord(in, wrapper reflect.Type) uintptr {
	v := reflect.New(in)
	v.Elem().Set(reflect.New(wrapper))
	return *(*uintptr)(v.UnsafePointer())
}
