package balance

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
)

// set is one Picker's choice of nodes at one moment. It is immutable but for the times of probes.
type set struct {
	scratch  sync.Pool // of *[]*Node: candidates for further attempts
	gen      uint64
	strategy Strategy
	// pool are the nodes to choose from. spare are others that may be reached, for attempts after the pool was tried.
	pool, spare []*Node
	// lots are the parts of the pool if calls are divided among them by share; nil = there is one, the pool.
	lots []lot
	// distance says how far away a node is, if calls stay near while they can; else it is nil.
	distance func(*registry.Node) int
	// avoided are the nodes in want of a probe.
	avoided []*Node
	// panicking: ejected nodes serve because too few others do. unreachable: every node of the pool is down.
	panicking, unreachable bool
	// probeSafe and probeAny are when the next probe is due for a call that can be repeated, and for one that cannot.
	probeSafe, probeAny atomic.Int64
	// state and reason of refusals while pool is empty.
	state, reason string
	// methods are those that some nodes publish and others do not; nil if there is none, as usual. Their sets are made when first asked for.
	methods map[string]*atomic.Pointer[set]
	// lacked are those that some nodes have been found to lack and that were asked for since; each change makes another map.
	lacked atomic.Pointer[map[string]*atomic.Pointer[set]]
	narrow func(method string) *set
	// edition is, in the set of a method, what was known of those who lack it.
	edition uint64
}

// build makes p's set. It is called with mu held.
func (p *Picker) build() *set {
	k := p.core
	var match []*Node
	for _, n := range k.nodes {
		info := n.Info()
		if p.sel.Match(info) && k.opt.Selector.Match(info) && (k.opt.Filter == nil || k.opt.Filter(info)) {
			match = append(match, n)
		}
	}
	s := k.assemble(match)
	switch {
	case len(k.nodes) == 0:
		s.state, s.reason = "empty", "discovery knows no node of this service"
	case len(match) == 0:
		s.state = "unmatched"
		s.reason = fmt.Sprintf("none of %d nodes matches %s", len(k.nodes), describe(p.sel.And(k.opt.Selector), k.opt.Filter != nil))
	}
	for _, name := range partial(match) {
		if s.methods == nil {
			s.methods = map[string]*atomic.Pointer[set]{}
		}
		s.methods[name] = new(atomic.Pointer[set])
	}
	s.narrow = func(method string) *set {
		k.mu.Lock()
		defer k.mu.Unlock()
		var some []*Node
		for _, n := range match {
			if info := n.Info(); len(info.Methods) == 0 || serves(n, method) {
				some = append(some, n)
			}
		}
		m := k.assemble(willing(some, method))
		if m.unreachable { // it is better to ask those who lacked it a while ago
			m = k.assemble(some)
		}
		return m
	}
	return s
}

func describe(sel Selector, filtered bool) string {
	switch {
	case sel.Empty() && filtered:
		return "the filter"
	case filtered:
		return fmt.Sprintf("%s and the filter", sel)
	}
	return sel.String()
}

// assemble sorts nodes into pool, spare and avoided. It is called with mu held.
func (k *core) assemble(nodes []*Node) *set {
	s := &set{gen: k.gen.Load(), strategy: k.opt.Strategy}
	acting := k.opt.Ejection.Mode == policy.On
	var ready, ejected, silent, draining, absent, down []*Node
	for _, n := range nodes {
		info, flags := n.Info(), n.flags.Load()
		if !acting {
			flags = 0
		}
		switch {
		case flags&isDown != 0:
			down = append(down, n)
		case info.Absent && n.ok.Load() == 0:
			// One that the registry has lost but that has answered us is as good as any: only calls vouch for it.
			absent = append(absent, n)
		case info.Draining:
			draining = append(draining, n)
		case flags&isEjected != 0:
			ejected = append(ejected, n)
		case flags&isSuspect != 0:
			silent = append(silent, n)
		default:
			ready = append(ready, n)
		}
	}
	all := func(lists ...[]*Node) (out []*Node) {
		for _, l := range lists {
			out = append(out, l...)
		}
		return out
	}
	switch {
	case len(ready) > 0 && 2*len(ready) < len(ready)+len(ejected):
		s.pool, s.spare, s.avoided, s.panicking = all(ready, ejected), all(silent, draining), all(silent, down), true
	case len(ready) > 0:
		s.pool, s.spare, s.avoided = ready, all(ejected, silent, draining), all(ejected, silent, down)
	case len(ejected)+len(silent) > 0:
		s.pool, s.spare, s.avoided, s.panicking = all(ejected, silent), draining, down, true
	case len(draining)+len(absent) > 0:
		s.pool, s.avoided = all(draining, absent), down
	default:
		s.pool, s.unreachable, s.panicking = down, true, len(down) > 0
	}
	if len(ready) > 0 {
		k.divide(s, nodes)
	}
	s.reckon(k.opt.Ejection.Probe < 0)
	return s
}

