package pool

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

const (
	// growAt is how many calls must be in flight on the least busy connection before another is opened.
	growAt = 2
	// growth is the factor of the back-off.
	growth = 1.6
	// minJitter and maxJitter bound the random factor of each pause.
	minJitter, maxJitter = 0.8, 1.2
)

// Node is the handle of one node's connections. It is safe for concurrent use.
type Node struct {
	p    *Pool
	addr string
	via  []string

	conns atomic.Pointer[[]*entry] // in use; replaced, never changed; nil = none
	// steady says that no further connection is wanted now: all are there, one is being dialled, or the last try failed.
	steady atomic.Bool
	serves atomic.Bool // an answer has come since a connection was lost

	gone atomic.Bool // the pool has forgotten it; set under mu

	mu       sync.Mutex
	told     condition
	dialing  *attempt
	draining []*entry    // retired, until their calls have ended
	fails    int         // failed dials in a row
	short    int         // how many times in a row no connection held, see held
	lostAt   policy.Time // when the last one was lost that short counts
	servedAt policy.Time // when one was lost that had answered; 0 = never
	failedAt policy.Time
	next     policy.Time   // when the next dial is due; 0 = not backing off
	soon     time.Duration // the pause if somebody asks
	demand   bool          // somebody has asked since the last dial
	err      *status.Error // of the last failed dial
	timer    *time.Timer   // to next
}

// condition is what OnState was told last.
type condition uint8

const (
	unknown condition = iota
	up
	down
)

// entry is one connection.
type entry struct {
	c     transport.Conn
	since policy.Time
	used  atomic.Bool // since the last sweep
	idle  int         // sweeps without use; under Node.mu
}

// attempt is a dial that callers wait for.
type attempt struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    *status.Error // set before done is closed
}

// Addr returns the node's address.
func (n *Node) Addr() string { return n.addr }

// Via returns the way that connections are made, see Pool.Node. It must not be changed.
func (n *Node) Via() []string { return n.via }

// Forgotten reports whether the pool has forgotten the node: its handle is of no use any more, and Pool.Node returns another.
func (n *Node) Forgotten() bool { return n.gone.Load() }

// Down returns the error of the last dial if it failed and no connection is left; nil = there is one, or nobody has tried yet.
func (n *Node) Down() *status.Error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.told != down {
		return nil
	}
	return n.err
}

// Up reports whether a connection has been made since the last failed dial. One that the node may end at once, as it did with those before, does not
// count: only a call can show whether it holds.
func (n *Node) Up() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.told == up && n.short < 2
}

// Answered tells that a call to the node has got an answer: what its connections carry has a use, however short they live, and one that is lost is
// replaced at once. It costs a look at what was told before.
func (n *Node) Answered() {
	if !n.serves.Load() {
		n.serves.Store(true)
	}
}

// Get is Pool.Get for this node.
func (n *Node) Get(ctx context.Context, deadline policy.Time) (transport.Conn, *status.Error) {
	if c := n.pick(); c != nil {
		return c, nil
	}
	return n.wait(ctx, deadline)
}

// Ask reports whether the node has a connection for calls. If not, one is tried as if a call had asked for it, in its time, and nobody waits.
func (n *Node) Ask() bool {
	if n.pick() != nil {
		return true
	}
	_, _ = n.ask(policy.Now())
	return false
}

// pick returns the usable connection with the fewest calls in flight, the first of equals, or nil.
func (n *Node) pick() transport.Conn {
	list := n.conns.Load()
	if list == nil {
		return nil
	}
	var best *entry
	least, worn := math.MaxInt, false
	for _, e := range *list {
		if !e.c.Usable() {
			worn = true
		} else if k := e.c.InFlight(); k < least {
			best, least = e, k
		}
	}
	if worn {
		n.renew()
	}
	if best == nil {
		return nil
	}
	if !best.used.Load() { // a look spares all other cores the write
		best.used.Store(true)
	}
	if least >= growAt && !n.steady.Load() {
		n.grow()
	}
	return best.c
}

// wait is Get when no connection is usable.
func (n *Node) wait(ctx context.Context, deadline policy.Time) (transport.Conn, *status.Error) {
	var timeout <-chan time.Time
	for {
		now := policy.Now()
		if err := ctx.Err(); err != nil {
			return nil, n.gaveUp(err)
		}
		if deadline != 0 && now >= deadline {
			return nil, n.gaveUp(context.DeadlineExceeded)
		}
		a, err := n.ask(now)
		if err != nil {
			return nil, err
		}
		if a != nil {
			if deadline != 0 && timeout == nil {
				t := time.NewTimer(deadline.Sub(now))
				defer t.Stop()
				timeout = t.C
			}
			select {
			case <-a.done:
				if a.err != nil {
					return nil, a.err
				}
			case <-ctx.Done():
				return nil, n.gaveUp(ctx.Err())
			case <-timeout:
				return nil, n.gaveUp(context.DeadlineExceeded)
			}
		}
		if c := n.pick(); c != nil {
			return c, nil
		}
	}
}

