package concurrency

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/internal/stripe"
	"github.com/hull-go/hull/policy"
)

// desk is where Done leaves a place for the next Admit on the same processor, so that processors that take and give back places all
// the time do not fight over the limiter's word. For the word a place at a desk is taken: there are never more than Limit in use.
//
// Desks are open only while half of the places or more are free and nobody waits. Whoever finds no place in the word shuts them: what
// lies there comes back into the word, and while they are shut every place is there. So nobody is refused or parked while a place is
// free, and no wake-up is lost: desks open and shut with the mutex held, a waiter is counted with the mutex held and only after they were
// shut, and they stay shut as long as one is counted. Whoever gives a place back meanwhile finds the desk shut, be it at the last moment
// by a compare-and-swap that fails, and goes on to the word, where he sees the waiter or the waiter sees the place.
type desk struct {
	places atomic.Uint32 // that lie here, or shut
	looked atomic.Int64  // when somebody last counted what is in use
	_      [48]byte      // a cache line for each
}

// desks are a limiter's. What is first is not written all the time: Go looks there to find out whether there are desks at all.
type desks struct {
	stripe.Choice
	_  [56]byte
	of [stripe.N]desk
}

const (
	shut = 1 << 31
	// keepShift and keepMost are how many places a desk keeps at most: one in 16, and 16. The desks together thus hold back no more than a
	// quarter of the places, and none of fewer than 16.
	keepShift = 4
	keepMost  = 16
)

// atDesk is Admit at the desk of this processor. If no place lies there, a place from elsewhere may be left there later: the
// permit's Slot says where.
func (l *Limiter) atDesk(now policy.Time, desks *desks) (policy.Permit, bool) {
	who := stripe.Here()
	i := desks.Of(who)
	d, p := &desks.of[i], policy.Permit{Start: now, Slot: uint32(i)}
	v := d.places.Load()
	if v-1 >= shut-1 {
		return p, false
	}
	if !d.places.CompareAndSwap(v, v-1) {
		desks.Met(who)
		return p, false
	}
	if l.source != nil && l.isStale(now, &l.quiet) {
		l.findQuiet(now, d)
	}
	return p, true
}

// leave leaves a place at the desk, if it is open and has room.
func (l *Limiter) leave(d *desk) bool {
	v := d.places.Load()
	return v < l.keep() && d.places.CompareAndSwap(v, v+1)
}

// keep is how many places a desk keeps.
func (l *Limiter) keep() uint32 {
	return min(uint32(l.caps.Load()&lower)>>l.keepShift, keepMost)
}

// met makes the desks: two processors have met in the word. A source that is somebody else's gets exact numbers of places in use.
func (l *Limiter) met() {
	if _, own := l.source.(*AIMD); l.desks.Load() == nil && l.keep() > 0 && (l.source == nil || own || l.arms != nil) && runtime.GOMAXPROCS(0) > 1 {
		l.makeDesks()
	}
}

func (l *Limiter) makeDesks() {
	all := new(desks)
	for i := range all.of {
		all.of[i].places.Store(shut)
	}
	l.desks.CompareAndSwap(nil, all)
}

// lend opens the desks if half of the places are free.
func (l *Limiter) lend() {
	if !l.mu.TryLock() {
		return // it can wait
	}
	defer l.mu.Unlock()
	caps := l.caps.Load()
	if l.lends.Load()%2 != 0 || 2*l.word.Load() > caps&lower || l.comparing() {
		return
	}
	l.lends.Add(1) // before there is anything to miss
	desks := l.desks.Load()
	for i := range desks.of {
		desks.of[i].places.Store(0)
	}
	// Who lowers the limit, or begins to compare, looks at lends afterwards: one of the two sees the other.
	if l.caps.Load()&lower < caps&lower || l.comparing() {
		l.collect()
	}
}

// comparing reports whether the source needs to know exactly how many places are in use.
func (l *Limiter) comparing() bool { return l.arms != nil && l.arms.comparing.Load() }

// certain reports whether the word, which said that no place is free, is all there is. If it is not, it is now: ask it again.
func (l *Limiter) certain() bool {
	switch seq := l.lends.Load(); {
	case seq == 0:
		return true
	case seq%2 != 0:
		l.recall()
		return false
	default: // they were shut, perhaps only after the word was read
		return l.word.Load() >= l.caps.Load()&lower && l.lends.Load() == seq
	}
}

// recall shuts the desks if they are open.
func (l *Limiter) recall() {
	if l.lends.Load()%2 == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.collect()
}

// collect shuts the desks if they are open, and brings back what lies there. The mutex is held.
func (l *Limiter) collect() {
	if l.lends.Load()%2 == 0 {
		return
	}
	desks, n := l.desks.Load(), uint64(0)
	for i := range desks.of {
		n += uint64(desks.of[i].places.Swap(shut) &^ shut)
	}
	for {
		w := l.word.Load()
		if l.word.CompareAndSwap(w, w-min(n, w&lower)) { // more only if places were given back twice
			break
		}
	}
	l.lends.Add(1) // only now is it all in the word
}

// inUse counts the places in use. While others take and give back, it may be off by as many as do.
func (l *Limiter) inUse() int {
	n := int(l.word.Load() & lower)
	if l.lends.Load()%2 != 0 {
		desks := l.desks.Load()
		for i := range desks.of {
			n -= int(desks.of[i].places.Load() &^ shut)
		}
	}
	return max(n, 0)
}

// roughly is how many places are in use for a source that does not care as long as they are less than half; then it may be too many.
func (l *Limiter) roughly() int {
	if n := l.word.Load() & lower; l.arms != nil || 2*n < l.caps.Load()&lower {
		return int(n)
	}
	return l.inUse()
}

// isStale reports whether a time that is kept to an eighth of Interval is due to be set again. Further back than Interval: the clock
// went back, not a call that was held up.
func (l *Limiter) isStale(now policy.Time, t *atomic.Int64) bool {
	d := time.Duration(int64(now) - t.Load())
	return uint64(d+l.opt.Interval) > uint64(l.fresh) // d is between −Interval and an eighth of it
}

// findQuiet sets quiet if half of the places or more are free, counting those at the desks, which is not done more often than quiet is set.
func (l *Limiter) findQuiet(now policy.Time, d *desk) {
	if !l.isStale(now, &d.looked) {
		return
	}
	d.looked.Store(int64(now))
	if 2*uint64(l.inUse()-1) <= l.caps.Load()&lower {
		l.quiet.Store(int64(now))
	}
}
