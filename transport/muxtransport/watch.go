package muxtransport

import (
	"sync"
	"sync/atomic"
	"time"
)

// watchInterval is how long a handler may hold the reader, or a write the caller that makes it, before another goroutine
// takes the role over. It acts after one to two intervals.
const watchInterval = time.Millisecond

// watched is a connection under watch. look acts on what has not moved since the last look; it returns false when nothing
// is under way that could get stuck.
type watched interface{ look() bool }

// watch looks after connections on which something is under way that can get stuck. It runs only while there are any, and
// has no goroutine of its own between two looks. The zero value is ready.
type watch struct {
	mu    sync.Mutex
	conns []*watchEntry
	timer *time.Timer
	armed bool
}

// watchEntry is a connection's place in the watch.
type watchEntry struct {
	hot  atomic.Bool // in the list
	conn watched
}

// add begins to watch e's connection, unless it is watched already.
func (w *watch) add(e *watchEntry) {
	if !e.hot.CompareAndSwap(false, true) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns = append(w.conns, e)
	w.arm()
}

func (w *watch) arm() {
	if w.armed {
		return
	}
	w.armed = true
	if w.timer == nil {
		w.timer = time.AfterFunc(watchInterval, w.tick)
	} else {
		w.timer.Reset(watchInterval)
	}
}

func (w *watch) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	keep := w.conns[:0]
	for _, e := range w.conns {
		if e.conn.look() {
			keep = append(keep, e)
			continue
		}
		e.hot.Store(false)
		// What began between the look and the line above found hot set and did not add itself.
		if e.conn.look() && e.hot.CompareAndSwap(false, true) {
			keep = append(keep, e)
		}
	}
	clear(w.conns[len(keep):])
	w.conns = keep
	w.armed = false
	if len(keep) > 0 {
		w.arm()
	}
}
