package memnet

import "time"

// Any stands for every other host in Link and Pair.
const Any = "*"

// edgeKey names a direction.
type edgeKey struct{ from, to string }

// edge holds the faults planted on one direction.
type edge struct {
	shape
	refuse   bool
	cutAfter int64 // −1 = off
	cutShort bool
}

// shape is how data travels in one direction.
type shape struct {
	delay, jitter time.Duration
	rate          int64 // bytes per second and connection; 0 = no bound
	drop          bool
}

// Link is a handle to plant faults on one direction between two hosts, or on both (see Network.Pair). Methods take
// effect at once, on connections that are open and on later ones, and return the link so that they can be chained.
type Link struct {
	n    *Network
	keys []edgeKey
}

// Link returns the direction from one host to another. Either may be Any; neither needs to exist yet.
func (n *Network) Link(from, to string) *Link { return &Link{n, []edgeKey{{from, to}}} }

// Pair returns both directions between two hosts. Either may be Any.
func (n *Network) Pair(a, b string) *Link { return &Link{n, []edgeKey{{a, b}, {b, a}}} }

// Delay makes data arrive d plus a random part of jitter later. Order is kept; what is under way keeps its time. A dial
// pays the way there and the way back. Zeros end it.
func (l *Link) Delay(d, jitter time.Duration) *Link {
	return l.set(func(e *edge) { e.delay, e.jitter = max(d, 0), max(jitter, 0) })
}

// Rate bounds each connection to bytesPerSecond; 0 ends it.
func (l *Link) Rate(bytesPerSecond int64) *Link {
	return l.set(func(e *edge) { e.rate = max(bytesPerSecond, 0) })
}

// Drop makes the direction silent: nothing arrives, acknowledgements of the other direction included, and nobody is
// told. What is held back arrives when dropping ends.
func (l *Link) Drop(on bool) *Link { return l.set(func(e *edge) { e.drop = on }) }

// Refuse makes dials in this direction fail with ECONNREFUSED, as if nobody listened. Open connections go on.
func (l *Link) Refuse(on bool) *Link { return l.set(func(e *edge) { e.refuse = on }) }

// Cut resets every open connection between the hosts, whoever dialled. Data that was not read yet is lost.
func (l *Link) Cut() *Link {
	l.n.mu.Lock()
	ends := l.n.endsLocked(func(c *Conn) bool { return l.matches(c.host.name, host(c.remote)) })
	l.n.mu.Unlock()
	for _, c := range ends {
		c.reset()
	}
	return l
}

// CutAfter resets each connection when n more bytes have gone in this direction: the reader gets exactly these, then
// ECONNRESET. The writer's system takes the whole of the Write that crosses the mark, so only later calls of the writer
// fail. Connections opened later count from their first byte. With 0 the next Write goes nowhere. A negative n ends it.
func (l *Link) CutAfter(n int64) *Link { return l.cutAfter(n, false) }

// BreakAfter is CutAfter, except that the Write that crosses the mark fails and returns how many of its bytes were let through.
func (l *Link) BreakAfter(n int64) *Link { return l.cutAfter(n, true) }

func (l *Link) cutAfter(n int64, short bool) *Link {
	l.set(func(e *edge) { e.cutAfter, e.cutShort = max(n, -1), short })
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	for _, c := range l.n.endsLocked(func(c *Conn) bool { return l.matches(c.host.name, host(c.remote)) }) {
		c.out.setCut(n, short)
	}
	return l
}

// set changes the link's edges and passes the sum on to the connections.
func (l *Link) set(f func(*edge)) *Link {
	n := l.n
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, k := range l.keys {
		e := n.edges[k]
		if e == nil {
			e = &edge{cutAfter: -1}
			n.edges[k] = e
		}
		f(e)
	}
	for c := range n.conns {
		for _, e := range c.ends {
			a, b := e.host.name, host(e.remote)
			e.out.reshape(n.shapeLocked(a, b), n.shapeLocked(b, a).drop)
		}
	}
	n.wakeLocked()
	return l
}

// matches reports whether the link covers data from a to b.
func (l *Link) matches(a, b string) bool {
	for _, k := range l.keys {
		for _, m := range matching(a, b) {
			if k == m {
				return true
			}
		}
	}
	return false
}

// matching lists the edges that apply to data from a to b.
func matching(a, b string) []edgeKey {
	if a == b {
		return []edgeKey{{a, b}}
	}
	return []edgeKey{{a, b}, {a, Any}, {Any, b}, {Any, Any}}
}

// shapeLocked sums up what applies to data from a to b.
func (n *Network) shapeLocked(a, b string) shape {
	var s shape
	for _, k := range matching(a, b) {
		if e := n.edges[k]; e != nil {
			s.delay += e.delay
			s.jitter += e.jitter
			s.drop = s.drop || e.drop
			if e.rate > 0 && (s.rate == 0 || e.rate < s.rate) {
				s.rate = e.rate
			}
		}
	}
	return s
}

// refusedLocked reports whether dials from a to b are refused.
func (n *Network) refusedLocked(a, b string) bool {
	for _, k := range matching(a, b) {
		if e := n.edges[k]; e != nil && e.refuse {
			return true
		}
	}
	return false
}

// cutLocked returns after how many bytes a new connection is cut from a to b, −1 = never.
func (n *Network) cutLocked(a, b string) (after int64, short bool) {
	after = -1
	for _, k := range matching(a, b) {
		if e := n.edges[k]; e != nil && e.cutAfter >= 0 && (after < 0 || e.cutAfter < after) {
			after, short = e.cutAfter, e.cutShort
		}
	}
	return after, short
}
