package muxtransport

import (
	"encoding/binary"
	"fmt"
	"runtime"
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

	// held are calls that may have been given up already, which the rest of what the client has said will tell. Its answer to
	// a ping comes after that.
	held    []*serverCall
	pinged  policy.Time  // when the last such ping was sent, which is also what it says
	holding atomic.Int64 // until when they are held at most, a policy.Time; 0 = there are none
}

const (
	// stalledAge is how long a request may have been on its way, or a process done nothing, to be nothing out of the ordinary.
	stalledAge = 50 * time.Millisecond
	// maxHeld is how long calls are held at most, if the client does not answer. heldAgain is how long when it has just been
	// asked, so that it is not flooded with pings.
	maxHeld   = 500 * time.Millisecond
	heldAgain = 20 * time.Millisecond
	// crowdedAge is for how long a call may have been waiting for a goroutine in a queue that is still a burst's.
	crowdedAge = 10 * time.Millisecond
)

// late reports whether ca was kept from starting for so long that its caller may have cancelled it: then what else has been
// received is read first. It runs with the reader's role.
func (c *serverConn) late(ca *serverCall) bool {
	if ca.age+c.clock.Sub(ca.in.Received) > stalledAge {
		return true
	}
	// A request that was not on its way for long comes after everything that was.
	if c.holding.Load() != 0 && ca.age < stalledAge/2 {
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
			mine := c.claimFlush()
			c.mu.Unlock()
			if mine {
				c.flush(false)
			}
			return
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
		slow := ca.m.slow() // of earlier calls; ca is somebody else's after run
		c.run(ca, now)
		if slow {
			runtime.Gosched() // the reader must not wait for the whole queue where handlers keep all processors busy
		}
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
		now := policy.Now()
		until := now.Add(heldAgain)
		if now.Sub(c.pinged) >= heldAgain {
			until = now.Add(maxHeld)
			c.pinged = now
			before := len(c.buf)
			var t [8]byte
			binary.LittleEndian.PutUint64(t[:], uint64(now))
			c.buf = appendFrame(c.buf, typePing, 0, t[:]...)
			c.appended += uint64(len(c.buf) - before)
		}
		c.holding.Store(int64(until))
	}
	ca.held = true
	c.held = append(c.held, ca)
	return true
}

// pong takes in PONG: if it is the answer to what hold asked, everything that the client had said by then has been read.
func (c *serverConn) pong(f frame) error {
	if len(f.payload) != 8 {
		return fmt.Errorf("PONG of %d bytes: %w", len(f.payload), errMalformed)
	}
	if c.holding.Load() == 0 {
		return nil
	}
	c.mu.Lock()
	ours := binary.LittleEndian.Uint64(f.payload) == uint64(c.pinged)
	c.mu.Unlock()
	if ours {
		c.releaseHeld()
	}
	return nil
}

// holdQueue holds the calls of the whole queue, and has the reader notice that there are some. mu is held.
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
	if c.holding.Load() == 0 {
		return
	}
	spawn := false
	now := policy.Now()
	c.mu.Lock()
	c.holding.Store(0)
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
