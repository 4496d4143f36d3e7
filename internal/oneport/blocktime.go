package oneport

import (
	"sync"
	"time"
)

// blockParts is in how many parts the time for a header's block is counted.
const blockParts = 20

// stall is how late a timer is if the process stood still.
const stall = 250 * time.Millisecond

// blockTime bounds how long a peer may take to send a header's block, which no server does. Only what the server spends in reads counts, since a peer can do
// nothing about one that does not read on. Of the time that the process stands still, in which nobody knows what comes, a slice counts at most.
type blockTime struct {
	limit time.Duration
	late  func() // called once, when the time is up

	mu      sync.Mutex
	timer   *time.Timer
	reading bool
	over    bool
	since   time.Time     // when the present slice began
	slice   time.Duration // how long that is
	spent   time.Duration // before it
}

// anew is called when a block begins, outside of reads.
func (t *blockTime) anew() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.spent = 0
}

// begin is called before a read that a block waits for.
func (t *blockTime) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.reading = true
		t.next()
	}
}

// end is called as soon as the read is over: what it has brought came in time.
func (t *blockTime) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reading {
		t.reading = false
		t.timer.Stop()
		t.spent += min(time.Since(t.since), t.slice)
	}
}

// next begins a slice. mu is held.
func (t *blockTime) next() {
	t.since, t.slice = time.Now(), min(t.part(), max(t.limit-t.spent, 0))
	if t.timer == nil {
		t.timer = time.AfterFunc(t.slice, t.fire)
	} else {
		t.timer.Reset(t.slice)
	}
}

func (t *blockTime) part() time.Duration { return t.limit/blockParts + 1 }

// fire ends a slice.
func (t *blockTime) fire() {
	t.mu.Lock()
	took := time.Since(t.since)
	if !t.reading || t.over || took < t.slice { // the timer of a read that is over
		t.mu.Unlock()
		return
	}
	t.spent += t.slice
	if took >= t.slice+stall { // first it reads what has come meanwhile
		t.spent = min(t.spent, t.limit-t.part())
	}
	if t.over = t.spent >= t.limit; !t.over {
		t.next()
	}
	over := t.over
	t.mu.Unlock()
	if over {
		t.late()
	}
}
