package balance

import (
	"math"
	"math/rand/v2"

	"github.com/hull-go/hull/policy"
)

// Weighted returns the strategy that gives each node exactly its share, as evenly over time as that can be had: the
// turns of a node of weight w are 1/w long, and the node is taken whose next turn has its middle first. So a node is
// always within a call or so of its due, which Random promises never, and RoundRobin not while weights differ widely. It
// looks at every node; with equal weights RoundRobin does the same for less.
func Weighted() Strategy { return weighted{} }

// weighted keeps the turns in the nodes, so that all Pickers of a service (With) keep to the shares together.
type weighted struct{}

func (weighted) String() string { return "weighted" }

func (weighted) Choose(now policy.Time, rnd rand.Source, _ *policy.Call, nodes []*Node) *Node {
	for range 4 {
		i := int(rnd.Uint64() >> 32 * uint64(len(nodes)) >> 32) // beginning anywhere, so that clients do not march in step
		var best *Node
		var seen uint64
		first, present := math.Inf(1), math.Inf(-1)
		for range nodes {
			n := nodes[i]
			if i++; i == len(nodes) {
				i = 0
			}
			bits := n.turn.Load()
			turn, half := math.Float64frombits(bits), n.step(now)/2
			present = max(present, turn-half)
			if turn+half < first {
				best, seen, first = n, bits, turn+half
			}
		}
		// The turns of those who took part lie ahead of the present. One that was away does not get at once what it missed.
		end := max(first, present) + best.step(now)/2
		if best.turn.CompareAndSwap(seen, math.Float64bits(end)) {
			return best
		}
	}
	return draw(now, rnd, nodes) // others were quicker four times; among so many at once chance is as even
}

// step is how much later a node's next turn is.
func (n *Node) step(now policy.Time) float64 {
	if n.whole(now) {
		return 1
	}
	return 1 / n.Share(now)
}
