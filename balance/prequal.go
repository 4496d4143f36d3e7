package balance

import (
	"math"
	"math/rand/v2"
	"sync/atomic"

	"github.com/hull-go/hull/policy"
)

// Prequal returns the strategy of "Load is not what you should balance" (Wydrowski et al., NSDI '24): of a few nodes
// drawn by chance, those that have more in flight than 84 % of what is usual are hot; of the others the one is taken at
// which latency × (in flight + 1) is least, or if all are hot the one with the least in flight. (The paper goes by
// latency alone among the others. It asks nodes just before each call; by what was learned from earlier answers
// everybody would run to the node that was quickest a while ago.) It knows loads and latencies by what this client sees and
// by the reports that come with answers (Node.Report), and sends no probes of its own.
func Prequal() Strategy { return new(prequal) }

const (
	prequalDraws = 5
	hotQuantile  = 0.84
)

type prequal struct {
	hot atomic.Uint32 // the quantile of the loads, as float32 bits
}

func (*prequal) String() string { return "prequal" }

// Reports implements Reported.
func (*prequal) Reports() {}

func (s *prequal) Choose(now policy.Time, rnd rand.Source, _ *policy.Call, nodes []*Node) *Node {
	if len(nodes) == 1 {
		return nodes[0]
	}
	hot := math.Float32frombits(s.hot.Load())
	var cold, least *Node
	var cheapest, fewest float32
	for i := range min(prequalDraws, len(nodes)) {
		n := draw(now, rnd, nodes)
		load := n.load(now) / math.Float32frombits(n.share.Load())
		if least == nil || load < fewest {
			least, fewest = n, load
		}
		if cost := n.latency(now) * (load + 1); load <= hot && (cold == nil || cost < cheapest) {
			cold, cheapest = n, cost
		}
		if i == 0 {
			s.learn(hot, load, len(nodes))
		}
	}
	if cold != nil {
		return cold
	}
	return least
}

// learn moves the estimate of the quantile by one sample: up by 0.84 of a step or down by 0.16, so that it rests where
// 84 % of the samples are below. Of fewer than ten nodes one alone is more than 16 % and would set the limit that it
// should be measured by, so there the quantile is lower. Of two samples at the same time one may be lost, which does no
// harm.
func (s *prequal) learn(hot, load float32, nodes int) {
	q := min(hotQuantile, 1-1.5/float32(nodes))
	step := 0.02 * (1 + hot)
	if load > hot {
		hot += step * q
	} else {
		hot -= step * (1 - q)
	}
	s.hot.Store(math.Float32bits(max(hot, 0)))
}
