package muxtransport

import (
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// clientConn is the calling end of a connection.
type clientConn struct {
	link
	d *Dialer

	inFlight atomic.Int32
	unusable atomic.Bool // down or draining

	// The fields below are guarded by the link's mutex.
	lone

	// table holds the calls under way. A call's id is its place in the table and the generation of that place, so that
	// what comes late for an earlier user of the place is told apart.
	table  []place
	free   []uint16
	opened uint64 // CALL and OPEN frames so far; GOAWAY counts in them
	// methods are the numbers that the server knows methods by; the last one used is kept at hand.
	methods    map[string]uint32
	nameBytes  int // of their names
	lastMethod string
	lastNumber uint32
	drain      bool // close when nothing is under way any more
	goAway     *failure

	began policy.Time // when HELLO was sent: what the times of sending count from

	// scan is the timer of the earliest deadline under way; it may be set for one that has gone.
	scan   *time.Timer
	scanAt policy.Time // 0 = not set
	// stalledUntil is when this process was last seen to have stood still: calls whose deadline had passed by then have had their grace.
	stalledUntil policy.Time
}

type place struct {
	call *call
	gen  uint16
}

var _ transport.Conn = (*clientConn)(nil)

// scanInterval is the least time between two looks at the deadlines: how late a call may learn of its deadline.
const scanInterval = 2 * time.Millisecond

func newClientConn(d *Dialer, nc net.Conn, peer hello, began policy.Time) *clientConn {
	c := &clientConn{d: d, methods: make(map[string]uint32), began: began}
	c.entry.conn = c
	c.done = make(chan struct{})
	c.init(nc, d.sh, peer, c)
	c.rd = newReader(&c.link)
	go c.read()
	return c
}

// look implements watched.
func (c *clientConn) look() bool {
	writing := c.lookWriter()
	return c.lookRole() || writing
}

// busy implements owner.
func (c *clientConn) busy() bool { return c.inFlight.Load() > 0 }

// Instance says which instance the server is, as its Options have it; "" = it does not say. Who dials an address that has been
// another's can tell so before the first call.
func (c *clientConn) Instance() string { return c.peer.instance }

// Usable implements transport.Conn.
func (c *clientConn) Usable() bool { return !c.unusable.Load() }

// InFlight implements transport.Conn.
func (c *clientConn) InFlight() int { return int(c.inFlight.Load()) }

// Done implements transport.Conn.
func (c *clientConn) Done() <-chan struct{} { return c.done }

// Close implements transport.Conn.
func (c *clientConn) Close() error {
	c.unusable.Store(true)
	c.fail(status.Reset, errClosed)
	return nil
}

// Drain implements transport.Conn.
func (c *clientConn) Drain() {
	c.mu.Lock()
	c.unusable.Store(true)
	c.drain = true
	idle := c.inFlight.Load() == 0
	c.mu.Unlock()
	if idle {
		c.Close()
	}
}

// enter gives ca a place in the table. mu is held. It fails if the connection takes no more calls.
func (c *clientConn) enter(ca *call) *status.Error {
	if c.unusable.Load() || c.cause != nil {
		return c.refusal()
	}
	var i int
	if n := len(c.free); n > 0 {
		i = int(c.free[n-1])
		c.free = c.free[:n-1]
	} else {
		if i = len(c.table); uint64(i) >= c.peer.maxCalls {
			return &status.Error{Code: status.ResourceExhausted, Kind: status.Shed, Fate: status.NotSent,
				Message: fmt.Sprintf("%d calls are under way on the connection, which is the server's limit", i)}
		}
		c.table = append(c.table, place{})
	}
	p := &c.table[i]
	if p.gen++; p.gen == 0 && i == 0 {
		p.gen = 1 // the id would be the connection's own
	}
	p.call = ca
	ca.id = uint32(p.gen)<<16 | uint32(i)
	ca.at, ca.end, ca.ordinal = 0, 0, 0
	c.inFlight.Add(1)
	c.hurryKeepalive()
	if ca.deadline != 0 && (c.scanAt == 0 || ca.deadline < c.scanAt) {
		c.setScan(ca.deadline)
	}
	if c.vacant {
		c.fillRole(ca)
	}
	return nil
}

// refusal says why no new call may begin. mu is held.
func (c *clientConn) refusal() *status.Error {
	if c.cause != nil {
		return &status.Error{Code: status.Unavailable, Kind: status.Unsent, Fate: status.NotSent,
			Message: "connection lost before the call was sent", Cause: c.cause.err}
	}
	return draining("the connection is draining")
}

func draining(msg string) *status.Error {
	return &status.Error{Code: status.Unavailable, Kind: status.Draining, Fate: status.NotSent, Message: msg}
}

// lookup returns the call that id belongs to, nil if it has ended. mu is held.
func (c *clientConn) lookup(id uint32) *call {
	i := int(id & 0xffff)
	if i >= len(c.table) || c.table[i].call == nil || c.table[i].call.id != id {
		return nil
	}
	return c.table[i].call
}

// leave takes ca out of the table: whoever does it is the one who ends the call. mu is held. A connection that was only
// waiting for this closes.
func (c *clientConn) leave(ca *call) {
	i := uint16(ca.id & 0xffff)
	c.table[i].call = nil
	c.free = append(c.free, i)
	if c.inFlight.Add(-1) == 0 && c.drain && c.cause == nil {
		go c.Close()
	}
}

// abandon takes ca out of the table and tells the server to forget about it. mu is held. It returns what has become of the request, and whether the caller
// must flush.
func (c *clientConn) abandon(ca *call) (fate status.Fate, flush bool) {
	c.leave(ca)
	if !ca.whole { // it cannot have been started, and now never will
		fate = status.NotSent
	}
	if ca.ordinal == 0 || c.cause != nil {
		return fate, false
	}
	if ca.whole && c.withdraw(ca) {
		return status.NotSent, false
	}
	before := len(c.buf)
	c.buf = appendFrame(c.buf, typeCancel, ca.id)
	return fate, c.added(before)
}

// withdraw marks the frame that completes ca's request, if all of it still waits to be written. It goes its way, since it is counted and may teach names, and the
// server does nothing. mu is held.
func (c *clientConn) withdraw(ca *call) bool {
	waits := c.appended - ca.at
	if c.peer.features&featureWithdraw == 0 || waits > uint64(len(c.buf)) {
		return false
	}
	c.buf[uint64(len(c.buf))-waits+3] |= withdrawn
	return true
}

// setScan sets the timer for the earliest deadline. mu is held.
func (c *clientConn) setScan(at policy.Time) {
	c.scanAt = at
	wait := max(at.Sub(policy.Now()), 0)
	if c.scan == nil {
		c.scan = time.AfterFunc(wait, c.scanDeadlines)
	} else {
		c.scan.Reset(wait)
	}
}

// stallAfter is by how much a look at the deadlines must be late for this process to have stood still: stopped, or without
// a CPU. stallGrace is for how long then answers that may be here are read before calls end, by threads that may still wait for a processor.
const (
	stallAfter = 50 * time.Millisecond
	stallGrace = 20 * time.Millisecond
)

func (c *clientConn) scanDeadlines() { c.endLate(policy.Now()) }

// endLate ends the calls whose deadline has passed. If this process has stood still meanwhile, answers may have been here for
// long: they are read first, and whatever then is still late is nobody's fault. That is waited for once for each call: a process that is short of CPU is late
// for every look, and its calls have to end nevertheless.
func (c *clientConn) endLate(now policy.Time) {
	var late []*call
	var next policy.Time
	flush, wait := false, false
	c.mu.Lock()
	graced, stood := c.stalledUntil, c.scanAt != 0 && now.Sub(c.scanAt) > stallAfter && c.cause == nil
	if stood {
		c.stalledUntil = now
	}
	for i := range c.table {
		ca := c.table[i].call
		switch {
		case ca == nil || ca.deadline == 0:
		case ca.deadline > now:
			next = policy.Earliest(next, ca.deadline)
		case stood && ca.deadline > graced:
			wait = true
		default:
			kind := status.Timeout
			if ca.deadline <= c.stalledUntil {
				kind = status.Stalled
			}
			fate, mine := c.abandon(ca)
			flush = flush || mine
			c.dismiss(ca)
			ca.err = &status.Error{Code: status.DeadlineExceeded, Kind: kind, Fate: fate, Message: "no answer within the deadline"}
			late = append(late, ca)
		}
	}
	c.scanAt = 0
	if wait {
		c.setScan(now.Add(stallGrace))
	} else if next != 0 && c.cause == nil {
		c.setScan(max(next, now.Add(scanInterval)))
	}
	c.mu.Unlock()
	for _, ca := range late {
		ca.complete(ca.err)
	}
	if flush {
		c.flush(false)
	}
}

// ended implements owner: it ends the calls under way with what is known about each.
func (c *clientConn) ended() {
	c.unusable.Store(true)
	c.mu.Lock()
	if c.scan != nil {
		c.scan.Stop()
	}
	var calls []*call
	for i := range c.table {
		if ca := c.table[i].call; ca != nil {
			c.leave(ca)
			calls = append(calls, ca)
		}
	}
	cause, taken := *c.cause, c.taken
	if c.goAway != nil {
		cause.err = fmt.Errorf("%w after it said: %w", cause.err, c.goAway.err)
		if c.goAway.kind == status.Protocol {
			cause.kind = status.Protocol
		}
	}
	c.mu.Unlock()
	for _, ca := range calls {
		e := &status.Error{Code: status.Unavailable, Kind: cause.kind, Message: "connection lost before the answer", Cause: cause.err}
		if ca.unsent(taken) {
			e.Kind, e.Fate, e.Message = status.Unsent, status.NotSent, "connection lost before the request was sent"
		}
		ca.complete(e)
	}
}
