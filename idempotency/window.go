package idempotency

import (
	"sync"
	"time"

	"github.com/hull-go/hull/policy"
)

// window is what one process knows of keys. It decides; it is given the time, and waits for nobody.
type window struct {
	keep     time.Duration
	maxBytes int64

	mu      sync.Mutex
	entries map[string]*entry
	bytes   int64
	taken   map[string]int64 // of those, by scope
	// ended are the entries that have a result, in the order in which they got it, which is that in which they expire.
	first, last *entry
	n           counters
}

// count changes the counters.
func (w *window) count(change func(*counters)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.n)
}

// counters are what Snapshot tells.
type counters struct{ started, replayed, waited, mismatched, full, doubtful, released int64 }

// entry is one key.
type entry struct {
	key     string
	scope   string
	request Fingerprint
	size    int64
	// done is closed when the entry has a result or was forgotten.
	done chan struct{}
	run  *run

	// Set before done is closed.
	result    *Result // nil: it was set free
	expires   policy.Time
	forgotten bool
	next      *entry
}

// decision is what begins for a call with a key.
type decision uint8

const (
	start    decision = iota // it is the first: run it
	replay                   // it has ended: entry.result
	wait                     // it is under way: until entry.done
	mismatch                 // the key belongs to another request
	noRoom                   // no room for another key
)

// What an entry takes beside its key, roughly: itself, its place in the map, a channel; and the least that is kept of a result.
const (
	overhead    = 320
	leastResult = 256
)

// share is how much one scope may take of what the others leave: 7/8, so that none fills the window alone, and whoever comes next finds room for some keys.
const share = 8

// room reports whether a scope may take more.
func (w *window) room(scope string, more int64) bool {
	left := w.maxBytes - (w.bytes - w.taken[scope]) // by the others
	return w.taken[scope]+more <= left-left/share
}

// take gives e more room.
func (w *window) take(e *entry, more int64) {
	e.size += more
	w.bytes += more
	if w.taken[e.scope] += more; w.taken[e.scope] == 0 {
		delete(w.taken, e.scope)
	}
}

// begin decides what a call with that key, of a caller of that scope, does at now. begun makes the run of one that starts.
func (w *window) begin(now policy.Time, key, scope string, request Fingerprint, begun func() *run) (*entry, decision) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expire(now)
	if e := w.entries[key]; e != nil {
		switch {
		case e.request != request:
			w.n.mismatched++
			return nil, mismatch
		case e.result != nil:
			w.n.replayed++
			return e, replay
		}
		w.n.waited++
		return e, wait
	}
	size := int64(overhead + leastResult + 2*len(key))
	if !w.room(scope, size) {
		w.n.full++
		return nil, noRoom
	}
	e := &entry{key: key, scope: scope, request: request, done: make(chan struct{}), run: begun()}
	w.entries[key] = e
	w.take(e, size)
	return e, start
}

// end gives e its result, which nil forgets it, and wakes who waits. now is when its time begins to run.
func (w *window) end(now policy.Time, e *entry, r *Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r == nil {
		w.forget(e)
		close(e.done)
		return
	}
	if r.doubt {
		w.n.doubtful++
	}
	e.result, e.expires = r, now.Add(w.keep)
	more := max(0, r.size()-leastResult)
	if more > 0 && !w.room(e.scope, more) { // the key has its place; what is more of its answer has none
		e.result, more = r.least(), 0
	}
	w.take(e, more)
	if w.last == nil {
		w.first = e
	} else {
		w.last.next = e
	}
	w.last = e
	close(e.done)
}

// expire forgets what has been kept for long enough.
func (w *window) expire(now policy.Time) {
	for e := w.first; e != nil && now >= e.expires; e = w.first {
		if w.first = e.next; w.first == nil {
			w.last = nil
		}
		e.next = nil
		w.forget(e)
	}
}

// forget removes e, once.
func (w *window) forget(e *entry) {
	if e.forgotten {
		return
	}
	e.forgotten = true
	delete(w.entries, e.key)
	w.take(e, -e.size)
}
