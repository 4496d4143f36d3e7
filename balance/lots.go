package balance

import (
	"cmp"
	"maps"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
)

// Subset lets each client of a large fleet call some of its nodes only, so that not everybody keeps connections to
// everybody. The nodes stand in a ring, in an order all clients agree on; a client takes those that follow its own
// place. Clients numbered one after the other stand as far apart as they can (their places are multiples of the golden
// ratio), so every node gets as many clients as any other, but for a few. A node that joins or leaves moves every
// client by a node or so, and one that is avoided is replaced by the next in the ring.
type Subset struct {
	// Size is how many nodes in good standing the client keeps to; 0 = all.
	Size int
	// Client is the client's number among its equals, counted from 1, or a hash of its name. With numbers nodes get
	// equally many clients, with hashes as many as chance will have it. 0 = a number drawn by chance in New, another
	// after each start.
	Client uint64
}

// spillAt is how much more than its part a zone is trusted to take (Envoy's overprovisioning factor): nothing leaves
// it until fewer than 1/1.4 of its nodes, 71 %, are in good standing.
const spillAt = 1.4

// lot is a part of the nodes to choose from, and the share of the calls that is for it.
type lot struct {
	nodes []*Node
	share float64
	until uint64 // sum of the shares up to here, of 1<<32
}

// salt makes the choice of a lot and of a node in it independent.
const salt = 0x6c6f74

// from returns the nodes that a call is to be chosen from. Calls with the same key come to the same lot as long as the
// shares stay.
func (s *set) from(rnd rand.Source, c *policy.Call) []*Node {
	if s.lots == nil {
		return s.pool
	}
	return s.lot(rnd, c)
}

// lot is from for a pool that is divided.
func (s *set) lot(rnd rand.Source, c *policy.Call) []*Node {
	var u uint64
	if c.Hash != 0 {
		u = mix(c.Hash^salt) >> 32
	} else {
		u = rnd.Uint64() >> 32
	}
	i := 0
	for i < len(s.lots)-1 && u >= s.lots[i].until {
		i++
	}
	return s.lots[i].nodes
}

// divide makes lots of the pool, by versions and within each by zones, and of each the client's subset. Who is in none
// is spare. all are the nodes of the set, good or bad. It is called with mu held.
func (k *core) divide(s *set, all []*Node) {
	o := &k.opt
	tiered := (o.Zone != "" || o.Region != "") && !s.panicking
	if !tiered && len(o.Versions) == 0 && o.Subset.Size == 0 {
		return
	}
	if tiered {
		o := *o
		s.distance = o.distance
	}
	good := make(map[*Node]bool, len(s.pool))
	for _, n := range s.pool {
		good[n] = true
	}
	var lots []lot
	for _, g := range k.byVersion(all, good) {
		lots = append(lots, k.byZone(g, good, tiered)...)
	}
	total := 0.0
	for _, l := range lots {
		total += l.share
	}
	if total == 0 {
		return // nobody but versions that are to get nothing
	}
	var pool []*Node
	sum := 0.0
	for i := range lots {
		pool = append(pool, lots[i].nodes...)
		sum += lots[i].share / total
		lots[i].until = uint64(sum * (1 << 32))
	}
	for _, n := range pool {
		delete(good, n)
	}
	var rest []*Node
	for _, n := range s.pool {
		if good[n] {
			rest = append(rest, n)
		}
	}
	s.pool, s.spare = pool, append(rest, s.spare...)
	if len(lots) > 1 {
		s.lots = lots
	}
}

// byVersion divides nodes into those of the versions that have a share, by name, and the others, which share the rest.
func (k *core) byVersion(all []*Node, good map[*Node]bool) []lot {
	rest := lot{share: 1}
	byName := map[string]*lot{}
	for version, share := range k.opt.Versions {
		byName[version] = &lot{share: share}
		rest.share -= share
	}
	rest.share = max(0, rest.share)
	for _, n := range all {
		if l := byName[n.Info().Version]; l != nil {
			l.nodes = append(l.nodes, n)
		} else {
			rest.nodes = append(rest.nodes, n)
		}
	}
	var lots []lot
	for _, version := range slices.Sorted(maps.Keys(byName)) {
		lots = append(lots, *byName[version])
	}
	return slices.DeleteFunc(append(lots, rest), func(l lot) bool {
		return l.share == 0 || !slices.ContainsFunc(l.nodes, func(n *Node) bool { return good[n] })
	})
}