// reckon sets when the next probes are due. It is called with mu held.
func (s *set) reckon(never bool) {
	safe, unsafe := int64(math.MaxInt64), int64(math.MaxInt64)
	for _, n := range s.avoided {
		if never {
			break
		}
		safe = min(safe, int64(n.nextProbe))
		unsafe = min(unsafe, int64(n.probeFor(false)))
	}
	s.probeSafe.Store(safe)
	s.probeAny.Store(unsafe)
}

// probeFor is when a probe of n is due for a call that can, or cannot, be repeated whatever comes of it. A refused
// connection can always be repeated elsewhere; an ejection ends without any probe.
func (n *Node) probeFor(repeatable bool) policy.Time {
	switch flags := n.flags.Load(); {
	case repeatable, flags&isDown != 0:
		return n.nextProbe
	case flags&isEjected != 0:
		return math.MaxInt64
	}
	return n.nextProbe.Add(patience)
}

func (s *set) probeDue(now policy.Time, c *policy.Call) bool {
	if repeatable(c) {
		return int64(now) >= s.probeSafe.Load()
	}
	return int64(now) >= s.probeAny.Load()
}

func repeatable(c *policy.Call) bool {
	return (c.Idempotent || c.SideEffectFree) && c.PathAttempt <= 1
}

// serving returns the set for a method; lacked are the methods that some node lacks.
func (s *set) serving(lacked *map[string]*atomic.Uint64, method string) *set {
	slot := s.methods[method]
	edition := uint64(0)
	if lacked != nil {
		if e := (*lacked)[method]; e != nil {
			edition = e.Load()
		}
	}
	if slot == nil {
		if edition == 0 {
			return s
		}
		slot = s.slot(method)
	}
	if m := slot.Load(); m != nil && m.edition == edition {
		return m
	}
	m := s.narrow(method) // which knows more than the edition, if that has changed
	m.edition = edition
	slot.Store(m)
	return m
}

// slot returns where the set of a method is kept that some node lacks.
func (s *set) slot(method string) *atomic.Pointer[set] {
	for {
		old := s.lacked.Load()
		var known map[string]*atomic.Pointer[set]
		if old != nil {
			known = *old
		}
		slot := known[method]
		if slot != nil {
			return slot
		}
		slot = new(atomic.Pointer[set])
		next := make(map[string]*atomic.Pointer[set], len(known)+1)
		maps.Copy(next, known)
		next[method] = slot
		if s.lacked.CompareAndSwap(old, &next) {
			return slot
		}
	}
}

// serves reports whether a node that publishes methods publishes this one.
func serves(n *Node, method string) bool {
	_, ok := n.Info().Method(method)
	return ok
}

// partial returns the methods that some but not all of the nodes that publish methods publish.
func partial(nodes []*Node) []string {
	var first *Node
	same := true
	for _, n := range nodes {
		if len(n.Info().Methods) == 0 {
			continue
		}
		if first == nil {
			first = n
		} else if !sameMethods(first, n) {
			same = false
			break
		}
	}
	if same {
		return nil
	}
	publishers, count := 0, map[string]int{}
	for _, n := range nodes {
		methods := n.Info().Methods
		if len(methods) == 0 {
			continue
		}
		publishers++
		for i := range methods {
			count[methods[i].Name]++
		}
	}
	var names []string
	for name, c := range count {
		if c < publishers {
			names = append(names, name)
		}
	}
	return names
}

func sameMethods(a, b *Node) bool {
	x, y := a.Info().Methods, b.Info().Methods
	if len(x) != len(y) {
		return false
	}
	for i := range x {
		if x[i].Name != y[i].Name {
			return false
		}
	}
	return true
}

// refresh does what is due and returns p's set as it should be now.
func (p *Picker) refresh(now policy.Time, rnd rand.Source) *set {
	k := p.core
	if s := p.cur.Load(); s != nil && s.gen == k.gen.Load() {
		// Only the tick is due: one caller does it, the others go on.
		if !k.mu.TryLock() {
			return s
		}
	} else {
		k.mu.Lock()
	}
	defer k.release()
	if int64(now) >= k.due.Load() {
		k.tick(now, rnd)
	}
	s := p.cur.Load()
	if s == nil || s.gen != k.gen.Load() {
		s = p.build()
		p.cur.Store(s)
	}
	return s
}

// release unlocks mu and then tells what has changed.
func (k *core) release() {
	changes, notify := k.changes, k.opt.Notify
	k.changes = nil
	k.mu.Unlock()
	if notify != nil {
		for _, c := range changes {
			notify(c)
		}
	}
}
