package idempotency

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/hull-go/hull/policy"
)

// Fingerprint tells requests apart: the same key with another request is a mistake.
type Fingerprint [sha256.Size]byte

// window is what one process knows of keys. It decides; it is given the time, and waits for nobody.
type window struct {
	keep     time.Duration
	maxBytes int64

	mu      sync.Mutex
	entries map[string]*entry
	bytes   int64
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

// begin decides what a call with that key does at now. begun makes the run of one that starts.
func (w *window) begin(now policy.Time, key string, request Fingerprint, begun func() *run) (*entry, decision) {
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
	if w.bytes+size > w.maxBytes {
		w.n.full++
		return nil, noRoom
	}
	e := &entry{key: key, request: request, size: size, done: make(chan struct{}), run: begun()}
	w.entries[key], w.bytes = e, w.bytes+size
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
	if w.bytes+more > w.maxBytes { // the key has its place; its answer has none
		e.result, more = r.least(), 0
	}
	e.size += more
	w.bytes += more
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
	w.bytes -= e.size
}
