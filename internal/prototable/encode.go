package prototable

import (
	"encoding/binary"
	"math"
	"reflect"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// maxDepth is how deep messages may lie in each other, as for package proto's decoding.
const maxDepth = protowire.DefaultRecursionLimit

// Append appends m's encoding to dst; m is of the table's type. If it reports false, as for a nil
// pointer, only package proto can say what m is: dst comes back as it was then, but for what lies
// beyond its length.
//
// m is only read, and may be in use elsewhere.
func (t *Table) Append(dst []byte, m proto.Message) (_ []byte, ok bool) {
	p := pointerOf(m)
	if p == nil {
		return dst, false
	}
	var e encoder
	out, ok := e.message(dst, t, p)
	if !ok || len(out)-len(dst) > math.MaxInt32 {
		return dst, false
	}
	return out, true
}

// An encoder encodes one message, with all that lie in it.
type encoder struct {
	depth int
	// moved is how many bytes had to make room for lengths of more than one byte.
	moved int
}

// The length of a message inside another is known when it has been encoded; if it takes more than one byte, the message moves
// to make room. Package proto looks at all of a message for its size before it encodes it. That takes longer, unless what moves
// is a long string, or lies in many messages and moves with each of them: so it is left with these.
const (
	maxInner = 4 << 10 // of a string inside another message
	maxMoved = 8       // times what was encoded, beside the first few bytes
)

// tooLong reports whether a string of n bytes had better not be moved.
func (e *encoder) tooLong(n int) bool { return n > maxInner && e.depth > 1 }

// message appends the message at p.
func (e *encoder) message(b []byte, t *Table, p unsafe.Pointer) ([]byte, bool) {
	if e.depth++; e.depth > maxDepth {
		return b, false
	}
	var ok bool
	for i := range t.fields {
		f := &t.fields[i]
		q := inside(p, f.off)
		switch f.code {
		case plain + code(kindBool):
			if *(*bool)(q) {
				b = append(appendVarint(b, uint64(f.tag)), 1)
			}
		case plain + code(kindInt32):
			if v := *(*int32)(q); v != 0 {
				b = appendVarint(appendVarint(b, uint64(f.tag)), uint64(v))
			}
		case plain + code(kindUint32):
			if v := *(*uint32)(q); v != 0 {
				b = appendVarint(appendVarint(b, uint64(f.tag)), uint64(v))
			}
		case plain + code(kindSint32):
			if v := *(*int32)(q); v != 0 {
				b = appendVarint(appendVarint(b, uint64(f.tag)), protowire.EncodeZigZag(int64(v)))
			}
		case plain + code(kindInt64):
			if v := *(*uint64)(q); v != 0 {
				b = appendVarint(appendVarint(b, uint64(f.tag)), v)
			}
		case plain + code(kindSint64):
			if v := *(*int64)(q); v != 0 {
				b = appendVarint(appendVarint(b, uint64(f.tag)), protowire.EncodeZigZag(v))
			}
		case plain + code(kindFixed32): // a float that is minus zero has a bit
			if v := *(*uint32)(q); v != 0 {
				b = binary.LittleEndian.AppendUint32(appendVarint(b, uint64(f.tag)), v)
			}
		case plain + code(kindFixed64):
			if v := *(*uint64)(q); v != 0 {
				b = binary.LittleEndian.AppendUint64(appendVarint(b, uint64(f.tag)), v)
			}
		case plain + code(kindString):
			if s := *(*string)(q); s != "" {
				if e.tooLong(len(s)) || f.utf8 && !validString(s) {
					return b, false
				}
				b = f.appendString(b, s)
			}
		case plain + code(kindBytes):
			if s := *(*[]byte)(q); len(s) != 0 {
				if e.tooLong(len(s)) {
					return b, false
				}
				b = f.appendString(b, unsafe.String(unsafe.SliceData(s), len(s)))
			}
		case plain + code(kindMessage):
			if m := *(*unsafe.Pointer)(q); m != nil {
				if b, ok = e.field(b, f, m); !ok {
					return b, false
				}
			}
		case pointer + code(kindBytes):
			if s := *(*[]byte)(q); s != nil {
				if e.tooLong(len(s)) {
					return b, false
				}
				b = f.appendString(b, unsafe.String(unsafe.SliceData(s), len(s)))
			}
		default:
			if b, ok = e.other(b, f, q); !ok {
				return b, false
			}
		}
	}
	e.depth--
	return append(b, *(*[]byte)(inside(p, t.unknown))...), true
}

// appendString appends s with the field's tag.
func (f *field) appendString(b []byte, s string) []byte {
	n := len(b)
	// Nearly always there is room for all of it, and tag and length take a byte each.
	if f.tag < 0x80 && len(s) < 0x80 && cap(b)-n >= len(s)+2 {
		b = b[:n+2+len(s)]
		b[n] = byte(f.tag)
		b[n+1] = byte(len(s))
		copy(b[n+2:], s)
		return b
	}
	return append(appendVarint(appendVarint(b, uint64(f.tag)), uint64(len(s))), s...)
}

// other appends what is neither plain nor bytes: q points to what the struct holds.
func (e *encoder) other(b []byte, f *field, q unsafe.Pointer) ([]byte, bool) {
	switch f.code - code(f.kind) {
	case pointer:
		v := *(*unsafe.Pointer)(q)
		if v == nil {
			return b, true
		}
		return e.value(appendVarint(b, uint64(f.tag)), f, v)
	case inOneof:
		in := *(*[2]unsafe.Pointer)(q)
		// Each case of the oneof looks; a nil wrapper is as none.
		if uintptr(in[0]) != f.one.word || in[1] == nil {
			return b, true
		}
		if f.kind == kindMessage {
			return e.field(b, f, *(*unsafe.Pointer)(in[1]))
		}
		return e.value(appendVarint(b, uint64(f.tag)), f, in[1])
	case packed:
		return f.encodePacked(b, q), true
	}
	s := *(*slice)(q)
	size := sizes[f.kind]
	for i := range s.len {
		v := inside(s.data, uintptr(i)*size)
		var ok bool
		if f.kind == kindMessage {
			b, ok = e.field(b, f, *(*unsafe.Pointer)(v))
		} else {
			b, ok = e.value(appendVarint(b, uint64(f.tag)), f, v)
		}
		if !ok {
			return b, false
		}
	}
	return b, true
}

// value appends the value at v, whatever it is, but a message.
func (e *encoder) value(b []byte, f *field, v unsafe.Pointer) ([]byte, bool) {
	switch f.kind {
	case kindString:
		s := *(*string)(v)
		if e.tooLong(len(s)) || f.utf8 && !validString(s) {
			return b, false
		}
		return append(appendVarint(b, uint64(len(s))), s...), true
	case kindBytes:
		s := *(*[]byte)(v)
		if e.tooLong(len(s)) {
			return b, false
		}
		return append(appendVarint(b, uint64(len(s))), s...), true
	}
	return f.appendNumber(b, v), true
}

// appendNumber appends the number at v.
func (f *field) appendNumber(b []byte, v unsafe.Pointer) []byte {
	switch f.kind {
	case kindBool:
		if *(*bool)(v) {
			return append(b, 1)
		}
		return append(b, 0)
	case kindInt32:
		return appendVarint(b, uint64(*(*int32)(v)))
	case kindUint32:
		return appendVarint(b, uint64(*(*uint32)(v)))
	case kindSint32:
		return appendVarint(b, protowire.EncodeZigZag(int64(*(*int32)(v))))
	case kindInt64:
		return appendVarint(b, *(*uint64)(v))
	case kindSint64:
		return appendVarint(b, protowire.EncodeZigZag(*(*int64)(v)))
	case kindFixed32:
		return binary.LittleEndian.AppendUint32(b, *(*uint32)(v))
	case kindFixed64:
		return binary.LittleEndian.AppendUint64(b, *(*uint64)(v))
	}
	return b
}

// encodePacked appends a slice of numbers in one.
func (f *field) encodePacked(b []byte, q unsafe.Pointer) []byte {
	s := *(*slice)(q)
	if s.len == 0 {
		return b
	}
	b = appendVarint(b, uint64(f.tag))
	switch f.kind {
	case kindFixed32:
		b = appendVarint(b, uint64(s.len)*4)
	case kindFixed64:
		b = appendVarint(b, uint64(s.len)*8)
	default:
		b = append(b, 0)
		start, size := len(b), sizes[f.kind]
		for i := range s.len {
			b = f.appendNumber(b, inside(s.data, uintptr(i)*size))
		}
		return setLength(b, start)
	}
	for i := range s.len {
		b = f.appendNumber(b, inside(s.data, uintptr(i)*sizes[f.kind]))
	}
	return b
}

// field appends the message at m as the field's value; a nil pointer is an empty one.
func (e *encoder) field(b []byte, f *field, m unsafe.Pointer) ([]byte, bool) {
	// Most are short, so that their length takes the one byte that it gets before it is known.
	b = append(appendVarint(b, uint64(f.tag)), 0)
	if m == nil {
		return b, true
	}
	start := len(b)
	if t := f.sub.table; t != nil {
		var ok bool
		if b, ok = e.message(b, t, m); !ok {
			return b, false
		}
	} else {
		out, err := proto.MarshalOptions{AllowPartial: true}.MarshalAppend(b, f.sub.at(m))
		if err != nil {
			return b, false
		}
		b = out
	}
	if n := len(b) - start; n >= 0x80 {
		if e.moved += n; e.moved > maxMoved*len(b)+1<<16 {
			return b, false
		}
	}
	return setLength(b, start), true
}

// at returns the message at p as one.
func (m *message) at(p unsafe.Pointer) proto.Message {
	return reflect.NewAt(m.typ, p).Interface().(proto.Message)
}

// setLength writes how much follows start into the byte before it, and makes room if it takes more.
func setLength(b []byte, start int) []byte {
	n := len(b) - start
	if n < 0x80 {
		b[start-1] = byte(n)
		return b
	}
	var length [binary.MaxVarintLen64]byte
	more := binary.PutUvarint(length[:], uint64(n))
	b = append(b, length[:more-1]...) // for its room alone
	copy(b[start-1+more:], b[start:start+n])
	copy(b[start-1:], length[:more])
	return b
}

// slice is how Go holds a slice.
type slice struct {
	data     unsafe.Pointer
	len, cap int
}

// sizes has the size of a value of each kind in a slice.
var sizes = [kinds]uintptr{
	kindBool: 1, kindInt32: 4, kindUint32: 4, kindSint32: 4, kindInt64: 8, kindSint64: 8, kindFixed32: 4, kindFixed64: 8,
	kindString: unsafe.Sizeof(""), kindBytes: unsafe.Sizeof([]byte{}), kindMessage: unsafe.Sizeof(unsafe.Pointer(nil)),
}

// appendVarint appends v in groups of seven bits.
func appendVarint(b []byte, v uint64) []byte {
	if v < 0x80 {
		return append(b, byte(v))
	}
	return binary.AppendUvarint(b, v)
}
