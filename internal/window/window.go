// Package window counts events in a sliding window of time: a ring of buckets that needs no lock and no upkeep.
//
// Each counter is one word that carries, beside its count, the tag of the time and of the generation it belongs to. A
// counter whose tag is not the one asked for is empty, whatever it holds: nothing has to be cleared when time passes or
// when a policy starts afresh, and an event of an older generation cannot slip into the new count.
package window

import (
	"math"
	"math/bits"
	"sync/atomic"

	"github.com/hull-go/hull/internal/stripe"
)

// Kinds is how many kinds of event a Ring can tell apart.
const Kinds = 4

// MinBucket is the shortest bucket in nanoseconds. Tags of shorter ones would come round too soon.
const MinBucket = 1_000_000

const (
	countBits = 32
	epochBits = 20
	epochMask = 1<<epochBits - 1
	genMask   = 1<<(32-epochBits) - 1
)

// Ring is the window. It is made by New and safe for concurrent use.
type Ring struct {
	inverse uint64 // of a bucket's length, as a fraction of 2⁶⁴
	n       int    // buckets in the window
	mask    uint64
	kinds   int
	cells   []cell // a power of two, so that finding one needs no division

	// Where processors have met in a cell: the same cells for each stripe, so that they do not meet again. nil = not yet.
	spread atomic.Pointer[[stripe.N][]cell]
	choice stripe.Choice
}

type cell [Kinds]word

type word struct{ atomic.Uint64 }

// New returns a ring over length nanoseconds in n buckets that tells apart kinds kinds of event. The bucket that is being
// filled counts as whole, so what is seen reaches back between length·(n−1)/n and length.
func New(length int64, n, kinds int) *Ring {
	bucket := uint64(max(length/int64(n), MinBucket))
	return &Ring{
		inverse: math.MaxUint64/bucket + 1,
		n:       n,
		mask:    1<<bits.Len(uint(n-1)) - 1,
		kinds:   kinds,
		cells:   make([]cell, 1<<bits.Len(uint(n-1))),
	}
}

// epoch numbers the bucket of now. Multiplying by the inverse is several times faster than dividing.
func (r *Ring) epoch(now int64) uint64 {
	e, _ := bits.Mul64(uint64(now), r.inverse)
	return e
}

// tag is what a counter of the generation and the bucket carries above its count.
func tag(gen uint32, epoch uint64) uint64 {
	return uint64(gen)<<(countBits+epochBits) | (epoch&epochMask)<<countBits
}

// Add counts one event of the kind at now in generation gen. Times that come in slightly out of order are counted where they belong.
func (r *Ring) Add(now int64, gen uint32, kind int) {
	e := r.epoch(now)
	t := tag(gen, e)
	if r.spread.Load() != nil {
		r.addApart(e, t, kind)
		return
	}
	w := &r.cells[e&r.mask][kind]
	if v := w.Load(); v-t >= full || !w.CompareAndSwap(v, v+1) {
		r.addOther(w, t, v)
	}
}

// full is how many events a counter counts: 4 billion.
const full = math.MaxUint32

// addOther is Add for a counter that is another's, full, or, having been v, no longer so.
func (r *Ring) addOther(w *word, t, v uint64) {
	if !w.add(t) || v-t < full {
		r.spreadOut()
	}
}

// addApart is Add where each stripe has cells of its own.
func (r *Ring) addApart(e, t uint64, kind int) {
	who := stripe.Here()
	if !r.spread.Load()[r.choice.Of(who)][e&r.mask][kind].add(t) {
		r.choice.Met(who)
	}
}

// add counts one event. It reports whether nobody else did at the same moment.
func (w *word) add(t uint64) (alone bool) {
	for alone = true; ; alone = false {
		v := w.Load()
		next := v + 1
		if v-t > full { // it carries another tag
			next = t | 1
		} else if v-t == full {
			return true // full is full
		}
		if w.CompareAndSwap(v, next) {
			return alone
		}
	}
}

// spreadOut gives every stripe cells of its own. What has been counted stays where it is.
func (r *Ring) spreadOut() {
	var s [stripe.N][]cell
	for i := range s {
		s[i] = make([]cell, len(r.cells))
	}
	r.spread.CompareAndSwap(nil, &s)
}

// Sum returns the events of generation gen in the window that ends at now, by kind.
func (r *Ring) Sum(now int64, gen uint32) (s [Kinds]int64) {
	r.sum(r.cells, now, gen, &s)
	if spread := r.spread.Load(); spread != nil {
		for _, cells := range spread {
			r.sum(cells, now, gen, &s)
		}
	}
	return s
}

func (r *Ring) sum(cells []cell, now int64, gen uint32, s *[Kinds]int64) {
	e := r.epoch(now)
	for range r.n {
		c := &cells[e&r.mask]
		t := tag(gen, e)
		for k := range r.kinds {
			if n := c[k].Load() - t; n <= full {
				s[k&(Kinds-1)] += int64(n)
			}
		}
		e--
	}
}