// ask returns the dial to wait for, beginning one if it is time, or nil if there are connections to try.
func (n *Node) ask(now policy.Time) (*attempt, *status.Error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.gone.Load():
		return nil, n.forgotten()
	case n.conns.Load() != nil:
		return nil, nil
	}
	n.demand = true
	if n.dialing == nil && n.next != 0 {
		if soon := n.failedAt.Add(n.soon); soon < n.next {
			n.sleepLocked(now, soon)
		}
		if now < n.next {
			return nil, &status.Error{Code: status.Unavailable, Kind: status.Dial, Fate: status.NotSent, Cause: n.err,
				Message: fmt.Sprintf("node %s is down, next try in %v", n.addr, n.next.Sub(now).Round(time.Millisecond))}
		}
	}
	if n.dialing == nil {
		n.dialLocked(nil)
	}
	return n.dialing, nil
}

// grow opens one more connection in the background, if one is still wanted.
func (n *Node) grow() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.gone.Load() && n.dialing == nil && !n.steady.Load() {
		n.dialLocked(nil)
	}
}

// renew retires connections that take no more calls, and dials for them.
func (n *Node) renew() {
	n.mu.Lock()
	var worn []*entry
	for _, e := range n.listLocked() {
		if !e.c.Usable() {
			worn = append(worn, e)
		}
	}
	for _, e := range worn {
		n.removeLocked(e)
		n.draining = append(n.draining, e)
		n.replaceLocked(e)
	}
	n.mu.Unlock()
	for _, e := range worn {
		e.c.Drain()
	}
}

// replaceLocked dials for a connection that was lost or that the peer drains.
func (n *Node) replaceLocked(e *entry) {
	now := policy.Now()
	served := n.conns.Load() == nil && n.serves.Swap(false)
	if served {
		n.servedAt = now
	}
	if served || n.held(now.Sub(e.since)) {
		n.short = 0
	} else if e.since >= n.lostAt { // what takes several at once counts once, however soon after one another
		n.short, n.lostAt = n.short+1, now
	}
	switch {
	case n.gone.Load() || n.dialing != nil || (n.next != 0 && n.conns.Load() != nil):
	case n.short <= 1:
		n.dialLocked(nil)
	case n.conns.Load() == nil && n.servedAt != 0 && now.Sub(n.servedAt) < n.p.opt.MaxBackoff:
		// It has answered a moment ago, and nobody may have called since: what comes waits for the next dial, which is not made at once.
		n.dialAfterLocked(n.pacing())
	case n.conns.Load() == nil:
		n.fails = max(n.fails, n.short-2)
		n.dialLocked(n.shortLived())
	default: // the others serve meanwhile; after the pause it is for the load to have another made
		n.err, n.failedAt = n.shortLived(), now
		n.fails = max(n.fails, n.short-1)
		n.steady.Store(true)
		n.backOffLocked()
	}
}

// pacing is how long the dial waits after connections that did not hold, of a node that answers all the same: a tenth of the first pause after a failed
// dial, growing up to that pause.
func (n *Node) pacing() time.Duration {
	first := float64(n.p.opt.Backoff)
	return time.Duration(min(first/10*math.Pow(growth, float64(min(n.short-2, 64))), first))
}

// shortLived is the error of a node whose connections do not hold.
func (n *Node) shortLived() *status.Error {
	return &status.Error{Code: status.Unavailable, Kind: status.Dial, Fate: status.NotSent,
		Message: fmt.Sprintf("node %s ends connections soon after they are made", n.addr)}
}

// held reports whether a connection that lived so long counts as a success: it did if it lived longer than the pause that would follow it otherwise. A node whose
// connections are reset now and then is dialled again at once, and one that ends them as soon as they are made is not stormed. One that has answered is another
// matter, see Answered.
func (n *Node) held(lived time.Duration) bool {
	pause := float64(n.p.opt.Backoff) * math.Pow(growth, float64(min(max(n.short-1, 0), 64)))
	return lived >= time.Duration(min(pause, float64(n.p.opt.MaxBackoff)))
}

// dialLocked begins an attempt. If failed is set, the attempt consists of that failure only.
func (n *Node) dialLocked(failed *status.Error) { n.attemptLocked(0, failed) }

