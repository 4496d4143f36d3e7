package prototable

import (
	"reflect"

	"google.golang.org/protobuf/proto"
)

// A Table encodes and decodes messages of one generated type. Any number of
// goroutines may use it.
type Table struct {
	words  int     // of the struct
	fields []field // in the order in which they are encoded
	// byNumber has a field's place in fields, plus one, at its number, for
	// numbers up to its length; further has the others.
	byNumber []uint16
	further  map[uint32]uint16
	// unknown is where the struct holds the bytes of fields that nobody knows.
	unknown uintptr
}

// A field is what a table knows of one field.
type field struct {
	off  uintptr // in the struct; of a oneof's case, of the interface that holds it
	tag  uint32  // as it is encoded: number and wire type
	code code
	kind kind // of what a case of a oneof holds
	utf8 bool // a string that must be valid
	one  *oneof
	sub  *message
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
	table *Table
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

// How a struct holds a field: the first of its codes, one for each kind.
const (
	plain    code = iota * kinds // the value, absent if zero; a message's pointer
	pointer                      // a pointer to the value; bytes are absent if nil
	repeated                     // a slice of values, each with a tag
	packed                       // a slice of values in one
	inOneof                      // a wrapper in an interface
)

// For returns the table of m's type, or nil if only package proto can code its
// messages. m may be a nil pointer.
func For(m proto.Message) *Table {
	if t, ok := cache.tables.Load().find(typeOf(m)); ok {
		return t
	}
	return learn(m)
}
