package concurrency

import "github.com/hull-go/hull/policy"

// line is a doubly linked list in a slice, so that anyone can leave at once and nothing is allocated once it has grown.
// The zero value is empty. The limiter's mutex guards it.
type line struct {
	seats []seat // seats[0] is the list's head: its next is the first, its prev the last; free ones hang on free
	free  int32
}

// seat is a place in the line.
type seat struct {
	who          policy.Waiting
	since, until policy.Time
	next, prev   int32
	gen          uint32 // odd while taken; a ticket names seat and generation
}

// none is the index of the list's head: no seat.
const none = 0

func (l *line) first() int32 {
	if len(l.seats) == 0 {
		return none
	}
	return l.seats[0].next
}

func (l *line) last() int32 {
	if len(l.seats) == 0 {
		return none
	}
	return l.seats[0].prev
}

// push puts s at the end.
func (l *line) push(s seat) policy.Ticket {
	if len(l.seats) == 0 {
		l.seats = append(l.seats, seat{})
	}
	i := l.free
	if i == none {
		i = int32(len(l.seats))
		l.seats = append(l.seats, seat{})
	} else {
		l.free = l.seats[i].next
	}
	s.gen = l.seats[i].gen + 1
	s.next, s.prev = none, l.seats[0].prev
	l.seats[i] = s
	l.seats[s.prev].next = i
	l.seats[0].prev = i
	return policy.Ticket(s.gen)<<32 | policy.Ticket(i)
}

// find returns the seat that t names, if it is still taken.
func (l *line) find(t policy.Ticket) (int32, bool) {
	i, gen := uint32(t), uint32(t>>32)
	if i == none || uint64(i) >= uint64(len(l.seats)) || gen%2 == 0 || l.seats[i].gen != gen {
		return none, false
	}
	return int32(i), true
}

// remove frees seat i and returns what it held.
func (l *line) remove(i int32) seat {
	s := l.seats[i]
	l.seats[s.prev].next = s.next
	l.seats[s.next].prev = s.prev
	l.seats[i] = seat{next: l.free, gen: s.gen + 1}
	l.free = i
	return s
}