// byZone divides a lot by how far away the nodes are. The nearest get all calls as long as enough of them are in good
// standing; what is too much for them goes to the next.
func (k *core) byZone(l lot, good map[*Node]bool, tiered bool) []lot {
	if !tiered {
		l.nodes = k.subset(l.nodes, good)
		return []lot{l}
	}
	var tiers [3][]*Node
	for _, n := range l.nodes {
		d := k.opt.distance(n.Info())
		tiers[d] = append(tiers[d], n)
	}
	left, taken := 1.0, 0.0
	var lots []lot
	for _, nodes := range tiers {
		var weight, able float64
		for _, n := range nodes {
			w := float64(n.Info().EffectiveWeight())
			if good[n] {
				able += w
			} else if info := n.Info(); info.Draining || info.Absent {
				continue // it leaves; nothing is wrong with the others
			}
			weight += w
		}
		if able == 0 {
			continue
		}
		share := min(left, spillAt*able/weight)
		if share < 1e-9 {
			break
		}
		left -= share
		taken += share
		lots = append(lots, lot{nodes: k.subset(nodes, good), share: share})
	}
	for i := range lots {
		lots[i].share *= l.share / taken
	}
	return lots
}

// distance is 0 for the client's zone, 1 for its region, 2 for elsewhere.
func (o *Options) distance(n *registry.Node) int {
	switch {
	case o.Zone != "" && n.Zone == o.Zone && (o.Region == "" || n.Region == "" || n.Region == o.Region):
		return 0
	case o.Region != "" && n.Region == o.Region:
		return 1
	}
	return 2
}

// elsewhere appends the nearest nodes in good standing and outside of the zone in which all that were tried are, if those are two or more: one node
// may be ill by itself, but what two of a zone fail at may be the zone's. Nothing is appended where calls do not stay near, and no node of another version.
func (s *set) elsewhere(to []*Node, tried []policy.Node) []*Node {
	if s.distance == nil || len(tried) < 2 {
		return to
	}
	first, ok := tried[0].(*Node)
	if !ok {
		return to
	}
	left := first.Info()
	for _, t := range tried {
		if n, ok := t.(*Node); !ok || n.Info().Zone != left.Zone || s.distance(n.Info()) != s.distance(left) {
			return to
		}
	}
	nearest := math.MaxInt
	for _, nodes := range [...][]*Node{s.pool, s.spare} {
		for _, n := range nodes {
			info := n.Info()
			if info.Zone == left.Zone || info.Version != left.Version || info.Draining || info.Absent || n.flags.Load() != 0 {
				continue
			}
			if d := s.distance(info); d < nearest {
				to, nearest = append(to[:0], n), d
			} else if d == nearest {
				to = append(to, n)
			}
		}
	}
	return to
}

// subset returns the good ones of nodes, the client's subset if there are more than enough.
func (k *core) subset(nodes []*Node, good map[*Node]bool) []*Node {
	some := make([]*Node, 0, len(nodes))
	for _, n := range nodes {
		if good[n] {
			some = append(some, n)
		}
	}
	size := k.opt.Subset.Size
	if size == 0 || len(some) <= size {
		return some
	}
	ring := slices.Clone(nodes)
	slices.SortFunc(ring, func(a, b *Node) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.id, b.id)) })
	client := cmp.Or(k.opt.Subset.Client, k.client)
	place, _ := bits.Mul64(client*golden64, uint64(len(ring)))
	some = some[:0]
	for i := 0; len(some) < size; i++ {
		if n := ring[(int(place)+i)%len(ring)]; good[n] {
			some = append(some, n)
		}
	}
	slices.SortFunc(some, func(a, b *Node) int { return cmp.Compare(a.id, b.id) })
	return some
}

// golden64 is golden of 1<<64.
const golden64 = 0x9e3779b97f4a7c15
