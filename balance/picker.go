package balance

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
)

// Picker chooses among the nodes of one service. It is a policy.Nodes, safe for concurrent use; Pick takes no lock
// unless something has changed, and allocates nothing for a first attempt.
type Picker struct {
	*core
	sel Selector
	cur atomic.Pointer[set]
}

var (
	_ policy.Nodes    = (*Picker)(nil)
	_ policy.Spares   = (*Picker)(nil)
	_ policy.Versions = (*Picker)(nil)
)

// core is what the Pickers of one service share: the nodes and what is known about them.
type core struct {
	gen atomic.Uint64 // of the sets; they are rebuilt by the Pick that finds theirs is old
	due atomic.Int64  // when tick is to run

	// Read by nodes on the way.
	median    atomic.Uint32 // of the nodes' latencies, nanoseconds as float32 bits
	p99       atomic.Int64  // of all answers in the last ten seconds or so; 0 = not known
	stall     atomic.Int64  // Ejection.Stall as it is now
	decay     atomic.Int64
	slowStart atomic.Int64
	limit     atomic.Int32 // Ejection.Consecutive; the largest number = never
	reports   atomic.Bool  // the strategy is a reported one
	knock     atomic.Pointer[func(*Node) bool]

	// lacked are the methods that some node lacks, each with the number of the latest news of it; nil = none.
	lacked atomic.Pointer[map[string]*atomic.Uint64]

	mu        sync.Mutex
	opt       Options
	service   string
	client    uint64 // stands for Subset.Client if that is not given
	updates   uint64
	nodes     []*Node // sorted by ID
	byKey     map[key]*Node
	changes   []Change // to be told when mu is free
	fleet     [bucketCount]float64
	nextTick  policy.Time
	nextSweep policy.Time
	relearn   policy.Time // when what nodes lack is to be looked through; 0 = never
	editions  uint64      // of what nodes lack
	n         counters
}

// key is a node's identity: what keeps its statistics, and its connections.
type key struct{ id, address string }

type counters struct {
	ejections, dryEjections, probes, slow int64
}

const (
	noMedian  = 0x49742400 // 1e6 ns as float32 bits: stands for the median until the first answer
	coldTail  = float32(100 * time.Millisecond)
	longTail  = float32(10 * time.Second)
	coldStall = time.Second
	minStall  = 100 * time.Millisecond
)

// New returns a Picker without nodes: Update brings them.
func New(o Options) (*Picker, error) {
	o, err := o.with()
	if err != nil {
		return nil, err
	}
	p := &Picker{core: &core{byKey: map[key]*Node{}, client: rand.Uint64()}} //nolint:forbidigo // who the client is, not what it decides; simulations set Subset.Client
	p.median.Store(noMedian)
	p.mu.Lock()
	p.configure(o)
	p.release()
	return p, nil
}

// Knock has f see to the nodes that Node.Down was told of, instead of calls: when it is time for a probe of one, f is asked whether the client has a
// connection to it by now. If it says no it sees to it that one is tried, and the call goes elsewhere; no call waits for a node that does not answer. f is
// called without locks held and must not block. Without f calls are the probes.
func (p *Picker) Knock(f func(*Node) bool) { p.knock.Store(&f) }

// With returns a Picker for the nodes that match sel too. It shares nodes, statistics and configuration with p; for
// calls that choose, make it once and keep it.
func (p *Picker) With(sel Selector) *Picker { return &Picker{core: p.core, sel: p.sel.And(sel)} }

// Configure replaces the options and keeps all statistics. With ejection off, nobody is avoided any more.
func (p *Picker) Configure(o Options) error {
	o, err := o.with()
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.configure(o)
	p.release()
	return nil
}

// Options returns the options in force, with their defaults filled in.
func (p *Picker) Options() Options {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opt
}

