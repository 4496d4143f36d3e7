package memnet

import (
	"hash/fnv"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Defaults of Options.
const (
	DefaultBuffer  = 256 << 10
	DefaultBacklog = 128
)

// Options configures a Network. The zero value is ready to use; numbers below zero mean the same as zero.
type Options struct {
	// Seed feeds jitter: the same seed gives each connection, known by its two addresses, the same jitter.
	Seed uint64
	// Buffer bounds how many bytes one direction of a connection holds; 0 = DefaultBuffer.
	Buffer int
	// Backlog bounds how many connections wait for one listener to accept them; further ones are not answered until there
	// is room. 0 = DefaultBacklog.
	Backlog int
}

// Network is a set of hosts that can reach each other. All methods are safe for concurrent use.
type Network struct {
	opt Options

	mu    sync.Mutex
	rnd   *rand.Rand
	hosts map[string]*Host
	edges map[edgeKey]*edge
	conns map[*connection]struct{} // those with an open end
	// changed is closed when something that a dialler waits for may be different; nil while nobody waits.
	changed chan struct{}
	closed  bool
}

// New returns an empty network. Close it when the test ends.
func New(o Options) *Network {
	if o.Buffer <= 0 {
		o.Buffer = DefaultBuffer
	}
	if o.Backlog <= 0 {
		o.Backlog = DefaultBacklog
	}
	return &Network{
		opt:   o,
		rnd:   rand.New(rand.NewPCG(o.Seed, 0)),
		hosts: map[string]*Host{},
		edges: map[edgeKey]*edge{},
		conns: map[*connection]struct{}{},
	}
}

// Host returns the host of that name and makes it if need be. The name must not be empty, Any, or contain a colon.
func (n *Network) Host(name string) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[name]
	if h == nil {
		h = &Host{n: n, name: name, nextPort: firstEphemeral, listeners: map[int]*listener{}}
		n.hosts[name] = h
	}
	return h
}

// Conns returns how many ends of connections are open. Tests use it to see that nothing was forgotten.
func (n *Network) Conns() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	open := 0
	for c := range n.conns {
		open += c.open
	}
	return open
}

// Close closes all listeners and connections and makes every call under way, frozen ones too, return net.ErrClosed.
// Later calls fail the same way. It may be called more than once, and returns nil.
func (n *Network) Close() error {
	n.mu.Lock()
	n.closed = true
	var ls []*listener
	for _, h := range n.hosts {
		for _, l := range h.listeners {
			ls = append(ls, l)
		}
	}
	ends := n.endsLocked(func(*Conn) bool { return true })
	n.wakeLocked()
	n.mu.Unlock()
	for _, l := range ls {
		_ = l.Close()
	}
	for _, c := range ends {
		_ = c.Close()
	}
	return nil
}

// wakeLocked lets diallers look again.
func (n *Network) wakeLocked() {
	if n.changed != nil {
		close(n.changed)
		n.changed = nil
	}
}

// changeLocked returns a channel that the next wakeLocked closes.
func (n *Network) changeLocked() <-chan struct{} {
	if n.changed == nil {
		n.changed = make(chan struct{})
	}
	return n.changed
}

// endsLocked returns the ends of connections for which f holds.
func (n *Network) endsLocked(f func(*Conn) bool) []*Conn {
	var out []*Conn
	for c := range n.conns {
		for _, e := range c.ends {
			if f(e) {
				out = append(out, e)
			}
		}
	}
	return out
}

// connection ties the two ends together for the network's bookkeeping.
type connection struct {
	ends [2]*Conn
	open int // ends not closed; under Network.mu

	mu sync.Mutex // the state of both pipes
}

// connectLocked makes a connection between two addresses; the first end is the dialler's.
func (n *Network) connectLocked(from, to *Host, local, remote addr) *connection {
	c := &connection{open: 2}
	there, back := n.pipeLocked(from, to, local, remote), n.pipeLocked(to, from, remote, local)
	for _, p := range []*pipe{there, back} {
		p.mu, p.r.cond.L, p.w.cond.L = &c.mu, &c.mu, &c.mu
	}
	there.back, back.back = back, there
	c.ends[0] = &Conn{n: n, c: c, host: from, in: back, out: there, local: local, remote: remote}
	c.ends[1] = &Conn{n: n, c: c, host: to, in: there, out: back, local: remote, remote: local}
	n.conns[c] = struct{}{}
	return c
}

// pipeLocked makes one direction, as the faults of the moment shape it.
func (n *Network) pipeLocked(from, to *Host, src, dst addr) *pipe {
	h := fnv.New64a()
	_, _ = h.Write([]byte(src + ">" + dst))
	p := &pipe{size: n.opt.Buffer, cutAt: -1, rnd: rand.New(rand.NewPCG(n.opt.Seed, h.Sum64()))}
	p.r.frozen, p.w.frozen = to.frozen, from.frozen
	p.shape, p.ackLost = n.shapeLocked(from.name, to.name), n.shapeLocked(to.name, from.name).drop
	if after, short := n.cutLocked(from.name, to.name); after >= 0 {
		p.cutAt, p.cutShort = after, short
	}
	return p
}

// forget takes one closed end off the books.
func (n *Network) forget(c *connection) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.open--; c.open == 0 {
		delete(n.conns, c)
	}
}

// addr is "host:port".
type addr string

// Network returns "tcp".
func (addr) Network() string { return "tcp" }

// String returns "host:port".
func (a addr) String() string { return string(a) }

var _ net.Addr = addr("")

// draw returns a uniform duration below d.
func draw(r *rand.Rand, d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(r.Int64N(int64(d)))
}
