package admission

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
)

// Method is what a desk knows of one method.
type Method struct {
	name string

	calls ring         // under way, but for those in low
	low   ring         // calls of the lower classes that were lent a part of the reserve, which take nothing of it from critical ones
	keeps atomic.Int64 // the reserve

	lost atomic.Int64 // abandoned and still running

	// What follows belongs to Turn.
	usual float64     // how many calls were under way lately at most
	seen  policy.Time // when there last were any
}

// ring counts calls by the second after which they count as abandoned. Each word holds that second, and how many calls there are with a place in the
// hall and without. The last word is for those that never count as abandoned.
type ring [ringSize + 1]atomic.Uint64

const (
	ringSize  = 64 // seconds, a power of two
	countBits = 20
	countMask = 1<<countBits - 1
	markShift = 2 * countBits
	markMask  = 1<<(64-markShift) - 1
)

// Add makes the desk know a method.
func (d *Desk) Add(name string) *Method {
	m := &Method{name: name}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.methods = append(d.methods, m)
	return m
}

// spot is where a call is counted: a word of the ring and the mark that it has there.
type spot struct {
	mark uint32
	at   uint8
	kind kind
	slot uint16 // of the permit of one that is placed
}

// never is where calls are counted that never count as abandoned.
var never = spot{at: ringSize}

// spotOf returns where a call is counted that begins at now. Without a deadline, or with one that is too far away, it never counts as abandoned.
func spotOf(now, deadline policy.Time, grace time.Duration) spot {
	if deadline == 0 {
		return never
	}
	at := secondOf(deadline.Add(grace)) + 1
	if at-secondOf(now)-1 >= ringSize-2 { // also if it is not ahead
		return never
	}
	return spot{mark: markOf(at), at: uint8(at % ringSize)}
}

// secondOf is which second a moment is in.
func secondOf(t policy.Time) uint64 { return uint64(t) / uint64(time.Second) }

// markOf is never 0, which is the mark of what has been swept.
func markOf(second uint64) uint32 { return max(uint32(second)&markMask, 1) }

// one is a call in a word.
func one(k kind) uint64 {
	if k == placed {
		return 1
	}
	return 1 << countBits
}

// count returns what a word holds.
func count(w uint64) (placed, others int64) {
	return int64(w & countMask), int64(w >> countBits & countMask)
}

func marked(w uint64) uint32 { return uint32(w >> markShift) }

// of returns the ring that calls of a kind are in.
func (m *Method) of(k kind) *ring {
	if k == lent {
		return &m.low
	}
	return &m.calls
}

// begin counts a call and returns where. What is under the mark of another second has been abandoned, but could not be given up: then the call
// is counted where it never will be.
func (m *Method) begin(now, deadline policy.Time, grace time.Duration, k kind) spot {
	s, r := spotOf(now, deadline, grace), m.of(k)
	for {
		w := r[s.at].Load()
		next := w + one(k)
		if marked(w) != s.mark {
			if w<<(64-markShift) != 0 {
				s = never
				continue
			}
			next = uint64(s.mark)<<markShift + one(k)
		}
		if r[s.at].CompareAndSwap(w, next) {
			s.kind = k
			return s
		}
	}
}

// end takes a call out again. It returns false if it was abandoned.
func (m *Method) end(s spot, k kind) bool {
	r := m.of(k)
	for {
		w := r[s.at].Load()
		if n := w & (one(k) * countMask); marked(w) != s.mark || n == 0 {
			m.lost.Add(-1)
			return false
		}
		if r[s.at].CompareAndSwap(w, w-one(k)) {
			return true
		}
	}
}

type swept struct{ placed, others int64 }

// sweep gives up the calls whose time was over by now, second by second while room allows. left says that it did not.
func (m *Method) sweep(now policy.Time, room int64) (swept, bool) {
	n, left := m.calls.sweep(now, room, &m.lost)
	low, more := m.low.sweep(now, room-n.placed-n.others, &m.lost)
	return swept{n.placed, n.others + low.others}, left || more
}

func (r *ring) sweep(now policy.Time, room int64, lost *atomic.Int64) (n swept, left bool) {
	second := secondOf(now)
	for i := range ringSize {
		w := r[i].Load()
		if w<<(64-markShift) == 0 {
			continue
		}
		// The mark lies less than a turn of the ring ahead of now, or it is past.
		if ahead := (marked(w) - markOf(second)) & markMask; ahead > 0 && ahead <= ringSize {
			continue
		}
		placed, others := count(w)
		if placed+others > room {
			left = true
			continue
		}
		if r[i].CompareAndSwap(w, 0) {
			lost.Add(placed + others)
			room -= placed + others
			n.placed += placed
			n.others += others
		}
	}
	return n, left
}

// running is how many calls are under way that have not been abandoned: with a place in the hall, and without.
func (r *ring) running() (hall, others int64) {
	for i := range r {
		h, o := count(r[i].Load())
		hall, others = hall+h, others+o
	}
	return hall, others
}

// entitled says as what a call may run although the hall is full, if a method may keep share, and where stands says that nobody leaves it; none if it may
// not. Critical calls have the whole reserve, whatever the lower classes do: these are lent a quarter of it beside them, or one place, and nothing while
// critical calls need it all.
func (m *Method) entitled(c *policy.Call, share int64, stands bool) kind {
	keeps, critical := min(m.keeps.Load(), share), c.Criticality == policy.Critical || c.Criticality == policy.CriticalPlus
	if keeps == 0 || !critical && !stands {
		return none
	}
	hall, others := m.calls.running()
	if critical {
		if hall+others < keeps {
			return reserved
		}
		return none
	}
	if _, low := m.low.running(); low < max(1, keeps/4) && hall+others+low < keeps {
		return lent
	}
	return none
}

const (
	// usualLasts is after how long the memory of how many calls a method had is down to a third.
	usualLasts = 10 * time.Second
	// activeFor is how long a method counts as active after its last call.
	activeFor = 10 * time.Second
)

// look remembers how many calls are under way, and reports whether there have been any lately.
func (m *Method) look(now policy.Time, took time.Duration) bool {
	hall, others := m.calls.running()
	_, low := m.low.running()
	n := float64(hall + others + low)
	if n > 0 {
		m.seen = now
	}
	m.usual = max(n, m.usual*math.Exp(-float64(min(max(took, 0), time.Minute))/float64(usualLasts)))
	return m.seen != 0 && now.Sub(m.seen) <= activeFor
}

// keep sets the reserve: what is usual, a quarter more and one, but no more than share.
func (m *Method) keep(share int) {
	m.keeps.Store(int64(min(math.Ceil(m.usual*1.25)+1, float64(share))))
}

// MethodSnapshot is a reading of a method.
type MethodSnapshot struct {
	Name string
	// Running calls, Reserved of them in the method's reserve of Reserve, or lent a quarter of it beside that. Abandoned ones run beside those.
	Running, Reserved, Reserve, Abandoned int64
}

func (m *Method) snapshot() MethodSnapshot {
	hall, others := m.calls.running()
	_, low := m.low.running()
	return MethodSnapshot{Name: m.name, Running: hall + others + low, Reserved: others + low, Reserve: m.keeps.Load(), Abandoned: m.lost.Load()}
}

// rootShed reports whether a root request is among the share that is shed, the same ones everywhere; a call without one is left to chance.
func rootShed(root uint64, chance uint64, share float64) bool {
	if root != 0 {
		hi, lo := bits.Mul64(root^0x6a09e667f3bcc909, 0xbb67ae8584caa73b)
		chance = hi ^ lo
	}
	return float64(chance>>11)/(1<<53) < share
}
