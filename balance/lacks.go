package balance

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
)

const (
	// lacksFor is how long it is believed that a node does not serve a method: of nodes that say neither which version they run nor when they started it is
	// never known that they have become others.
	lacksFor = time.Minute
	// maxLacks is how many methods are remembered of a node, maxLacked of all nodes together.
	maxLacks, maxLacked = 64, 256
)

// Lacks tells the Picker that the node has said that it does not serve a method at all, which is more than that it cannot do what one call wants. For a
// minute calls of the method go to other nodes, if there are any that may be reached; what Options.Selector and shares of versions say holds among those. It
// is forgotten when discovery says that the node is another process or runs another version. Of a node 64 methods are remembered, of all together 256: what comes
// beyond, for instance names that somebody makes up, is not.
func (n *Node) Lacks(now policy.Time, method string) {
	k := n.core
	k.mu.Lock()
	defer k.release()
	if k.byKey[key{n.id, n.Info().Address}] != n {
		return // it is gone
	}
	if _, known := n.lacks[method]; !known && !k.learned(n, method) {
		return
	}
	n.lacks[method] = now.Add(lacksFor)
	k.relearn = policy.Earliest(k.relearn, now.Add(lacksFor))
}

// learned makes the sets of one method old, and no other, because n lacks it too. It reports false if as much is remembered as may be. It is called with mu held.
func (k *core) learned(n *Node, method string) bool {
	lacked := k.lackedNow()
	edition := lacked[method]
	if len(n.lacks) >= maxLacks || edition == nil && len(lacked) >= maxLacked {
		return false
	}
	if n.lacks == nil {
		n.lacks = map[string]policy.Time{}
	}
	k.editions++
	if edition != nil {
		edition.Store(k.editions)
		return true
	}
	next := make(map[string]*atomic.Uint64, len(lacked)+1)
	maps.Copy(next, lacked)
	edition = new(atomic.Uint64)
	edition.Store(k.editions)
	next[method] = edition
	k.lacked.Store(&next)
	return true
}

// lackedNow returns the methods that some node lacks.
func (k *core) lackedNow() map[string]*atomic.Uint64 {
	if m := k.lacked.Load(); m != nil {
		return *m
	}
	return nil
}

// forget drops the methods that no node lacks any more. It is called with mu held, by those who make all sets old.
func (k *core) forget() {
	lacked := k.lackedNow()
	if lacked == nil {
		return
	}
	next := map[string]*atomic.Uint64{}
	for _, n := range k.nodes {
		for method := range n.lacks {
			next[method] = lacked[method]
		}
	}
	if len(next) == 0 {
		k.lacked.Store(nil)
	} else {
		k.lacked.Store(&next)
	}
}

// lacking returns the methods that n does not serve, sorted. It is called with mu held.
func (n *Node) lacking(now policy.Time) (methods []string) {
	for m, until := range n.lacks {
		if now < until {
			methods = append(methods, m)
		}
	}
	slices.Sort(methods)
	return methods
}

// became takes what discovery says of n. It is called with mu held.
func (n *Node) became(info *registry.Node) {
	if old := n.info.Swap(info); len(n.lacks) > 0 && old != nil &&
		(old.Version != info.Version || !old.Started.Equal(info.Started) || !slices.EqualFunc(old.Methods, info.Methods, func(a, b registry.Method) bool { return a.Name == b.Name })) {
		n.lacks = nil
	}
}

// unlearn forgets what has been believed for long enough. It is called with mu held.
func (k *core) unlearn(now policy.Time) {
	k.relearn = 0
	changed := false
	for _, n := range k.nodes {
		before := len(n.lacks)
		maps.DeleteFunc(n.lacks, func(_ string, until policy.Time) bool { return until <= now })
		changed = changed || len(n.lacks) < before
		for _, until := range n.lacks {
			k.relearn = policy.Earliest(k.relearn, until)
		}
	}
	if changed {
		k.forget()
		k.gen.Add(1)
	}
}

// willing returns those of the nodes that have not said that they lack a method, or all of them if there are none. It is called with mu held.
func willing(nodes []*Node, method string) []*Node {
	var some []*Node
	for _, n := range nodes {
		if _, lacks := n.lacks[method]; !lacks {
			some = append(some, n)
		}
	}
	if len(some) == 0 {
		return nodes
	}
	return some
}
