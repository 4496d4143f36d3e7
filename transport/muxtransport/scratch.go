package muxtransport

// Large messages are put together in buffers that are used again: what makes them slow is not the copying but fresh memory.

// keepScratch is the largest buffer that a call keeps for the next one; larger ones are shared by all.
const keepScratch = 16 << 10

// maxAhead is how much room is made at most for what the other side says it is going to send.
const maxAhead = 1 << 20

// room returns a buffer of length 0 that has room for n bytes, if they are not too many to believe in: b, or a larger one.
func (s *shared) room(b []byte, n int) []byte {
	if n <= cap(b) || n <= keepScratch {
		return b[:0]
	}
	if p, ok := s.large.Get().(*[]byte); ok {
		if n <= cap(*p) || cap(*p) >= maxAhead {
			return (*p)[:0]
		}
	}
	size := 2 * keepScratch
	for size < min(n, maxAhead) {
		size *= 2
	}
	return make([]byte, 0, size)
}

// keep returns what of b its owner keeps for the next message: b, or nothing if it is large, which then is for everybody.
func (s *shared) keep(b []byte) []byte {
	if cap(b) <= keepScratch {
		return b
	}
	if cap(b) <= 4*maxAhead {
		large := b[:0] // a variable of its own: the parameter would be allocated for each small message too
		s.large.Put(&large)
	}
	return nil
}
