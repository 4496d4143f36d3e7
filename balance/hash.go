package balance

import (
	"math"
	"math/rand/v2"

	"github.com/hull-go/hull/policy"
)

// DefaultHashBound is how many times its share of the attempts in flight a node of ConsistentHash may have.
const DefaultHashBound = 1.25

// ConsistentHash returns the strategy that sends calls with the same Call.Hash to the same node, every client to the
// same one, as long as the node is in good standing and has no more than bound times its share of the attempts in
// flight; 0 = DefaultHashBound, and it is above 1. Otherwise they go to the key's second node, and so on. Calls without
// a key (Hash 0) are spread as by P2C.
//
// It is weighted rendezvous hashing: of all nodes the one with the highest −weight ÷ ln hash(key, node) is taken
// (Schindelhauer and Schomaker 2005). So when a node leaves only its own keys move, to all others in proportion to
// their weights, and when it returns just these come back; a ring would need hundreds of points per node for the same
// evenness, and Maglev moves a few other keys. The price is a look at every node, about a nanosecond each.
func ConsistentHash(bound float64) Strategy {
	if !(bound > 1) {
		bound = DefaultHashBound
	}
	return consistentHash{bound}
}

type consistentHash struct{ bound float64 }

func (consistentHash) String() string { return "consistent-hash" }

func (s consistentHash) Choose(now policy.Time, rnd rand.Source, c *policy.Call, nodes []*Node) *Node {
	if c.Hash == 0 {
		return new(p2c).Choose(now, rnd, c, nodes)
	}
	inflight, shares := 1, 0.0
	for _, n := range nodes {
		inflight += int(n.inflight.Load())
		shares += n.quickShare(now)
	}
	best := highest(now, c.Hash, nodes, math.Inf(1))
	// Rounding up, so that a quiet fleet keeps every key where it belongs.
	room := s.bound * float64(inflight) / shares
	if !best.within(now, room) {
		if n := highest(now, c.Hash, nodes, room); n != nil {
			return n
		}
	}
	return best
}

// highest returns the first of a key's nodes that has room for one more attempt; nil if none has.
func highest(now policy.Time, hash uint64, nodes []*Node, room float64) *Node {
	var best *Node
	var most uint64
	for _, n := range nodes {
		if !n.whole(now) {
			return highestWeighted(now, hash, nodes, room)
		}
		if h := mix(hash ^ n.hash); (best == nil || h > most) && n.within(now, room) {
			best, most = n, h
		}
	}
	return best
}

// highestWeighted is highest for nodes of different shares. With equal ones it finds the same, only slower.
func highestWeighted(now policy.Time, hash uint64, nodes []*Node, room float64) *Node {
	var best *Node
	most := math.Inf(-1)
	for _, n := range nodes {
		u := (float64(mix(hash^n.hash)>>11) + 0.5) / (1 << 53)
		if score := -n.Share(now) / math.Log(u); score > most && n.within(now, room) {
			best, most = n, score
		}
	}
	return best
}

// within reports whether one more attempt leaves the node within room for each whole share, rounded up.
func (n *Node) within(now policy.Time, room float64) bool {
	return float64(n.inflight.Load()+1) <= math.Ceil(room*n.quickShare(now))
}

// quickShare is Share, quicker for whole nodes.
func (n *Node) quickShare(now policy.Time) float64 {
	if n.whole(now) {
		return 1
	}
	return n.Share(now)
}

// Key makes a Call's Hash of what calls are to be kept together by, a user or a session for instance: the same in every
// process, and never 0.
func Key(s string) uint64 {
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return max(mix(h), 1)
}

// mix spreads the bits of x over all 64 (the finalizer of MurmurHash3, with Stafford's constants).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
