package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// Defaults of Options.
const (
	DefaultPerNode     = 2
	DefaultDialTimeout = 500 * time.Millisecond
	DefaultBackoff     = 100 * time.Millisecond
	DefaultMaxBackoff  = time.Second
	DefaultIdleBackoff = 30 * time.Second
	DefaultIdleTime    = 30 * time.Minute
)

// MaxPerNode is the largest Options.PerNode.
const MaxPerNode = 16

// Options configures a Pool. The zero value has the defaults.
type Options struct {
	// PerNode is how many connections a node may have; 0 = DefaultPerNode.
	PerNode int
	// DialTimeout bounds one dial with its handshake; 0 = DefaultDialTimeout.
	DialTimeout time.Duration
	// Backoff is the pause after the first failed dial; it grows by 1.6 with each further one. 0 = DefaultBackoff.
	Backoff time.Duration
	// MaxBackoff bounds the pause while the node is asked for; 0 = DefaultMaxBackoff.
	MaxBackoff time.Duration
	// IdleBackoff bounds it while nobody asks; 0 = DefaultIdleBackoff.
	IdleBackoff time.Duration
	// IdleTime is how long a connection without calls is kept, to within a quarter; 0 = DefaultIdleTime, negative = for ever.
	IdleTime time.Duration
	// Source is where the jitter of the pauses comes from; nil = a source of its own with a random seed. The pool locks it.
	Source rand.Source
	// OnState is told when a node becomes reachable (up, nil) or unreachable (not up, with the failed dial's error), in
	// order for each node. It must not block, and must not call Close or Drain. nil = nobody is told.
	OnState func(n *Node, up bool, err *status.Error)
}

// check fills in the defaults and reports all faults together.
func (o *Options) check() error {
	var errs []error
	if o.PerNode == 0 {
		o.PerNode = DefaultPerNode
	}
	if o.PerNode < 0 || o.PerNode > MaxPerNode {
		errs = append(errs, fmt.Errorf("%d connections per node: want 1 to %d", o.PerNode, MaxPerNode))
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{
		{"dial timeout", &o.DialTimeout, DefaultDialTimeout},
		{"back-off", &o.Backoff, DefaultBackoff},
		{"max back-off", &o.MaxBackoff, DefaultMaxBackoff},
		{"idle back-off", &o.IdleBackoff, DefaultIdleBackoff},
	} {
		if *d.value == 0 {
			*d.value = d.def
		}
		if *d.value < 0 {
			errs = append(errs, fmt.Errorf("%s %v: want a positive duration, or 0 for %v", d.name, *d.value, d.def))
		}
	}
	if o.IdleTime == 0 {
		o.IdleTime = DefaultIdleTime
	}
	if o.Source == nil {
		o.Source = rand.NewPCG(rand.Uint64(), rand.Uint64())
	}
	return errors.Join(errs...)
}

// Pool keeps connections to many nodes. It is safe for concurrent use.
type Pool struct {
	dialer transport.Dialer
	via    ViaDialer // dialer, if it is one
	opt    Options
	ctx    context.Context // ends when the pool is closed
	cancel context.CancelFunc
	wg     sync.WaitGroup // dials, watchers, timers

	nodes atomic.Pointer[map[string][]*Node] // by address; map and lists are replaced, never changed

	rndMu sync.Mutex
	rnd   *rand.Rand

	mu       sync.Mutex
	closed   bool
	sweeping *time.Timer // nil while there are no connections
	leaving  map[*Node]struct{}
}

// New returns an empty pool. It must be closed.
func New(d transport.Dialer, o Options) (*Pool, error) {
	if d == nil {
		return nil, errors.New("pool: no dialer: pass the transport that connects to nodes")
	}
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("pool: %w", err)
	}
	p := &Pool{dialer: d, opt: o, rnd: rand.New(o.Source), leaving: map[*Node]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.via, _ = d.(ViaDialer)
	p.nodes.Store(&map[string][]*Node{})
	return p, nil
}

// Get returns a connection to addr that takes new calls, dialling if there is none. It waits until deadline (0 = none) or
// the end of ctx. While a connection is there it takes no lock and allocates nothing.
func (p *Pool) Get(ctx context.Context, addr string, deadline policy.Time) (transport.Conn, *status.Error) {
	return p.Node(addr).Get(ctx, deadline)
}

// ViaDialer is what a Dialer can be that is told which way to take. Pools give it what Pool.Node was given.
type ViaDialer interface {
	// DialVia is transport.Dialer's Dial for what Pool.Node was given as via.
	DialVia(ctx context.Context, addr string, via []string) (transport.Conn, *status.Error)
}

// Node returns the handle of a node, which saves Get the look-up. It does not dial. The handle stays valid until the
// node is forgotten; from then on its Get fails.
//
// via says which way connections are made, for instance which protocols the node speaks: handles of one address with different ways share
// no connections. It means something to a Dialer that is a ViaDialer, and is not changed later.
func (p *Pool) Node(addr string, via ...string) *Node {
	if n := find((*p.nodes.Load())[addr], via); n != nil {
		return n
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := *p.nodes.Load()
	if n := find(old[addr], via); n != nil {
		return n
	}
	n := &Node{p: p, addr: addr, via: via}
	n.gone.Store(p.closed)
	if !p.closed {
		nodes := maps.Clone(old)
		nodes[addr] = append(slices.Clone(old[addr]), n)
		p.nodes.Store(&nodes)
	}
	return n
}

// Known returns the handle of a node if Node was asked for it, else nil.
func (p *Pool) Known(addr string, via ...string) *Node { return find((*p.nodes.Load())[addr], via) }

func find(list []*Node, via []string) *Node {
	for _, n := range list {
		if slices.Equal(n.via, via) {
			return n
		}
	}
	return nil
}

// Forget drops a node that is gone, as Node was asked for it: its connections drain, its dial is given up, waiting callers are told.
func (p *Pool) Forget(addr string, via ...string) {
	p.drop(func(n *Node) bool { return n.addr == addr && slices.Equal(n.via, via) })
}

// Retain forgets all nodes but those of addrs.
func (p *Pool) Retain(addrs []string) {
	keep := make(map[string]bool, len(addrs))
	for _, a := range addrs {
		keep[a] = true
	}
	p.drop(func(n *Node) bool { return !keep[n.addr] })
}

// drop takes the nodes for which f holds out of the pool and lets them drain.
func (p *Pool) drop(f func(*Node) bool) {
	p.mu.Lock()
	var gone []*Node
	left := map[string][]*Node{}
	for a, list := range *p.nodes.Load() {
		for _, n := range list {
			if f(n) {
				gone = append(gone, n)
				p.leaving[n] = struct{}{}
			} else {
				left[a] = append(left[a], n)
			}
		}
	}
	if len(gone) > 0 {
		p.nodes.Store(&left)
	}
	p.mu.Unlock()
	for _, n := range gone {
		n.leave()
	}
}

// left is told by a forgotten node that its last connection has ended.
func (p *Pool) left(n *Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.leaving, n)
}

// Drain forgets all nodes and waits until the calls under way have ended, or ctx has; then it closes the pool. It returns
// ctx's error if calls were cut off.
func (p *Pool) Drain(ctx context.Context) error {
	p.shut()
	p.drop(func(*Node) bool { return true })
	done := make(chan struct{})
	go func() {
		p.wg.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = p.Close()
	<-done
	return err
}

// Close ends all connections at once and waits for the pool's goroutines. Calls under way fail; later Gets do too. It
// returns nil and may be called more than once.
func (p *Pool) Close() error {
	p.shut()
	p.cancel()
	p.drop(func(*Node) bool { return true })
	p.mu.Lock()
	leaving := slices.Collect(maps.Keys(p.leaving))
	p.mu.Unlock()
	for _, n := range leaving {
		n.close()
	}
	p.wg.Wait()
	return nil
}

// shut keeps new nodes out and stops the sweeper.
func (p *Pool) shut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.stop(p.sweeping)
	p.sweeping = nil
}

// after runs f in d. The pool's end waits for it unless stop has been called in time.
func (p *Pool) after(d time.Duration, f func()) *time.Timer {
	p.wg.Add(1)
	return time.AfterFunc(d, func() {
		defer p.wg.Done()
		f()
	})
}

// stop takes back what after began. t may be nil.
func (p *Pool) stop(t *time.Timer) {
	if t != nil && t.Stop() {
		p.wg.Done()
	}
}

// jitter returns the factor of one pause.
func (p *Pool) jitter() float64 {
	p.rndMu.Lock()
	defer p.rndMu.Unlock()
	return minJitter + (maxJitter-minJitter)*p.rnd.Float64()
}

// idleSweeps is how many sweeps a connection must stay unused to be closed.
const idleSweeps = 4

// sweepLater sees to it that idle connections are looked for.
func (p *Pool) sweepLater() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.opt.IdleTime > 0 && p.sweeping == nil && !p.closed {
		p.sweeping = p.after(max(p.opt.IdleTime/idleSweeps, time.Millisecond), p.sweep)
	}
}

