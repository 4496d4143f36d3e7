package prototable

import (
	"encoding/binary"
	"math"
	"reflect"
	"slices"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/internal/varint"
)

const (
	// maxShared is how long strings and bytes are at most that share their memory with their
	// neighbours, and maxCopy how much memory such share: whoever keeps one of them keeps that much.
	maxShared = 64
	maxCopy   = 128
)

// A decoder decodes one message, with all that lie in it.
type decoder struct {
	data  []byte
	depth int
	// piece is a copy of data[from:until], for short strings to lie in.
	piece       unsafe.Pointer
	from, until int
}

// Unmarshal decodes data into the message v, and replaces what it held. Where it
// cannot, as for a nil pointer, only package proto can say what data is, if anybody can: that is other's, for which v
// holds something unspecified. It keeps no reference to data.
func Unmarshal(data []byte, v any, other func(data []byte, v any) error) error {
	t, ok := near(v)
	if !ok {
		t = tableFor(v)
	}
	if t == nil {
		return other(data, v)
	}
	p := pointerOf(v)
	if p == nil {
		return other(data, v)
	}
	// To look is quicker than to reset a message that is new, as nearly all are.
	if !t.empty(p) {
		proto.Reset(v.(proto.Message))
	}
	d := decoder{data: data}
	if !t.decode(&d, 0, len(data), p) {
		return other(data, v)
	}
	return nil
}

// empty reports whether nothing was ever written to the message at p.
func (t *table) empty(p unsafe.Pointer) bool {
	var bits uintptr
	var i uintptr
	for ; i+4 <= t.words; i += 4 {
		w := (*[4]uintptr)(unsafe.Add(p, i*wordSize))
		bits |= w[0] | w[1] | w[2] | w[3]
	}
	for ; i < t.words; i++ {
		bits |= *(*uintptr)(unsafe.Add(p, i*wordSize))
	}
	return bits == 0
}

// decode decodes d.data[i:end] into the message at p.
func (t *table) decode(d *decoder, i, end int, p unsafe.Pointer) bool {
	if d.depth++; d.depth > maxDepth {
		return false
	}
	data := d.data[:end:end]
	expected := t.first() // most fields come in their order
	for i < len(data) {
		tag := uint64(data[i])
		if tag < 0x80 {
			i++
		} else if tag, i = varint.Read(data, i); i < 0 {
			return false
		}
		f := expected
		if uint64(f.tag) != tag {
			if f = t.find(tag); f == nil {
				if i = t.keep(data, i, tag, p); i < 0 {
					return false
				}
				continue
			}
		}
		value := i
		// Most begin with a varint: the number itself, or the length of what follows.
		var v uint64
		if tag&noVarint == 0 {
			if i < len(data) && data[i] < 0x80 {
				v = uint64(data[i])
				i++
			} else if v, i = varint.Read(data, i); i < 0 {
				return false
			}
		}
		q := f.in(p)
		switch f.code {
		case none: // its tag, 0, is no field's
			return false
		case plain + code(kindBool):
			*(*bool)(q) = v != 0
		case plain + code(kindInt32), plain + code(kindUint32):
			*(*uint32)(q) = uint32(v)
		case plain + code(kindSint32):
			*(*uint32)(q) = uint32(protowire.DecodeZigZag(v & math.MaxUint32))
		case plain + code(kindInt64):
			*(*uint64)(q) = v
		case plain + code(kindSint64):
			*(*uint64)(q) = uint64(protowire.DecodeZigZag(v))
		case plain + code(kindString), plain + code(kindBytes):
			if v > uint64(len(data)-i) {
				return false
			}
			start := i
			i += int(v)
			if f.utf8 && !shortASCII(unsafe.Add(unsafe.Pointer(unsafe.SliceData(data)), start), int(v)) && !valid(data[start:i]) { // not the copy, which is still on its way to memory
				return false
			}
			var s unsafe.Pointer // nil if empty, which is as none
			switch {
			case v-1 < maxShared:
				if i > d.until {
					d.refill(start)
				}
				s = unsafe.Add(d.piece, start-d.from)
			case v != 0:
				s = clone(data[start:i])
			}
			*(*text)(q) = text{s, int(v)}
			if f.kind == kindBytes {
				(*slice)(q).cap = int(v)
			}
		case plain + code(kindMessage):
			if v > uint64(len(data)-i) {
				return false
			}
			start := i
			i += int(v)
			if !f.more.sub.decode(d, start, i, (*unsafe.Pointer)(q)) {
				return false
			}
		default:
			if f.code >= repeated && f.code < inOneof {
				i = f.decodeList(d, value, len(data), tag, q)
			} else {
				i = f.decodeOther(d, value, len(data), q)
			}
			if i < 0 {
				return false
			}
		}
		expected = f.next()
	}
	d.depth--
	return true
}

