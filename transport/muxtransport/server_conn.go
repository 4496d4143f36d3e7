package muxtransport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// serverConn is the serving end of a connection.
//
// One goroutine at a time has the reader's role: it reads frames, and runs handlers itself while they are quick. The
// role can be taken from it while it is in a handler (see dispatch.go); it notices when the handler returns.
type serverConn struct {
	link
	s          *Server
	remoteAddr net.Addr
	tls        *tls.ConnectionState // nil without
	info       any                  // of the handler, see contextMaker

	// inline is odd while the reader runs a handler. Whoever moves it on from there, the reader or the one that takes the
	// role over, has the role. current is the call of that handler, or of the last one.
	inline     atomic.Uint64
	current    *serverCall
	seenInline uint64 // by the watch

	accepted atomic.Uint64 // CALL and OPEN frames taken in
	draining atomic.Bool

	// What follows belongs to the role.
	rd      *reader
	clock   policy.Time // a recent reading
	crowded bool        // what waits for a goroutine has done so for long
	answers []byte      // to calls that the reader has run, which the writer does not know of yet
	flushAt policy.Time // when they have waited long enough for others
	spare   bool        // current is nobody's any more: the next call of the same read is kept there
	methods []*method
	// nameBytes are those of the names of methods; unnumbered is what is known of methods without a number, nil until there is one.
	nameBytes  int
	unnumbered *[unnumbered]method
	age        age
	resets     resets

	// What follows is guarded by the link's mutex.
	queue
	table    []*serverCall // by the id's lower half; calls that the reader runs are not in it
	running  int           // handlers that have not returned and are not the reader's
	closed   bool          // ended has been through: the last handler to finish may forget the connection
	buffered int           // bytes of messages that are kept
	linger   *time.Timer

	spot uint32 // in the parking lot, counted from 1; guarded by that
}

func newServerConn(s *Server, nc net.Conn, peer hello, met policy.Time) *serverConn {
	c := &serverConn{s: s, remoteAddr: nc.RemoteAddr(), age: newAge(met)}
	c.tls = tlsState(nc)
	if s.contexts != nil {
		c.info = s.contexts.ConnInfo(c.remoteAddr, c.tls)
	}
	c.entry.conn = c
	c.init(nc, s.sh, peer, c)
	c.rd = newReader(&c.link)
	c.fat.Store(true) // even if nothing comes, so that it is parked
	return c
}

// busy implements owner.
func (c *serverConn) busy() bool { return c.running > 0 || c.inline.Load()&1 == 1 }

// read holds the reader's role until the connection ends or the role is taken over.
func (c *serverConn) read() {
	rd := c.rd
	var f frame
	var t turn
	defer func() {
		if t.running {
			c.unreturned(rd, t, recover())
		}
	}()
	for {
		ok, err := rd.buffered(&f)
		if err == nil && ok {
			var keep bool
			if keep, err = c.handle(&f, &t); !keep {
				rd.release()
				return
			}
		} else if err == nil {
			if err = c.beforeWait(); err == nil {
				if err = c.fill(); errors.Is(err, errIdle) {
					c.rest()
					return
				}
			}
		}
		if err != nil {
			c.refuseConn(err)
			c.readFailed(err)
			rd.release()
			return
		}
	}
}

// fill waits for more bytes, and lets calls that are held go when it is time.
func (c *serverConn) fill() error {
	err := c.rd.fill(&c.holding)
	if until := c.holding.Load(); until != 0 && policy.Now() >= policy.Time(until) {
		c.releaseHeld()
	}
	c.clock = c.rd.now
	c.flushAt = c.clock.Add(flushInterval)
	if errors.Is(err, errTime) {
		return nil
	}
	return err
}

