package muxtransport

import (
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
)

// queue holds the unary calls that wait for a goroutine. Those of quick handlers are run by few goroutines, one after the
// other, whose stacks have grown already; a handler that takes long or waits never keeps the next one from starting: while
// the queue is not empty, a goroutine that has not taken a call yet is on its way. The link's mutex guards it.
type queue struct {
	first, last *serverCall
	starting    bool // a goroutine is on its way
	// beat is when something was last put in or taken out. With calls in the queue that happens all the time, so that a
	// pause means that this process stood still.
	beat policy.Time

	// held are calls that may have been given up already, which the rest of what has been received will tell. holding says
	// that there are any; heldSince is when the first of them was put there.
	held      []*serverCall
	heldSince policy.Time
	holding   atomic.Bool
}

const (
	// stalledAge is how long a request may have been on its way, or a process done nothing, to be nothing out of the ordinary.
	stalledAge = 50 * time.Millisecond
	// maxHeld is how long calls are held at most, whatever keeps coming in.
	maxHeld = 100 * time.Millisecond
)

// late reports whether ca was kept from starting for so long that its caller may have cancelled it: then what else has been
// received is read first. It runs with the reader's role.
func (c *serverConn) late(ca *serverCall) bool {
	if ca.age+c.clock.Sub(ca.in.Received) > stalledAge {
		return true
	}
	// A request that was not on its way for long comes after everything that was.
	if c.holding.Load() && ca.age < stalledAge/2 {
		c.releaseHeld()
	}
	return false
}

// enqueue puts ca into the queue. mu is held. It reports whether the caller must start a goroutine for work.
func (c *serverConn) enqueue(ca *serverCall, now policy.Time) (spawn bool) {
	if c.last == nil {
		c.first = ca
		c.beat = now
	} else {
		c.last.next = ca
	}
	c.last = ca
	spawn = !c.starting
	c.starting = true
	return spawn
}

// work takes calls from the queue until it is empty.
func (c *serverConn) work() {
	c.mu.Lock()
	c.starting = false
	for c.first != nil {
		now := policy.Now()
		if now.Sub(c.beat) > stalledAge && !c.first.held && c.cause == nil {
			c.holdQueue()
			break
		}
		c.beat = now
		ca := c.first
		if c.first = ca.next; c.first == nil {
			c.last = nil
		}
		ca.next = nil
		spawn := c.first != nil && !c.starting
		c.starting = c.starting || spawn
		c.mu.Unlock()
		if spawn {
			go c.work()
		}
		c.run(ca, now)
		c.mu.Lock()
	}
	c.mu.Unlock()
}

// hold keeps ca back until what has been received has been read. mu is held. It returns false if that will not happen any
// more.
func (c *serverConn) hold(ca *serverCall) bool {
	if c.cause != nil {
		return false
	}
	if len(c.held) == 0 {
		c.heldSince = policy.Now()
	}
	ca.held = true
	c.held = append(c.held, ca)
	c.holding.Store(true)
	return true
}

// holdQueue holds the calls of the whole queue, and has the reader look at what has been received. mu is held.
func (c *serverConn) holdQueue() {
	for c.first != nil {
		ca := c.first
		c.first, ca.next = ca.next, nil
		c.hold(ca)
	}
	c.last = nil
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
}

// releaseHeld lets the calls go that were held: those that nobody has given up start.
func (c *serverConn) releaseHeld() {
	if !c.holding.Load() {
		return
	}
	spawn := false
	now := policy.Now()
	c.mu.Lock()
	c.holding.Store(false)
	held := c.held
	c.held = nil
	for _, ca := range held {
		if ca.stream != nil {
			go c.runStream(ca)
		} else {
			spawn = c.enqueue(ca, now) || spawn
		}
	}
	c.mu.Unlock()
	if spawn {
		go c.work()
	}
}
