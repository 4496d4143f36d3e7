package breaker

import "sync/atomic"

// last holds the latest results of a generation: a ring of one word each and their totals, without a lock. What is in it is exact
// whenever nobody is writing; while several write, the totals may be a few results apart from the ring.
type last struct {
	slots []atomic.Uint32 // generation, and what the result was

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

// add counts a result. One of a generation that is over is dropped.
func (l *last) add(gen uint32, failed, slow bool) {
	gen &= lastGens
	is := gen<<slotBits | slotFilled
	if failed {
		is |= slotFailed
	}
	if slow {
		is |= slotSlow
	}
	s := &l.slots[(l.next.Add(1)-1)%uint64(len(l.slots))]
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
	t := l.totals.Load()
	if uint32(t>>(3*totalBits)) != gen&lastGens {
		return 0, 0, 0
	}
	part := func(i int) int64 { return max(int64(t>>(i*totalBits)&(1<<totalBits-1))-totalBias, 0) }
	return part(0), part(1), part(2)
}
