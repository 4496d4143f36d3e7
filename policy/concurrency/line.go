package concurrency

import "github.com/hull-go/hull/policy"

// lines are doubly linked lists in one slice, so that anyone can leave at once and nothing is allocated once it has grown.
// The limiter's mutex guards them.
type lines struct {
	seats []seat // the first numLists are the lists' heads: next is the first, prev the last; free ones hang on free
	free  int32
}

// seat is a place in a line.
type seat struct {
	who          policy.Waiting
	since, until policy.Time
	deadline     policy.Time // of the call; 0 = none
	next, prev   int32
	gen          uint32 // odd while taken; a ticket names seat and generation
	list         uint8
}

// none is no seat: the index of a head.
const none = 0

// init makes the lists empty.
func (l *lines) init() {
	l.seats = make([]seat, numLists)
	for i := range l.seats {
		l.seats[i].next, l.seats[i].prev = int32(i), int32(i)
	}
}

func (l *lines) empty(list int) bool { return l.seats[list].next < numLists }

// first is who came first, or none.
func (l *lines) first(list int) int32 {
	if i := l.seats[list].next; i >= numLists {
		return i
	}
	return none
}

// last is who came last, or none.
func (l *lines) last(list int) int32 {
	if i := l.seats[list].prev; i >= numLists {
		return i
	}
	return none
}

// push puts s at the end of a list.
func (l *lines) push(list int, s seat) policy.Ticket {
	i := l.free
	if i == none {
		i = int32(len(l.seats))
		l.seats = append(l.seats, seat{})
	} else {
		l.free = l.seats[i].next
	}
	s.gen = l.seats[i].gen + 1
	l.seats[i] = s
	l.link(list, i)
	return policy.Ticket(s.gen)<<32 | policy.Ticket(i)
}

func (l *lines) link(list int, i int32) {
	s := &l.seats[i]
	s.list, s.next, s.prev = uint8(list), int32(list), l.seats[list].prev
	l.seats[s.prev].next = i
	l.seats[list].prev = i
}

func (l *lines) unlink(i int32) {
	s := &l.seats[i]
	l.seats[s.prev].next = s.next
	l.seats[s.next].prev = s.prev
}

// move puts seat i at the end of another list. Its ticket stays good.
func (l *lines) move(i int32, list int) {
	l.unlink(i)
	l.link(list, i)
}

// find returns the seat that t names, if it is still taken.
func (l *lines) find(t policy.Ticket) (int32, bool) {
	i, gen := uint32(t), uint32(t>>32)
	if i < numLists || uint64(i) >= uint64(len(l.seats)) || gen%2 == 0 || l.seats[i].gen != gen {
		return none, false
	}
	return int32(i), true
}

// remove frees seat i and returns what it held.
func (l *lines) remove(i int32) seat {
	s := l.seats[i]
	l.unlink(i)
	l.seats[i] = seat{next: l.free, gen: s.gen + 1}
	l.free = i
	return s
}