func (k *core) configure(o Options) {
	k.opt = o
	k.decay.Store(int64(o.Decay))
	k.slowStart.Store(int64(max(0, o.SlowStart)))
	_, reported := o.Strategy.(Reported)
	k.reports.Store(reported)
	k.limit.Store(math.MaxInt32)
	if o.Ejection.Consecutive > 0 && o.Ejection.Mode != policy.Off {
		k.limit.Store(int32(min(o.Ejection.Consecutive, math.MaxInt32)))
	}
	if o.Ejection.Mode == policy.Off {
		for _, n := range k.nodes {
			for _, flag := range [...]uint32{isSuspect, isEjected, isDown} {
				k.absolve(0, n, flag, "ejection was switched off")
			}
			n.streak.Store(0)
			n.ejections = 0
		}
	}
	k.capEjected(0)
	k.setStall()
	k.due.Store(0)
	k.gen.Add(1)
}

// Update takes what discovery says now. It returns the nodes that are gone, whose handles can be closed when their
// attempts have ended. Nodes keep their statistics as long as ID and address stay. nil is a service without nodes.
func (p *Picker) Update(now policy.Time, s *registry.Service) (gone []*Node) {
	k := p.core
	k.mu.Lock()
	defer k.release()
	first := len(k.nodes) == 0
	k.updates++
	var heaviest int
	if s != nil {
		k.service = s.Name
		for _, info := range s.Nodes {
			id := key{info.ID, info.Address}
			n := k.byKey[id]
			if n == nil {
				n = &Node{core: k, id: info.ID, hash: Key(info.ID)}
				if !first && k.opt.SlowStart > 0 {
					n.ramp.Store(int64(now.Add(k.opt.SlowStart)))
				}
				k.byKey[id] = n
				k.nodes = append(k.nodes, n)
			}
			n.became(info)
			n.mark = k.updates
			heaviest = max(heaviest, info.EffectiveWeight())
		}
	}
	k.nodes = slices.DeleteFunc(k.nodes, func(n *Node) bool {
		if n.mark == k.updates {
			return false
		}
		delete(k.byKey, key{n.id, n.Info().Address})
		gone = append(gone, n)
		return true
	})
	slices.SortFunc(k.nodes, func(a, b *Node) int { return strings.Compare(a.id, b.id) })
	for _, n := range k.nodes {
		n.share.Store(math.Float32bits(float32(n.Info().EffectiveWeight()) / float32(max(1, heaviest))))
	}
	k.capEjected(now)
	k.forget()
	k.gen.Add(1)
	return gone
}

// slotProbe marks the permit of a probe.
const slotProbe = 1

// maxHung is how many nodes that turn out to have been silent for too long one Pick passes over.
const maxHung = 3

// Pick chooses a node. A refusal's State is "empty" (discovery knows no node), "unmatched" (none matches the selector
// or filter) or "tried" (every node has been tried twice and cannot be reached).
func (p *Picker) Pick(now policy.Time, rnd rand.Source, c *policy.Call, tried []policy.Node) (policy.Node, policy.Verdict) {
	n, slot, s := p.pick(now, rnd, c, tried)
	switch {
	case n != nil:
		return n, policy.Verdict{Permit: policy.Permit{Start: now, Slot: slot}}
	case len(s.pool) == 0:
		return nil, policy.Verdict{Decision: policy.Refuse, State: s.state, Reason: s.reason}
	}
	return nil, policy.Verdict{Decision: policy.Refuse, State: "tried", Reason: "no node can be reached, and this call has tried each of them twice"}
}

// Choose is Pick for first attempts, without a Verdict, which is large: if there is no node, Pick says why not.
func (p *Picker) Choose(now policy.Time, rnd rand.Source, c *policy.Call) (policy.Node, policy.Permit) {
	n, slot, _ := p.pick(now, rnd, c, nil)
	if n == nil {
		return nil, policy.Permit{}
	}
	return n, policy.Permit{Start: now, Slot: slot}
}

// Chooser returns p: its own Pick is what Choose stands for.
func (p *Picker) Chooser() policy.Nodes { return p }

