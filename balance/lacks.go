package balance

import (
	"maps"
	"slices"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
)

const (
	// lacksFor is how long it is believed that a node does not serve a method: of nodes that say neither which version they run nor when they started it is
	// never known that they have become others.
	lacksFor = time.Minute
	// maxLacks is how many methods are remembered of a node.
	maxLacks = 64
)

// Lacks tells the Picker that the node has said that it does not serve a method at all, which is more than that it cannot do what one call wants. For a
// minute calls of the method go to other nodes, if there are any that may be reached; what Options.Selector and shares of versions say holds among those. It
// is forgotten when discovery says that the node is another process or runs another version. Of a node 64 methods are remembered.
func (n *Node) Lacks(now policy.Time, method string) {
	k := n.core
	k.mu.Lock()
	defer k.release()
	if _, known := n.lacks[method]; !known {
		if len(n.lacks) >= maxLacks {
			clear(n.lacks)
		}
		if n.lacks == nil {
			n.lacks = map[string]policy.Time{}
		}
		k.gen.Add(1)
	}
	n.lacks[method] = now.Add(lacksFor)
	k.relearn = policy.Earliest(k.relearn, now.Add(lacksFor))
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
	for _, n := range k.nodes {
		before := len(n.lacks)
		maps.DeleteFunc(n.lacks, func(_ string, until policy.Time) bool { return until <= now })
		if len(n.lacks) < before {
			k.gen.Add(1)
		}
		for _, until := range n.lacks {
			k.relearn = policy.Earliest(k.relearn, until)
		}
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