// dialAfterLocked begins an attempt that waits before it dials.
func (n *Node) dialAfterLocked(pause time.Duration) { n.attemptLocked(pause, nil) }

func (n *Node) attemptLocked(pause time.Duration, failed *status.Error) {
	n.p.stop(n.timer)
	n.timer, n.next = nil, 0
	n.steady.Store(true)
	ctx, cancel := context.WithCancel(n.p.ctx)
	a := &attempt{cancel: cancel, done: make(chan struct{})}
	n.dialing = a
	n.p.wg.Go(func() {
		defer cancel()
		if failed != nil {
			n.settle(a, nil, failed)
			return
		}
		if pause > 0 {
			t := time.NewTimer(pause)
			defer t.Stop()
			select {
			case <-t.C:
			case <-ctx.Done():
			}
		}
		began := policy.Now()
		c, err := n.dial(ctx)
		if err != nil && policy.Now().Sub(began) > n.p.opt.DialTimeout+stallAfter {
			// This process stood still, and the time was up before it could look: that says nothing about the node.
			c, err = n.dial(ctx)
		}
		n.settle(a, c, err)
	})
}

// stallAfter is by how much the end of a dial must be late for this process to have stood still: stopped, or without a CPU.
const stallAfter = 50 * time.Millisecond

func (n *Node) dial(ctx context.Context) (transport.Conn, *status.Error) {
	ctx, cancel := context.WithTimeout(ctx, n.p.opt.DialTimeout)
	defer cancel()
	if n.p.via != nil {
		return n.p.via.DialVia(ctx, n.addr, n.via)
	}
	return n.p.dialer.Dial(ctx, n.addr)
}

// settle ends an attempt with its result.
func (n *Node) settle(a *attempt, c transport.Conn, err *status.Error) {
	n.mu.Lock()
	now := policy.Now()
	was := n.told
	switch {
	case n.gone.Load():
		if c != nil {
			defer c.Close()
		}
		err = n.forgotten()
	case err != nil:
		err = asDial(err, n.addr)
		n.err, n.failedAt = err, now
		n.fails++
		if n.conns.Load() == nil {
			n.told = down
		}
	default:
		e := &entry{c: c, since: now}
		e.used.Store(true)
		n.storeLocked(append(slices.Clone(n.listLocked()), e))
		n.fails, n.err, n.told = 0, nil, up
		n.p.wg.Go(func() { n.watch(e) })
	}
	told, gone := n.told, n.gone.Load()
	n.mu.Unlock()

	if err == nil {
		n.p.sweepLater()
	}
	// Callers and the next dial wait for the end of the attempt, so that OnState hears things in order.
	if f := n.p.opt.OnState; f != nil && told != was && !gone {
		f(n, told == up, err)
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	n.dialing = nil
	if a.err = err; err != nil {
		n.backOffLocked()
	} else {
		n.steady.Store(len(n.listLocked()) >= n.p.opt.PerNode)
		if !n.gone.Load() && n.conns.Load() == nil {
			n.dialLocked(nil) // lost while OnState was told
		}
	}
	close(a.done)
}

// backOffLocked plans the dial after a failed one.
func (n *Node) backOffLocked() {
	if n.gone.Load() {
		return
	}
	o := &n.p.opt
	raw := float64(o.Backoff) * math.Pow(growth, float64(min(max(n.fails, 1), 64)-1))
	j := n.p.jitter()
	// Caps are met with the jitter included: pauses at the cap are spread as well.
	pause := func(limit time.Duration) time.Duration {
		return time.Duration(min(raw, float64(limit)/maxJitter) * j)
	}
	idle := pause(o.IdleBackoff)
	n.soon = pause(o.MaxBackoff)
	if n.demand {
		idle = n.soon
	}
	n.demand = false
	n.sleepLocked(policy.Now(), n.failedAt.Add(idle))
}

// sleepLocked sets the timer for the next dial.
func (n *Node) sleepLocked(now, next policy.Time) {
	n.p.stop(n.timer)
	n.next = next
	n.timer = n.p.after(max(next.Sub(now), 0), n.wake)
}

// wake ends a back-off: it dials if there is no connection, and else leaves it to the load.
func (n *Node) wake() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone.Load() || n.dialing != nil || n.next == 0 || policy.Now() < n.next {
		return
	}
	n.timer, n.next = nil, 0
	if n.conns.Load() == nil {
		n.dialLocked(nil)
	} else {
		n.steady.Store(len(n.listLocked()) >= n.p.opt.PerNode)
	}
}