// noVarint has the bits of a tag that only the types of values have that begin with no varint: other types are
// protowire.VarintType and protowire.BytesType.
const noVarint = 7 &^ uint64(protowire.VarintType|protowire.BytesType)

// find returns the field that comes with a tag, or nil.
func (t *table) find(tag uint64) *field {
	var place uint16
	switch n := tag >> 3; {
	case n < uint64(len(t.byNumber)):
		place = t.byNumber[n]
	case n <= math.MaxUint32:
		place = t.further[uint32(n)]
	}
	if place == 0 {
		return nil
	}
	if f := &t.fields[place-1]; uint64(f.tag) == tag || f.alsoAs(tag) {
		return f
	}
	return nil
}

// alsoAs reports whether a field may come with another tag than it is encoded with: a list of
// numbers comes as one or one by one, as its sender likes.
func (f *field) alsoAs(tag uint64) bool {
	if f.code < repeated || f.code >= inOneof || f.kind >= kindString {
		return false
	}
	wire := protowire.Type(tag & 7)
	return wire == protowire.BytesType || wire == wires[f.kind]
}

// wires has what a number of each kind is encoded as.
var wires = [kinds]protowire.Type{kindFixed32: protowire.Fixed32Type, kindFixed64: protowire.Fixed64Type}

// keep keeps a field that nobody knows, whose value is at data[i], with the message at p. It returns
// where the value ends, or -1 if there is none.
func (t *table) keep(data []byte, i int, tag uint64, p unsafe.Pointer) int {
	num, wire := protowire.Number(tag>>3), protowire.Type(tag&7)
	if tag>>3 < uint64(protowire.MinValidNumber) || tag>>3 > uint64(protowire.MaxValidNumber) {
		return -1
	}
	n := protowire.ConsumeFieldValue(num, wire, data[i:])
	if n < 0 {
		return -1
	}
	u := (*[]byte)(unsafe.Add(p, t.unknown))
	*u = append(protowire.AppendTag(*u, num, wire), data[i:i+n]...)
	return i + n
}

// decodeOther decodes the value at d.data[i:end] to what the struct holds at q, which is no list. It
// returns where the value ends, or -1 if there is none.
func (f *field) decodeOther(d *decoder, i, end int, q unsafe.Pointer) int {
	switch f.code - code(f.kind) {
	case pointer:
		if f.kind == kindBytes { // nil says that there is none
			break
		}
		v := (*unsafe.Pointer)(q)
		if *v == nil {
			*v = newValue(f.kind)
		}
		q = *v
	case inOneof:
		if in := *(*[2]unsafe.Pointer)(q); uintptr(in[0]) == f.more.one.word && in[1] != nil {
			q = in[1] // a message is merged into
			break
		}
		wrapper := reflect.New(f.more.one.typ)
		reflect.NewAt(f.more.one.in, q).Elem().Set(wrapper)
		q = wrapper.UnsafePointer()
	}
	return f.decodeValue(d, i, end, q)
}

