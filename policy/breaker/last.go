package breaker

import (
	"runtime"
	"sync/atomic"

	"github.com/hull-go/hull/internal/stripe"
)

// last holds the latest results of a generation: a ring of one word each and their totals, without a lock. What is in it is exact
// whenever nobody is writing; while several write, the totals may be a few results apart from the ring.
//
// Where processors have met, each saves up a few good results before it writes them into the ring. Good results are all alike, and before a
// failed or slow one is written all that were saved up are, so nobody can tell: who comes after whom is only a question between good and bad.
type last struct {
	slots  []atomic.Uint32 // generation, and what the result was
	saved  atomic.Pointer[[stripe.N]good]
	choice stripe.Choice

	_    [64]byte // what follows is written all the time
	next atomic.Uint64
	_    [56]byte
	// totals is a generation and, biased so that none borrows from the next, how many slots it has filled, how many of them
	// with a failure and how many with a slow call.
	totals atomic.Uint64
}

// maxLast bounds LastCalls: totals have room for more, and a breaker that looks further back than that sees nothing new.
const maxLast = 10_000

// What a slot says, below the generation.
const (
	slotFilled = 1 << iota
	slotFailed
	slotSlow
	slotBits = iota
)

const (
	totalBits = 16
	totalBias = 1 << (totalBits - 1)
	noTotals  = totalBias | totalBias<<totalBits | totalBias<<(2*totalBits)
	lastGens  = 1<<(64-3*totalBits) - 1
)

func newLast(n int) *last {
	l := &last{slots: make([]atomic.Uint32, n)}
	l.begin(0)
	return l
}

// begin empties it for generation gen. It must be called before the generation's first result, and by one at a time.
func (l *last) begin(gen uint32) { l.totals.Store(uint64(gen&lastGens)<<(3*totalBits) | noTotals) }

// good is how many good results a processor has saved up, in the lower half, and of which generation.
type good struct {
	n atomic.Uint64
	_ [56]byte // a cache line for each
}

// savedMost is after how many good results they are written.
const savedMost = 8

// add counts a result. One of a generation that is over is dropped.
func (l *last) add(gen uint32, failed, slow bool) {
	if failed || slow {
		l.writeSaved(gen)
		l.write(gen, slotOf(failed, slow), 1)
		return
	}
	saved := l.saved.Load()
	if saved == nil {
		l.write(gen, slotFilled, 1)
		return
	}
	who := stripe.Here()
	n := &saved[l.choice.Of(who)].n
	for {
		v := n.Load()
		next := v + 1
		switch of := uint32(v >> 32); {
		case of == gen && uint32(v) == savedMost-1:
			next = v &^ (1<<32 - 1)
		case of != gen && int32(gen-of) < 0:
			return
		case of != gen:
			next = uint64(gen)<<32 | 1
		}
		if n.CompareAndSwap(v, next) {
			if uint32(next) == 0 {
				l.write(gen, slotFilled, savedMost)
			}
			return
		}
		l.choice.Met(who)
	}
}

// slotOf is what a slot says of a result, without its generation.
func slotOf(failed, slow bool) uint32 {
	is := uint32(slotFilled)
	if failed {
		is |= slotFailed
	}
	if slow {
		is |= slotSlow
	}
	return is
}

// writeSaved writes the good results of generation gen that were saved up.
func (l *last) writeSaved(gen uint32) {
	saved := l.saved.Load()
	if saved == nil {
		return
	}
	for i := range saved {
		n := &saved[i].n
		for {
			v := n.Load()
			if uint32(v>>32) != gen || uint32(v) == 0 {
				break
			}
			if n.CompareAndSwap(v, uint64(gen)<<32) {
				l.write(gen, slotFilled, uint64(uint32(v)))
				break
			}
		}
	}
}

// write writes the same result so many times.
func (l *last) write(gen, is uint32, times uint64) {
	gen &= lastGens
	is |= gen << slotBits
	at := l.next.Load()
	if !l.next.CompareAndSwap(at, at+times) {
		at = l.next.Add(times) - times
		if l.saved.Load() == nil && runtime.GOMAXPROCS(0) > 1 {
			l.save()
		}
	}
	for ; times > 0; times-- {
		l.set(&l.slots[at%uint64(len(l.slots))], gen, is)
		at++
	}
}

// save begins to save up.
func (l *last) save() { l.saved.CompareAndSwap(nil, new([stripe.N]good)) }

func (l *last) set(s *atomic.Uint32, gen, is uint32) {
	for {
		was := s.Load()
		if was == is {
			return
		}
		// Asked after the slot was read: then the slot holds nothing of a later generation.
		if uint32(l.totals.Load()>>(3*totalBits)) != gen {
			return
		}
		if !s.CompareAndSwap(was, is) {
			continue
		}
		d := diff(is)
		if was>>slotBits == gen {
			d -= diff(was)
		}
		l.change(gen, d)
		return
	}
}

// diff is what a slot adds to the totals.
func diff(slot uint32) uint64 {
	return uint64(slot&slotFilled) | uint64(slot&slotFailed/slotFailed)<<totalBits | uint64(slot&slotSlow/slotSlow)<<(2*totalBits)
}

// change adds d to the totals of gen, if that is still the generation.
func (l *last) change(gen uint32, d uint64) {
	for {
		t := l.totals.Load()
		if uint32(t>>(3*totalBits)) != gen || l.totals.CompareAndSwap(t, t+d) {
			return
		}
	}
}

// sum returns how many of the latest results there are in generation gen, and how many of them failed or were slow.
func (l *last) sum(gen uint32) (calls, failed, slow int64) {
	l.writeSaved(gen)
	t := l.totals.Load()
	if uint32(t>>(3*totalBits)) != gen&lastGens {
		return 0, 0, 0
	}
	part := func(i int) int64 { return max(int64(t>>(i*totalBits)&(1<<totalBits-1))-totalBias, 0) }
	return part(0), part(1), part(2)
}
