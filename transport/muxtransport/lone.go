package muxtransport

import (
	"errors"
	"sync/atomic"
	"time"
)

// lone lets a caller that is alone on its connection take in its answer itself: the detour by the reader's goroutine costs it as much
// as all of its policies. The reader's goroutine steps aside when calls have long come one at a time. From then on a call that
// finds the role vacant takes it, for all that arrives, until it has its answer. If there are other calls by then, or none comes for a
// while, the role goes to a goroutine again. The link's mutex guards what does not say otherwise.
type lone struct {
	rd     *reader // belongs to the role
	streak int     // answers to calls that were alone, in a row; belongs to the role
	vacant bool    // nobody has the role, and no call is under way
	holder *call   // the call whose caller has the role, nil = it is a goroutine's, or vacant
	// kick is not 0 when the holder's call has been ended by somebody else and its read has to end.
	kick atomic.Int64
	// terms is how often the role has been given up; seenTerms at the last look of the watch.
	terms, seenTerms uint32
}

// loneAfter is how many calls in a row must have been alone before the reader's goroutine steps aside.
const loneAfter = 32

// took has ca's answer count, which has just left the table. mu is held, by who has the role.
func (c *clientConn) took(ca *call) {
	if c.streak++; !ca.mayRead || c.inFlight.Load() > 0 {
		c.streak = 0
	}
}

// fillRole gives a vacant role to the caller of ca, or to a goroutine if it cannot take it. mu is held.
func (c *clientConn) fillRole(ca *call) {
	c.vacant = false
	if !ca.mayRead || c.roomFull() {
		c.streak = 0
		go c.read()
		return
	}
	ca.reads = true
	c.holder = ca
	c.kick.Store(0)
}

// stepAside makes the role vacant if calls come one at a time and none is under way. Its caller has the role.
func (c *clientConn) stepAside() bool {
	if c.streak < c.d.loneAfter || c.rd.w > c.rd.r {
		return false
	}
	c.mu.Lock()
	ok := c.vacate()
	c.mu.Unlock()
	if ok {
		c.sh.watch.add(&c.entry)
	}
	return ok
}

// vacate makes the role vacant if it may be. mu is held, by who has the role.
func (c *clientConn) vacate() bool {
	if c.inFlight.Load() > 0 || c.rd.w > c.rd.r || c.cause != nil {
		return false
	}
	c.vacant = true
	c.terms++
	return true
}

// readFor has the role until ca has its answer.
func (c *clientConn) readFor(ca *call) {
	for {
		select {
		case <-ca.done:
			c.handOn()
			return
		default:
		}
		if err := c.readOn(&c.kick); err != nil {
			c.readFailed(err)
			c.rd.release()
			<-ca.done // whoever ends the connection ends the call
			return
		}
	}
}

// handOn is the end of readFor.
func (c *clientConn) handOn() {
	c.mu.Lock()
	c.holder = nil
	if c.kick.Swap(0) != 0 {
		c.rd.limited = true // a deadline has been set
	}
	vacant := c.vacate()
	if !vacant {
		c.streak = 0
	}
	c.mu.Unlock()
	if !vacant {
		go c.read()
		return
	}
	if !c.entry.hot.Load() {
		c.sh.watch.add(&c.entry)
	}
}

// dismiss ends the read of ca's caller, if it has the role: ca has been ended otherwise. mu is held.
func (c *clientConn) dismiss(ca *call) {
	if c.holder == ca {
		c.kick.Store(1)
		_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	}
}

// lookRole gives the role to a goroutine when it has been vacant since the last look. It returns false when it is not vacant.
func (c *clientConn) lookRole() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.vacant || c.cause != nil:
		return false
	case c.terms != c.seenTerms:
		c.seenTerms = c.terms
		return true
	}
	c.vacant, c.streak = false, -1 // not aside again before an answer has come
	go c.read()
	return false
}

// readOn takes in the next frame, or waits for more of it. Its caller has the role. until is that of fill.
func (c *clientConn) readOn(until *atomic.Int64) error {
	var f frame
	ok, err := c.rd.buffered(&f)
	if err != nil {
		return err
	}
	if ok {
		return c.handle(c.rd, &f)
	}
	c.flushPending()
	if err = c.rd.fill(until); errors.Is(err, errIdle) || errors.Is(err, errTime) {
		return nil
	}
	return err
}