// beforeWait writes what the frames of one read have been answered with, and keeps nothing of the calls in them. While the client
// does not take its answers, no more of its calls are read.
func (c *serverConn) beforeWait() error {
	if c.spare {
		c.s.recycle(c.current)
		c.spare, c.current = false, nil
	}
	c.mu.Lock()
	c.handInLocked()
	mine := c.claimFlush()
	if c.draining.Load() {
		c.checkDrained()
	}
	c.mu.Unlock()
	if mine {
		c.flush(false)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deaf = c.waiting(deafLimit)
	if !c.awaitOutput(deafLimit) {
		return c.cause.err
	}
	c.deaf = false
	return nil
}

// refuseConn tells the client what it did wrong before the connection ends.
func (c *serverConn) refuseConn(err error) {
	var long frameTooLongError
	reason := byte(goAwayError)
	switch {
	case errors.Is(err, errFlood):
		reason = goAwayFlood
	case !errors.Is(err, errMalformed) && !errors.As(err, &long):
		return
	}
	c.mu.Lock()
	c.handInLocked()
	before := len(c.buf)
	c.buf = appendGoAway(c.buf, c.accepted.Load(), reason, err.Error())
	mine := c.added(before)
	c.mu.Unlock()
	if mine {
		c.flush(false)
	}
}

// handle takes in one frame. It returns false when the role was taken over meanwhile. An error ends the connection.
func (c *serverConn) handle(f *frame, t *turn) (keep bool, err error) {
	switch {
	case f.packed && (f.typ&^withdrawn != typeCall && f.typ != typeData || c.sh.opts.unpacks() == 0):
		return true, fmt.Errorf("a frame of type %d from a client: %w", f.typ|flagPacked, errMalformed)
	case f.typ == typeCall:
		return c.call(f, t)
	}
	switch f.typ {
	case typeOpen:
		return true, c.open(f)
	case typePart:
		return true, c.part(*f)
	case typeCall | withdrawn, typeOpen | withdrawn:
		return true, c.callWithdrawn(*f)
	case typeData:
		return true, c.data(*f)
	case typeHalf:
		return true, c.half(*f)
	case typeCancel, typePart | withdrawn:
		return true, c.cancel(*f)
	case typeWindow:
		return true, c.window(*f)
	case typePing:
		return true, c.rd.ping(*f)
	case typePong:
		return true, c.pong(*f)
	}
	return true, fmt.Errorf("a frame of type %d from a client: %w", f.typ, errMalformed)
}

// lookup returns the call that id belongs to, nil if it has ended. mu is held.
func (c *serverConn) lookup(id uint32) *serverCall {
	i := int(id & 0xffff)
	if i >= len(c.table) || c.table[i] == nil || c.table[i].id != id {
		return nil
	}
	return c.table[i]
}

// register puts ca into the table. mu is held. It fails if the id's place is taken, which no client may do.
func (c *serverConn) register(ca *serverCall) error {
	i := int(ca.id & 0xffff)
	for i >= len(c.table) {
		c.table = append(c.table, nil)
	}
	if c.table[i] != nil {
		return fmt.Errorf("call %#x in the place of a call under way: %w", ca.id, errMalformed)
	}
	c.table[i] = ca
	return nil
}

// leave takes ca out of the table. mu is held. It returns false if it was not there: the client has given it up, or the
// connection is gone, and nobody waits for an answer.
func (c *serverConn) leave(ca *serverCall) bool {
	if c.lookup(ca.id) != ca {
		return false
	}
	c.table[ca.id&0xffff] = nil
	return true
}

// cancel takes in CANCEL, and a PART that is withdrawn.
func (c *serverConn) cancel(f frame) error {
	c.mu.Lock()
	ca := c.lookup(f.id)
	if ca == nil {
		c.mu.Unlock()
		return nil
	}
	flood := c.resets.note(&ca.in, c.clock, c.sh.opts.MaxResets)
	c.leave(ca)
	c.giveUp(ca)
	mine := c.claimFlush()
	c.mu.Unlock()
	if mine {
		c.flush(false)
	}
	if flood {
		c.sh.resetFloods.Add(1)
		return fmt.Errorf("more than %d calls opened and cancelled in a second: %w", c.sh.opts.MaxResets, errFlood)
	}
	return nil
}

// callWithdrawn takes in a CALL or OPEN that nobody waits for any more. It is counted, and remembered are the names in it.
func (c *serverConn) callWithdrawn(f frame) error {
	c.accepted.Add(1)
	cur := cursor{in: f.payload}
	var h rawCall
	var large headerTooLargeError
	err := parseCall(&cur, c.sh.opts.MaxHeader, c.inNames(f.payload, callMetadata), &h)
	if err == nil || errors.As(err, &large) {
		_, err = c.method(&h)
	}
	if err != nil {
		return fmt.Errorf("call %#x, withdrawn: %w", f.id, err)
	}
	c.sh.abandoned.Add(1)
	return nil
}

// giveUp ends what a call that nobody waits for still does. mu is held and ca has left the table.
func (c *serverConn) giveUp(ca *serverCall) {
	if ca.gathering { // no handler yet
		c.buffered -= ca.kept
		c.sh.abandoned.Add(1)
		return
	}
	if ca.state.CompareAndSwap(callWaiting, callDropped) {
		c.sh.abandoned.Add(1)
	}
	if ca.stream != nil {
		ca.stream.abort(&status.Error{Code: status.Canceled, Kind: status.Cancelled, Message: "the caller gave up or is gone"})
	}
	ca.ctx.End()
}

// window takes in WINDOW.
func (c *serverConn) window(f frame) error {
	n, err := parseWindow(f.payload)
	if err != nil {
		return fmt.Errorf("WINDOW: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.id == 0 {
		return c.grow(n)
	}
	if ca := c.lookup(f.id); ca != nil && ca.stream != nil {
		return ca.stream.grow(n)
	}
	return nil
}

// beginDrain tells the client to send nothing new and closes the connection when all is done.
func (c *serverConn) beginDrain() {
	if c.draining.Swap(true) {
		return
	}
	// From here on the reader refuses what it takes in, so nothing above this number is ever started.
	last := c.accepted.Load()
	c.mu.Lock()
	before := len(c.buf)
	c.buf = appendGoAway(c.buf, last, goAwayDraining, "the server is shutting down")
	mine := c.added(before)
	c.checkDrained()
	c.mu.Unlock()
	if mine {
		c.flush(false)
	}
}

// checkDrained begins to wait for the client to close a connection on which nothing is left to do. mu is held.
func (c *serverConn) checkDrained() {
	if c.linger != nil || c.cause != nil || c.busy() {
		return
	}
	for _, ca := range c.table {
		if ca != nil {
			return
		}
	}
	c.linger = time.AfterFunc(lingerTime, func() { c.fail(status.Draining, errors.New("drained")) })
}

// ended implements owner: the contexts of all calls end.
func (c *serverConn) ended() {
	c.mu.Lock()
	c.takeRole()
	if c.linger != nil {
		c.linger.Stop()
	}
	for _, ca := range c.table {
		if ca != nil {
			c.leave(ca)
			c.giveUp(ca)
		}
	}
	c.closed = true
	idle := c.running == 0
	c.mu.Unlock()
	c.s.lot.remove(c)
	c.releaseHeld() // to be taken note of; they have been given up
	if idle {
		c.s.gone(c)
	}
}

// panicked answers for a handler that did not return, and logs it.
func (c *serverConn) panicked(ca *serverCall, cause any, stack []byte) transport.Outgoing {
	n := c.sh.panicked.Add(1)
	what := fmt.Sprint(cause)
	if cause == nil {
		what = "runtime.Goexit"
	}
	if n <= panicsLogged || n%panicsLogged == 0 {
		c.sh.opts.Logger.Error("handler panicked", "method", ca.in.Method, "panic", what, "panics", n, "stack", string(stack))
	}
	return transport.Outgoing{Status: &status.Error{Code: status.Internal, Kind: status.Panicked, Fate: status.Processed,
		Message: "the handler panicked: " + what}}
}

// panicsLogged is how many panics are logged, and of those after them one in how many.
const panicsLogged = 100
