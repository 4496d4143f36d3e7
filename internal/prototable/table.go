package prototable

import (
	"reflect"
	"unsafe"
)

// A table knows how to encode and decode messages of one generated type. Any number of
// goroutines may use it.
type table struct {
	words  uintptr // of the struct
	fields []field // in the order in which they are encoded; one more, with the code none, is behind them
	// byNumber has a field's place in fields, plus one, at its number, for
	// numbers up to its length; further has the others.
	byNumber []uint16
	further  map[uint32]uint16
	// unknown is where the struct holds the bytes of fields that nobody knows.
	unknown uintptr
}

// A field is what a table knows of one field. Two fit a cache line.
type field struct {
	head [8]byte // the tag's bytes
	more *more   // of a message, or of what is in a oneof
	tag  uint32  // as it is encoded: number and wire type
	off  uint32  // in the struct; of a oneof's case, of the interface that holds it
	size uint8   // of the tag
	code code
	kind kind // of what a case of a oneof holds
	utf8 bool // a string that must be valid
}

// wordSize is that of a word of memory.
const wordSize = unsafe.Sizeof(uintptr(0))

// first returns the first field, or what is behind the last.
func (t *table) first() *field { return unsafe.SliceData(t.fields) }

// next returns the field behind f, or what is behind the last; there is nothing behind that.
func (f *field) next() *field {
	return (*field)(unsafe.Add(unsafe.Pointer(f), unsafe.Sizeof(*f)))
}

// in returns a pointer to what the struct at p holds of the field.
func (f *field) in(p unsafe.Pointer) unsafe.Pointer { return unsafe.Add(p, uintptr(f.off)) }

// more is what few fields have.
type more struct {
	sub message
	one oneof
}

// A oneof is what holds one case of a oneof: a generated struct with that one
// field.
type oneof struct {
	word uintptr      // of an interface that holds the wrapper: which type it has
	typ  reflect.Type // the struct
	in   reflect.Type // the interface
}

// A message is the type of a field's messages.
type message struct {
	typ reflect.Type // the struct
	// table is nil if only package proto can code them.
	table *table
}

// kind is how one value is encoded.
type kind uint8

const (
	kindBool kind = iota
	kindInt32
	kindUint32
	kindSint32
	kindInt64 // unsigned ones too
	kindSint64
	kindFixed32 // 32 bits of any meaning
	kindFixed64
	kindString
	kindBytes
	kindMessage

	kinds = iota
)

// code is a field's kind, and how the struct holds it.
type code uint8

// none is the code of what is behind the last field.
const none code = 0

// How a struct holds a field: the first of its codes, one for each kind.
const (
	plain    code = 1 + iota*kinds // the value, absent if zero; a message's pointer
	pointer                        // a pointer to the value; bytes are absent if nil
	repeated                       // a slice of values, each with a tag
	packed                         // a slice of values in one
	inOneof                        // a wrapper in an interface
)

// text is how Go holds a string, and slice how it holds a slice, which begins as a string does.
type (
	text struct {
		data unsafe.Pointer
		len  int
	}
	slice struct {
		text
		cap int
	}
)