// sweep closes idle connections, and goes on as long as there are any connections.
func (p *Pool) sweep() {
	p.mu.Lock()
	p.sweeping = nil
	p.mu.Unlock()
	open := false
	for _, list := range *p.nodes.Load() {
		for _, n := range list {
			open = n.sweep() || open
		}
	}
	if open {
		p.sweepLater()
	}
}

// State is what the pool knows about one node, for people and tools.
type State struct {
	Addr string `json:"addr"`
	// Via is the way that connections are made, see Pool.Node.
	Via   []string    `json:"via,omitempty"`
	Conns []ConnState `json:"conns,omitempty"`
	// InFlight is the sum over all connections.
	InFlight int `json:"in_flight"`
	// Up is false after a failed dial, and before the first one has succeeded.
	Up bool `json:"up"`
	// Dialing: a dial is under way.
	Dialing bool `json:"dialing,omitempty"`
	// Fails is the number of failed dials in a row; RetryAt when the next one is due; Err what the last one said.
	Fails   int           `json:"fails,omitempty"`
	RetryAt policy.Time   `json:"retry_at,omitempty"`
	Err     *status.Error `json:"-"`
	// Error is Err as text.
	Error string `json:"error,omitempty"`
}

// ConnState is what the pool knows about one connection.
type ConnState struct {
	// Since is when it was made.
	Since    policy.Time `json:"since"`
	InFlight int         `json:"in_flight"`
	// Draining: it takes no new calls.
	Draining bool `json:"draining,omitempty"`
}

// Snapshot returns the state of all nodes, sorted by address and way.
func (p *Pool) Snapshot() []State {
	nodes := *p.nodes.Load()
	out := make([]State, 0, len(nodes))
	for _, list := range nodes {
		for _, n := range list {
			out = append(out, n.State())
		}
	}
	slices.SortFunc(out, func(a, b State) int { return cmp.Or(strings.Compare(a.Addr, b.Addr), slices.Compare(a.Via, b.Via)) })
	return out
}