// decodeList decodes what comes of a list at d.data[i:end], behind its tag, and what follows of the
// same list. It returns where that ends, or -1 if something is wrong with it.
func (f *field) decodeList(d *decoder, i, end int, tag uint64, q unsafe.Pointer) int {
	data := d.data[:end]
	for {
		switch f.kind {
		case kindBool:
			i = appendNumbers(f, data, i, tag, (*[]bool)(q), func(v uint64) bool { return v != 0 })
		case kindInt32, kindUint32, kindFixed32:
			i = appendNumbers(f, data, i, tag, (*[]uint32)(q), func(v uint64) uint32 { return uint32(v) })
		case kindSint32:
			i = appendNumbers(f, data, i, tag, (*[]uint32)(q), func(v uint64) uint32 { return uint32(protowire.DecodeZigZag(v & math.MaxUint32)) })
		case kindInt64, kindFixed64:
			i = appendNumbers(f, data, i, tag, (*[]uint64)(q), func(v uint64) uint64 { return v })
		case kindSint64:
			i = appendNumbers(f, data, i, tag, (*[]uint64)(q), func(v uint64) uint64 { return uint64(protowire.DecodeZigZag(v)) })
		case kindString:
			i = appendValue(f, d, i, end, (*[]string)(q))
		case kindBytes:
			i = appendValue(f, d, i, end, (*[][]byte)(q))
		case kindMessage:
			i = appendValue(f, d, i, end, (*[]unsafe.Pointer)(q))
		}
		if i < 0 || i == end {
			return i
		}
		again, next := uvarint(data, i)
		if again != tag {
			return i
		}
		i = next
	}
}

// appendValue appends the value at d.data[i:end] to a slice. It returns where the value ends, or -1
// if there is none.
func appendValue[T any](f *field, d *decoder, i, end int, to *[]T) int {
	var none T
	*to = append(*to, none)
	return f.decodeValue(d, i, end, unsafe.Pointer(&(*to)[len(*to)-1]))
}

// appendNumbers appends the numbers at data[i] to a slice: all that come in one, or one. It returns
// where they end, or -1 if something is wrong with them.
func appendNumbers[T any](f *field, data []byte, i int, tag uint64, to *[]T, of func(uint64) T) int {
	s := *to
	if protowire.Type(tag&7) != protowire.BytesType {
		v, next := f.bits(data, i)
		*to = append(s, of(v))
		return next
	}
	start, stop := span(data, i)
	if stop < 0 {
		return -1
	}
	data = data[:stop]
	s = slices.Grow(s, f.count(data[start:]))
	for i = start; i < stop; {
		var v uint64
		if v, i = f.bits(data, i); i < 0 {
			return -1
		}
		s = append(s, of(v))
	}
	*to = s
	return stop
}

// count returns how many numbers data holds.
func (f *field) count(data []byte) int {
	switch f.kind {
	case kindFixed32:
		return len(data) / 4
	case kindFixed64:
		return len(data) / 8
	}
	n := 0
	for _, b := range data {
		if b < 0x80 { // the last byte of each
			n++
		}
	}
	return n
}

// decodeValue decodes the value at d.data[i:end] to v. It returns where the value ends, or -1 if there
// is none.
func (f *field) decodeValue(d *decoder, i, end int, v unsafe.Pointer) int {
	data := d.data[:end]
	if f.kind < kindString {
		u, i := f.number(data, i)
		switch sizes[f.kind] {
		case 1:
			*(*bool)(v) = u != 0
		case 4:
			*(*uint32)(v) = uint32(u)
		default:
			*(*uint64)(v) = u
		}
		return i
	}
	start, stop := span(data, i)
	if stop < 0 {
		return -1
	}
	if f.kind == kindMessage {
		if !f.more.sub.decode(d, start, stop, (*unsafe.Pointer)(v)) {
			return -1
		}
		return stop
	}
	if f.kind == kindBytes {
		*(*[]byte)(v) = d.copy(start, stop) // not nil, if empty: it is there
		return stop
	}
	if f.utf8 && !valid(data[start:stop]) {
		return -1
	}
	s := d.copy(start, stop)
	*(*string)(v) = unsafe.String(unsafe.SliceData(s), len(s))
	return stop
}

