package balance

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"

	"github.com/hull-go/hull/policy"
)

// Strategy chooses one of several nodes. Implementations are safe for concurrent use, take no longer than they must
// (they run for every attempt) and allocate nothing. A Strategy belongs to one Picker.
type Strategy interface {
	// Choose returns one of nodes, which are at least one, all in good standing as far as that can be had, and must be
	// neither changed nor kept. rnd is the caller's own and need not be locked.
	Choose(now policy.Time, rnd rand.Source, c *policy.Call, nodes []*Node) *Node
}

// Reported is what a Strategy is that goes by what nodes say of their load in their answers, see Node.Report. They are asked only for its sake.
type Reported interface {
	Strategy
	// Reports does nothing.
	Reports()
}

// Random returns the strategy that chooses by chance, in proportion to the nodes' shares.
func Random() Strategy { return random{} }

// RoundRobin returns the strategy that goes round, skipping nodes of lower weight in as many rounds as it takes.
func RoundRobin() Strategy { return new(roundRobin) }

// LeastConnections returns the strategy that takes the node with the fewest attempts in flight relative to its share.
// It looks at every node: for fleets of hundreds P2C is much cheaper and nearly as good.
func LeastConnections() Strategy { return leastConnections{} }

// P2C returns the default strategy, the power of two choices: of three nodes drawn by chance, in a fleet of three or less of two, it takes
// the one at which another attempt costs least, where cost = latency (peak-EWMA) × (in flight + ½) ÷ weight.
//
// Each client sees its own attempts only. Two draws and in flight + 1, as is usual, leave more of them beside each other: in a hundred
// clients' calls to a hundred servers, 1.27 times as many as these were promised for certain, p99 was a quarter higher.
func P2C() Strategy { return new(p2c) }

// named are the strategies that configuration can ask for, in the order in which they are listed.
var named = [...]struct {
	name string
	make func() Strategy
}{
	{"p2c", P2C},
	{"round-robin", RoundRobin},
	{"random", Random},
	{"weighted", Weighted},
	{"least-connections", LeastConnections},
	{"consistent-hash", func() Strategy { return ConsistentHash(0) }},
	{"prequal", Prequal},
}

// StrategyNames are the names that StrategyNamed knows, the default first.
func StrategyNames() []string {
	names := make([]string, len(named))
	for i := range named {
		names[i] = named[i].name
	}
	return names
}

// StrategyNamed returns the strategy that configuration calls so; the empty name is P2C.
func StrategyNamed(name string) (Strategy, error) {
	if name == "" {
		return P2C(), nil
	}
	for i := range named {
		if named[i].name == name {
			return named[i].make(), nil
		}
	}
	return nil, fmt.Errorf("balance: no strategy %q: choose one of %s", name, strings.Join(StrategyNames(), ", "))
}

type random struct{}

func (random) String() string { return "random" }

func (random) Choose(now policy.Time, rnd rand.Source, _ *policy.Call, nodes []*Node) *Node {
	return draw(now, rnd, nodes)
}

// draw picks a node by chance, in proportion to the shares. A node of a tiny share among none that is whole may get
// more than its due, because the number of tries is bounded.
func draw(now policy.Time, rnd rand.Source, nodes []*Node) *Node {
	var best *Node
	bestShare := -1.0
	for range 16 {
		r := rnd.Uint64()
		n := nodes[(r>>32)*uint64(len(nodes))>>32]
		if n.whole(now) {
			return n
		}
		share := n.Share(now)
		if float64(uint32(r)) < share*(1<<32) {
			return n
		}
		if share > bestShare {
			best, bestShare = n, share
		}
	}
	return best
}

// golden spreads the places of any number of nodes evenly over fractions.
const golden = 0.6180339887498949

type roundRobin struct{ next atomic.Uint64 }

func (*roundRobin) String() string { return "round-robin" }

func (s *roundRobin) Choose(now policy.Time, _ rand.Source, _ *policy.Call, nodes []*Node) *Node {
	var n *Node
	for range 4*len(nodes) + 1 { // one more, so that nodes that are all starting slowly take turns
		turn := s.next.Add(1) - 1
		n = nodes[turn%uint64(len(nodes))]
		if n.whole(now) {
			return n
		}
		// In round r a node of share s is taken when r·s passes a whole number, which happens in s of all rounds. Each
		// node begins at another fraction, so that equals are not all taken in the same round.
		round, place := float64(turn/uint64(len(nodes))), float64(turn%uint64(len(nodes)))
		share, from := n.Share(now), place*golden
		if uint64((round+1)*share+from) > uint64(round*share+from) {
			return n
		}
	}
	return n
}

type leastConnections struct{}

func (leastConnections) String() string { return "least-connections" }

func (leastConnections) Choose(now policy.Time, rnd rand.Source, _ *policy.Call, nodes []*Node) *Node {
	// Beginning anywhere, so that equals take turns.
	i := int(rnd.Uint64() >> 32 * uint64(len(nodes)) >> 32)
	var best *Node
	var least float64
	for range nodes {
		n := nodes[i]
		if i++; i == len(nodes) {
			i = 0
		}
		load := float64(n.inflight.Load() + 1)
		if !n.whole(now) {
			load /= n.Share(now)
		}
		if best == nil || load < least {
			best, least = n, load
		}
	}
	return best
}

type p2c struct{} // its methods are a pointer's: an interface calls those of a value through another function

func (*p2c) String() string { return "p2c" }

func (*p2c) Choose(now policy.Time, rnd rand.Source, _ *policy.Call, nodes []*Node) *Node {
	count := uint64(len(nodes))
	if count == 1 {
		return nodes[0]
	}
	r := rnd.Uint64()
	i, j := (r>>32)*count>>32, (r&0xffffffff)*(count-1)>>32
	if j >= i {
		j++
	}
	a, b := nodes[i], nodes[j]
	if !a.whole(now) || !b.whole(now) {
		// A node of weight 3 stands for three nodes with a third of its load each: it is drawn three times as often.
		a, b = draw(now, rnd, nodes), draw(now, rnd, nodes)
	}
	least := a.cost(now)
	if a != b {
		if cost := b.cost(now); cost < least {
			a, least = b, cost
		}
	}
	if count > 3 { // of fewer all would be looked at nearly every time, and all clients run to the same node
		if c := draw(now, rnd, nodes); c != a && c.cost(now) < least {
			a = c
		}
	}
	return a
}