// pick chooses a node of s, nil if there is none. slot is its permit's.
func (p *Picker) pick(now policy.Time, rnd rand.Source, c *policy.Call, tried []policy.Node) (n *Node, slot uint32, s *set) {
	k := p.core
	for hung := 0; ; hung++ {
		s = p.cur.Load()
		if s == nil || s.gen != k.gen.Load() || int64(now) >= k.due.Load() {
			s = p.refresh(now, rnd)
		}
		if lacked := k.lacked.Load(); lacked != nil || s.methods != nil {
			s = s.serving(lacked, c.Method)
		}
		if len(s.pool) == 0 {
			return nil, 0, s
		}
		switch {
		case len(tried) > 0:
			if n = s.further(now, rnd, c, tried); n == nil {
				return nil, 0, s
			}
		case s.probeDue(now, c):
			if n = k.probe(now, rnd, c, s); n != nil && k.connects(n) {
				n.begin(now)
				return n, slotProbe, s
			}
			fallthrough
		default:
			n = s.strategy.Choose(now, rnd, c, s.from(rnd, c))
		}
		if hung < maxHung && n.stalled(now) && n.flags.Load() == 0 && k.suspect(now, rnd, n) {
			continue
		}
		n.begin(now)
		return n, 0, s
	}
}

// further chooses for a further attempt: outside of a zone in which two have failed, else among the untried in the call's part of the pool and then in all of it, then the untried beyond it that may be
// reached, then those that were tried least. In each of these places nodes that the client is connected to come first. It returns nil if only nodes are left that were down twice.
func (s *set) further(now policy.Time, rnd rand.Source, c *policy.Call, tried []policy.Node) *Node {
	buf, ok := s.scratch.Get().(*[]*Node)
	if !ok {
		buf = new([]*Node)
	}
	from := s.elsewhere((*buf)[:0], tried)
	if len(from) == 0 {
		from = untried(from, s.from(rnd, c), tried, 0)
	}
	if len(from) == 0 && s.lots != nil {
		from = untried(from, s.pool, tried, 0)
	}
	if len(from) == 0 {
		from = untried(from, s.spare, tried, 0)
	}
	times := 1
	for ; len(from) == 0; times++ {
		from = untried(from, s.pool, tried, times)
	}
	var n *Node
	if times <= 2 || !s.unreachable {
		n = s.strategy.Choose(now, rnd, c, connected(from))
	}
	clear(from)
	*buf = from
	s.scratch.Put(buf)
	return n
}

// connected returns those of the nodes that the client has a connection to, or all of them if there is none. It may reorder them.
func connected(nodes []*Node) []*Node {
	up := 0
	for i, n := range nodes {
		if n.link.Load() == linkUp {
			nodes[up], nodes[i] = n, nodes[up]
			up++
		}
	}
	if up == 0 {
		return nodes
	}
	return nodes[:up]
}

// Spare implements policy.Spares: it reports whether a node is left that is none of tried and that may be reached. If none may be, those
// count that have not been tried.
func (p *Picker) Spare(now policy.Time, rnd rand.Source, c *policy.Call, tried []policy.Node) bool {
	s := p.serving(now, rnd, c)
	for _, nodes := range [...][]*Node{s.pool, s.spare} {
		for _, n := range nodes {
			if !slices.Contains(tried, policy.Node(n)) {
				return true
			}
		}
	}
	return false
}

// untried appends the nodes that appear in tried at most times times.
func untried(to, nodes []*Node, tried []policy.Node, times int) []*Node {
	for _, n := range nodes {
		count := 0
		for _, t := range tried {
			if t == policy.Node(n) {
				count++
			}
		}
		if count <= times {
			to = append(to, n)
		}
	}
	return to
}