// number decodes the number at data[i] to the bits that Go has for it. It returns where the number
// ends, or -1 if there is none.
func (f *field) number(data []byte, i int) (v uint64, next int) {
	v, next = f.bits(data, i)
	switch f.kind {
	case kindSint32:
		v = uint64(protowire.DecodeZigZag(v & math.MaxUint32))
	case kindSint64:
		v = uint64(protowire.DecodeZigZag(v))
	}
	return v, next
}

// bits reads the number at data[i] as it is encoded. It returns where the number ends, or -1 if there
// is none.
func (f *field) bits(data []byte, i int) (v uint64, next int) {
	switch f.kind {
	case kindFixed32:
		if len(data)-i < 4 {
			return 0, -1
		}
		return uint64(binary.LittleEndian.Uint32(data[i:])), i + 4
	case kindFixed64:
		if len(data)-i < 8 {
			return 0, -1
		}
		return binary.LittleEndian.Uint64(data[i:]), i + 8
	}
	return uvarint(data, i)
}

// decode decodes d.data[i:end] into the message that to points to, which is made if there is none.
func (m *message) decode(d *decoder, i, end int, to *unsafe.Pointer) bool {
	if *to == nil {
		*to = reflect.New(m.typ).UnsafePointer()
	}
	if m.table != nil {
		return m.table.decode(d, i, end, *to)
	}
	o := proto.UnmarshalOptions{Merge: true, AllowPartial: true, RecursionLimit: maxDepth - d.depth}
	// Zero would mean the default.
	return o.RecursionLimit > 0 && o.Unmarshal(d.data[i:end], m.at(*to)) == nil
}

// copy returns a copy of d.data[start:end], never nil. Short ones lie in one piece of memory.
func (d *decoder) copy(start, end int) []byte {
	n := end - start
	if n > maxShared || n == 0 {
		return unsafe.Slice((*byte)(clone(d.data[start:end])), n)
	}
	if end > d.until {
		d.refill(start)
	}
	return unsafe.Slice((*byte)(unsafe.Add(d.piece, start-d.from)), n)
}

// refill makes a new piece, which begins with d.data[start], and holds what is short there.
func (d *decoder) refill(start int) {
	d.from, d.until = start, min(start+maxCopy, len(d.data))
	d.piece = clone(d.data[d.from:d.until])
}

// clone returns a copy of b, never nil.
func clone(b []byte) unsafe.Pointer {
	c := make([]byte, len(b)) // which is not cleared first, since all of it is written
	copy(c, b)
	return unsafe.Pointer(unsafe.SliceData(c))
}

// newValue returns a pointer to a new value of a kind of numbers, or strings.
func newValue(k kind) unsafe.Pointer {
	switch {
	case k == kindString:
		return unsafe.Pointer(new(string))
	case sizes[k] == 1:
		return unsafe.Pointer(new(bool))
	case sizes[k] == 4:
		return unsafe.Pointer(new(uint32))
	}
	return unsafe.Pointer(new(uint64))
}

// uvarint decodes the varint at data[i]. It returns where the next thing is, or -1 if there is none.
func uvarint(data []byte, i int) (v uint64, next int) {
	if i < len(data) && data[i] < 0x80 {
		return uint64(data[i]), i + 1
	}
	return varint.Read(data, i)
}

// span decodes the length at data[i] of what follows it, which is there. It returns where that
// begins and ends; the end is -1 if there is none, or too little follows.
func span(data []byte, i int) (start, end int) {
	v, i := uvarint(data, i)
	if i < 0 || v > uint64(len(data)-i) {
		return 0, -1
	}
	return i, i + int(v)
}