// watch waits for a connection's end and replaces it unless it had been put aside before.
func (n *Node) watch(e *entry) {
	<-e.c.Done()
	n.mu.Lock()
	if n.removeLocked(e) {
		n.replaceLocked(e)
	}
	n.draining = slices.DeleteFunc(n.draining, func(d *entry) bool { return d == e })
	over := n.gone.Load() && len(n.draining) == 0
	n.mu.Unlock()
	if over {
		n.p.left(n)
	}
}

// sweep puts aside connections that have not been used for long. It reports whether any are left.
func (n *Node) sweep() bool {
	n.mu.Lock()
	var idle []*entry
	for _, e := range n.listLocked() {
		if e.used.Swap(false) || e.c.InFlight() > 0 {
			e.idle = 0
		} else if e.idle++; e.idle >= idleSweeps {
			idle = append(idle, e)
		}
	}
	for _, e := range idle {
		n.removeLocked(e)
		n.draining = append(n.draining, e)
	}
	if n.dialing == nil && n.next == 0 {
		n.steady.Store(len(n.listLocked()) >= n.p.opt.PerNode)
	}
	left := n.conns.Load() != nil
	n.mu.Unlock()
	// A call that has just been given one of them is refused with kind Draining, which costs it nothing but another try.
	for _, e := range idle {
		e.c.Drain()
	}
	return left
}

// leave lets a forgotten node's connections drain.
func (n *Node) leave() {
	n.mu.Lock()
	n.gone.Store(true)
	list := n.listLocked()
	n.draining = append(n.draining, list...)
	n.storeLocked(nil)
	n.p.stop(n.timer)
	n.timer, n.next = nil, 0
	if n.dialing != nil {
		n.dialing.cancel()
	}
	over := len(n.draining) == 0
	n.mu.Unlock()
	for _, e := range list {
		e.c.Drain()
	}
	if over {
		n.p.left(n)
	}
}

// close ends a forgotten node's connections.
func (n *Node) close() {
	n.mu.Lock()
	list := slices.Clone(n.draining)
	n.mu.Unlock()
	for _, e := range list {
		_ = e.c.Close()
	}
}

// listLocked returns the connections in use; it must not be changed.
func (n *Node) listLocked() []*entry {
	if l := n.conns.Load(); l != nil {
		return *l
	}
	return nil
}

// storeLocked replaces the connections in use.
func (n *Node) storeLocked(l []*entry) {
	if len(l) == 0 {
		n.conns.Store(nil)
		return
	}
	n.conns.Store(&l)
}

// removeLocked takes e out of use and reports whether it was in use.
func (n *Node) removeLocked(e *entry) bool {
	l := n.listLocked()
	i := slices.Index(l, e)
	if i < 0 {
		return false
	}
	n.storeLocked(slices.Delete(slices.Clone(l), i, i+1))
	return true
}

// State returns what the pool knows about the node.
func (n *Node) State() State {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := State{Addr: n.addr, Via: n.via, Up: n.told == up, Dialing: n.dialing != nil, Fails: n.fails, RetryAt: n.next, Err: n.err}
	if n.err != nil {
		s.Error = n.err.Error()
	}
	add := func(list []*entry, draining bool) {
		for _, e := range list {
			k := e.c.InFlight()
			s.InFlight += k
			s.Conns = append(s.Conns, ConnState{Since: e.since, InFlight: k, Draining: draining || !e.c.Usable()})
		}
	}
	add(n.listLocked(), false)
	add(n.draining, true)
	return s
}

// gaveUp is the error of a waiter whose own time is over.
func (n *Node) gaveUp(cause error) *status.Error {
	e := &status.Error{Code: status.DeadlineExceeded, Kind: status.Timeout, Fate: status.NotSent, Cause: cause,
		Message: "no connection to node " + n.addr + " yet"}
	if cause == context.Canceled { //nolint:errorlint // contexts return the bare value
		e.Code, e.Kind = status.Canceled, status.Cancelled
	}
	return e
}

// forgotten is the error of a node that is not in the pool any more.
func (n *Node) forgotten() *status.Error {
	return &status.Error{Code: status.Unavailable, Kind: status.Draining, Fate: status.NotSent,
		Message: "node " + n.addr + " has been taken out of the pool"}
}

// asDial makes sure that a failed dial is told as one: a dialer whose time is up may call it the caller's deadline.
func asDial(err *status.Error, addr string) *status.Error {
	if err.Fate == status.NotSent && (err.Kind == status.Dial || err.Kind == status.Handshake) &&
		err.Code != status.DeadlineExceeded && err.Code != status.Canceled {
		return err
	}
	e := &status.Error{Code: status.Unavailable, Kind: status.Dial, Fate: status.NotSent, Cause: err,
		Message: "dial node " + addr}
	if err.Kind == status.Handshake {
		e.Kind = status.Handshake
	}
	return e
}
