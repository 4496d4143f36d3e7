package prototable

import (
	"reflect"
	"sync"
	"sync/atomic"
	"unsafe"
)

// cache holds the tables of all types that were asked for: what follows from
// the types alone. A program has only so many, and no table ever changes.
var cache struct {
	tables atomic.Pointer[index]
	mu     sync.Mutex // held to add to them
}

// An index finds tables by types, as a hash table with open addressing that is
// never changed: every message that is encoded or decoded looks for its own.
type index struct {
	slots []slot // a power of two of them, some free
	used  int
}

type slot struct {
	typ uintptr // 0 if free
	t   *table  // nil for types that have none
}

// typeOf returns the word by which an interface tells which type of value it holds: the address of
// what the runtime keeps for ever about it. It is 0 for nil.
func typeOf(v any) uintptr {
	return *(*uintptr)(unsafe.Pointer(&v))
}

// pointerOf returns the pointer that v is, one of a type that has a table.
func pointerOf(v any) unsafe.Pointer {
	return (*[2]unsafe.Pointer)(unsafe.Pointer(&v))[1]
}

// near is tableFor for types whose slot is where it is looked for first, as that of nearly all is; else it reports false.
func near(v any) (t *table, ok bool) {
	if x := cache.tables.Load(); x != nil {
		s := &x.slots[x.home(typeOf(v))]
		return s.t, s.typ == typeOf(v)
	}
	return nil, false
}

// tableFor returns the table of v's type, or nil if only package proto can code its values, if
// anybody can. v may be nil, or a nil pointer.
func tableFor(v any) *table {
	if t, ok := cache.tables.Load().find(typeOf(v)); ok {
		return t
	}
	return learn(v)
}

// home returns where in x's slots typ is looked for first.
func (x *index) home(typ uintptr) int {
	return int(typ>>4^typ>>12) & (len(x.slots) - 1) // the addresses lie close to each other, and are even
}

// place returns where typ is in x's slots, or belongs.
func (x *index) place(typ uintptr) int {
	i := x.home(typ)
	for x.slots[i].typ != 0 && x.slots[i].typ != typ {
		i = (i + 1) & (len(x.slots) - 1)
	}
	return i
}

// find returns typ's table. A nil index is empty.
func (x *index) find(typ uintptr) (t *table, ok bool) {
	if x == nil {
		return nil, false
	}
	s := &x.slots[x.place(typ)]
	return s.t, s.typ != 0
}

// with returns an index that has a table more.
func (x *index) with(typ uintptr, t *table) *index {
	more := &index{slots: make([]slot, 16)}
	if x != nil {
		size := len(x.slots)
		if x.used*2 >= size {
			size *= 2
		}
		more.slots = make([]slot, size)
		for _, s := range x.slots {
			if s.typ != 0 {
				more.add(s)
			}
		}
	}
	more.add(slot{typ, t})
	return more
}

func (x *index) add(s slot) {
	x.slots[x.place(s.typ)] = s
	x.used++
}

// learn makes the table of v's type.
func learn(v any) *table {
	if v == nil {
		return nil
	}
	cache.mu.Lock()
	defer cache.mu.Unlock()
	x := cache.tables.Load()
	if t, ok := x.find(typeOf(v)); ok { // since it was looked for
		return t
	}
	t := tableOf(reflect.TypeOf(v))
	cache.tables.Store(x.with(typeOf(v), t))
	return t
}