// Done records what became of an attempt. If it is Untimed it says nothing about latency: the length of a stream is none.
func (p *Picker) Done(now policy.Time, rnd rand.Source, node policy.Node, permit policy.Permit, e policy.Ended) {
	n, ok := node.(*Node)
	if !ok || n == nil {
		return
	}
	n.inflight.Add(-1)
	if e.Class == policy.ClassOK {
		n.heard.Store(int64(now))
		n.succeeded(now, &e)
		if n.streak.Load() == 0 && n.flags.Load() == 0 { // nearly always; there is nothing to be changed or judged then
			return
		}
	}
	n.ended(now, rnd, permit, e)
}

// succeeded counts an attempt that does the node credit.
func (n *Node) succeeded(now policy.Time, e *policy.Ended) {
	if n.ok.Add(1) == 1 && n.Info().Absent {
		n.core.gen.Add(1) // it has proved to be there
	}
	if e.Untimed {
		return
	}
	n.took[bucketOf(e.Took)].Add(1)
	n.ewma.observe(now, float32(e.Took), time.Duration(n.core.decay.Load()))
	if n.core.median.Load() == noMedian {
		// The others may be as quick as the first one to answer.
		n.core.median.CompareAndSwap(noMedian, math.Float32bits(max(1, float32(e.Took))))
	}
}

// ended draws the consequences of an attempt; if it is ClassOK it has been counted.
func (n *Node) ended(now policy.Time, rnd rand.Source, permit policy.Permit, e policy.Ended) {
	k := n.core
	if e.Class == policy.ClassRefused {
		if permit.Slot == slotProbe {
			k.unprobe(now, n)
		}
		return
	}
	counts := e.Class.Counts()
	if e.Untimed {
		e.Took = 0
	}
	silent := n.heard.Load() <= int64(permit.Start)
	heard := answers(e.Class)
	if heard {
		n.heard.Store(int64(now))
	}
	switch {
	case e.Class == policy.ClassOK:
	case counts.Rate == policy.Success:
		n.succeeded(now, &e)
	case counts.Rate == policy.Failure:
		n.failed.Add(1)
		n.charge(now, e.Took)
	default:
		n.other.Add(1)
		switch {
		case counts.LowerBound:
			n.raise(now, float32(e.Took))
		case counts.Throttle == policy.Overloaded:
			// The node is full, however quickly it says so.
			n.raise(now, max(float32(e.Took), k.tail()))
		}
	}
	streak := int32(0)
	switch counts.Node {
	case policy.Success:
		if n.streak.Load() != 0 {
			n.streak.Store(0)
		}
	case policy.Failure:
		if streak = n.streak.Add(1); streak == 1 {
			n.row.Store(int64(now))
		}
	}
	in := finding{
		class: e.Class, counts: counts, heard: heard,
		down:   counts.Down || e.Class == policy.ClassDraining,
		broken: e.Class == policy.ClassReset,
		// Nothing was heard during the whole attempt: others in flight fare no better.
		hung:   silent && counts.Node == policy.Failure && counts.LowerBound,
		streak: streak, took: e.Took,
	}
	if n.flags.Load() != 0 || in.down || in.hung || in.broken || streak >= k.limit.Load() {
		k.judge(now, rnd, n, permit, in)
	}
}

// answers reports whether a class proves that the node is there and answers.
func answers(c policy.Class) bool {
	switch c {
	case policy.ClassUnsent, policy.ClassHandshake, policy.ClassReset, policy.ClassTimeout, policy.ClassDeadlineLate,
		policy.ClassDeadlineSoon, policy.ClassCancelled, policy.ClassLoser, policy.ClassRefused, policy.ClassDraining, policy.ClassStalled:
		return false
	}
	return true
}

// tail is the fleet's p99 in nanoseconds, or a guess while it is not known. The guess is bounded: while nothing succeeds
// the median is made of what failures are charged, and they are charged a multiple of the guess.
func (k *core) tail() float32 {
	if p := k.p99.Load(); p > 0 {
		return float32(p)
	}
	return min(max(coldTail, math.Float32frombits(k.median.Load())), longTail)
}
