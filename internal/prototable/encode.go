package prototable

import (
	"encoding/binary"
	"math"
	"math/bits"
	"reflect"
	"slices"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// maxDepth is how deep messages may lie in each other, as for package proto's decoding.
const maxDepth = protowire.DefaultRecursionLimit

// Append appends the encoding of the message v to dst. Where it cannot, as for a nil
// pointer, only package proto can say what v is, if anybody can: that is other's, which gets dst as it was, but for what lies
// beyond its length.
//
// v is only read, and may be in use elsewhere.
func Append(dst []byte, v any, other func(dst []byte, v any) ([]byte, error)) ([]byte, error) {
	t, ok := near(v)
	if !ok {
		t = tableFor(v)
	}
	if t == nil {
		return other(dst, v)
	}
	p := pointerOf(v)
	if p == nil {
		return other(dst, v)
	}
	var e encoder
	out, ok := e.message(dst, t, p)
	if !ok || len(out)-len(dst) > math.MaxInt32 {
		return other(dst, v)
	}
	return out, nil
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
func (e *encoder) message(b []byte, t *table, p unsafe.Pointer) ([]byte, bool) {
	if e.depth++; e.depth > maxDepth {
		return b, false
	}
	for f := t.first(); ; f = f.next() {
		q := f.in(p)
		var v uint64 // of a varint, which is most numbers
		switch f.code {
		case none:
			e.depth--
			if unknown := *(*[]byte)(unsafe.Add(p, t.unknown)); len(unknown) != 0 {
				b = append(b, unknown...)
			}
			return b, true
		case plain + code(kindBool):
			v = uint64(*(*uint8)(q))
		case plain + code(kindInt32):
			v = uint64(*(*int32)(q))
		case plain + code(kindUint32):
			v = uint64(*(*uint32)(q))
		case plain + code(kindSint32):
			v = protowire.EncodeZigZag(int64(*(*int32)(q)))
		case plain + code(kindInt64):
			v = *(*uint64)(q)
		case plain + code(kindSint64):
			v = protowire.EncodeZigZag(*(*int64)(q))
		case plain + code(kindFixed32): // a float that is minus zero has a bit
			if v := *(*uint32)(q); v != 0 {
				b = withRoom(b, room)
				b = binary.LittleEndian.AppendUint32(upTo(b, f.putTag(tail(b))), v)
			}
			continue
		case plain + code(kindFixed64):
			if v := *(*uint64)(q); v != 0 {
				b = withRoom(b, room)
				b = binary.LittleEndian.AppendUint64(upTo(b, f.putTag(tail(b))), v)
			}
			continue
		case plain + code(kindString), plain + code(kindBytes):
			s := *(*text)(q) // as a slice begins
			if s.len == 0 {
				continue
			}
			if e.tooLong(s.len) {
				return b, false
			}
			b = withRoom(b, room+s.len)
			at := putVarint(f.putTag(tail(b)), uint64(s.len))
			b = upTo(b, unsafe.Add(at, s.len))
			if minShort <= s.len && s.len <= maxShort {
				bits := copyEnds(at, s.data, s.len)
				if s.len > 16 {
					bits |= copyEnds(unsafe.Add(at, 8), unsafe.Add(s.data, 8), s.len-16)
				}
				if bits&highBits == 0 {
					continue
				}
			} else {
				copy(unsafe.Slice((*byte)(at), s.len), unsafe.Slice((*byte)(s.data), s.len))
			}
			if f.utf8 && !valid(unsafe.Slice((*byte)(s.data), s.len)) {
				return b, false
			}
			continue
		case plain + code(kindMessage):
			if m := *(*unsafe.Pointer)(q); m != nil {
				var ok bool
				if b, ok = e.field(b, f, m); !ok {
					return b, false
				}
			}
			continue
		default:
			var ok bool
			if b, ok = e.other(b, f, q); !ok {
				return b, false
			}
			continue
		}
		if v == 0 {
			continue
		}
		b = withRoom(b, room)
		b = upTo(b, putVarint(f.putTag(tail(b)), v))
	}
}

// room is how much is needed behind a buffer's end for a tag and any number, with some to spare for what is written in
// whole words.
const room = 16

// withRoom returns b with room for n bytes.
func withRoom(b []byte, n int) []byte {
	if cap(b)-len(b) < n {
		return grow(b, n)
	}
	return b
}

// grow keeps what is rare, and long when inlined, out of the way.
//
//go:noinline
func grow(b []byte, n int) []byte { return slices.Grow(b, n) }

// tail points behind b's end, where there is room, and upTo returns b with its end there.
func tail(b []byte) unsafe.Pointer {
	return unsafe.Add(unsafe.Pointer(unsafe.SliceData(b)), len(b))
}

func upTo(b []byte, at unsafe.Pointer) []byte {
	return b[:uintptr(at)-uintptr(unsafe.Pointer(unsafe.SliceData(b)))]
}

// putTag writes the field's tag to where there is room, and returns where it ends.
func (f *field) putTag(at unsafe.Pointer) unsafe.Pointer {
	*(*[len(f.head)]byte)(at) = f.head // of which the tag's bytes stay
	return unsafe.Add(at, f.size)
}

// appendTag appends the field's tag.
func (f *field) appendTag(b []byte) []byte {
	if f.size == 1 {
		return append(b, f.head[0])
	}
	return append(b, f.head[:f.size]...)
}

// putVarint writes a varint to where there is room, and returns where it ends.
func putVarint(at unsafe.Pointer, v uint64) unsafe.Pointer {
	if v < 0x80 {
		*(*byte)(at) = byte(v)
		return unsafe.Add(at, 1)
	}
	return putLong(at, v)
}

// putLong is putVarint for any length.
func putLong(at unsafe.Pointer, v uint64) unsafe.Pointer {
	if v >= 1<<56 {
		return unsafe.Add(at, binary.PutUvarint((*[binary.MaxVarintLen64]byte)(at)[:], v))
	}
	// Eight groups of seven bits move apart: first by fours, then by twos, then each of them.
	w := v&0xfff_ffff | v<<4&(0xfff_ffff<<32)
	w = w&(0x3fff*0x0000_0001_0000_0001) | w<<2&(0x3fff*0x0000_0001_0000_0001<<16)
	w = w&(0x7f*0x0001_0001_0001_0001) | w<<1&(0x7f*0x0001_0001_0001_0001<<8)
	n := (bits.Len64(v|1) + 6) / 7
	putWord(at, 0, w|0x80*everyByte&(1<<(8*n-8)-1)) // all but the last of them say that more follows
	return unsafe.Add(at, n)
}

// other appends what is not plain: q points to what the struct holds.
func (e *encoder) other(b []byte, f *field, q unsafe.Pointer) ([]byte, bool) {
	switch f.code - code(f.kind) {
	case pointer:
		v := *(*unsafe.Pointer)(q)
		if v == nil {
			return b, true
		}
		if f.kind == kindBytes { // which the struct itself holds
			v = q
		}
		return e.value(f.appendTag(b), f, v)
	case inOneof:
		in := *(*[2]unsafe.Pointer)(q)
		// Each case of the oneof looks; a nil wrapper is as none.
		if uintptr(in[0]) != f.more.one.word || in[1] == nil {
			return b, true
		}
		if f.kind == kindMessage {
			return e.field(b, f, *(*unsafe.Pointer)(in[1]))
		}
		return e.value(f.appendTag(b), f, in[1])
	case packed:
		return f.encodePacked(b, q), true
	}
	s := *(*slice)(q)
	size := sizes[f.kind]
	for i := range s.len {
		v := unsafe.Add(s.data, uintptr(i)*size)
		var ok bool
		if f.kind == kindMessage {
			b, ok = e.field(b, f, *(*unsafe.Pointer)(v))
		} else {
			b, ok = e.value(f.appendTag(b), f, v)
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
	b = f.appendTag(b)
	switch f.kind {
	case kindFixed32:
		b = appendVarint(b, uint64(s.len)*4)
	case kindFixed64:
		b = appendVarint(b, uint64(s.len)*8)
	default:
		b = append(b, 0)
		start, size := len(b), sizes[f.kind]
		for i := range s.len {
			b = f.appendNumber(b, unsafe.Add(s.data, uintptr(i)*size))
		}
		return setLength(b, start)
	}
	for i := range s.len {
		b = f.appendNumber(b, unsafe.Add(s.data, uintptr(i)*sizes[f.kind]))
	}
	return b
}

// field appends the message at m as the field's value; a nil pointer is an empty one.
func (e *encoder) field(b []byte, f *field, m unsafe.Pointer) ([]byte, bool) {
	// Most are short, so that their length takes the one byte that it gets before it is known.
	b = append(f.appendTag(b), 0)
	if m == nil {
		return b, true
	}
	start := len(b)
	if t := f.more.sub.table; t != nil {
		var ok bool
		if b, ok = e.message(b, t, m); !ok {
			return b, false
		}
	} else {
		out, err := proto.MarshalOptions{AllowPartial: true}.MarshalAppend(b, f.more.sub.at(m))
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
