package balance

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
)

// weighing returns nodes of these weights.
func weighing(weights ...int) []*registry.Node {
	nodes := fleet(len(weights))
	for i, w := range weights {
		nodes[i].Weight = w
	}
	return nodes
}

// TestWeightedIsSmooth: at every moment each node is within a turn or so of its due.
func TestWeightedIsSmooth(t *testing.T) {
	for _, weights := range [][]int{{1, 1, 1}, {5, 1, 1}, {1000, 1}, {7, 5, 3, 2, 1}, {100}} {
		d := newDriver(t, Options{Strategy: Weighted()}, weighing(weights...)...)
		sum := 0
		for _, w := range weights {
			sum += w
		}
		count := map[string]int{}
		for call := 1; call <= 3*sum; call++ {
			count[d.call(0, policy.ClassOK)]++
			for i, n := range d.p.Nodes() {
				due := float64(call*weights[i]) / float64(sum)
				if off := float64(count[n.ID()]) - due; math.Abs(off) > 1.5 {
					t.Fatalf("weights %v, after %d calls: %s had %d, its due is %.1f", weights, call, n.ID(), count[n.ID()], due)
				}
			}
		}
	}
}

// TestWeightedDoesNotMakeUp: a node that joins, or comes back, gets its share and not what it has missed.
func TestWeightedDoesNotMakeUp(t *testing.T) {
	nodes := weighing(10, 10, 20)
	d := newDriver(t, Options{Strategy: Weighted(), SlowStart: -1}, nodes[:2]...)
	d.spread(1000)
	d.p.Update(d.now, service(nodes...))
	if got := d.spread(400); got["n02"] < 199 || got["n02"] > 202 {
		t.Errorf("after a node has joined 400 calls went to %v, want half of them to n02", got)
	}
	d.p.Update(d.now, service(nodes[1:]...))
	d.spread(3000)
	d.p.Update(d.now, service(nodes...))
	if got := d.spread(400); got["n00"] < 98 || got["n00"] > 102 {
		t.Errorf("after a node has come back 400 calls went to %v, want a quarter to n00", got)
	}
}

// homes says where each of count keys goes on a quiet fleet.
func homes(d *driver, count int) []string {
	home := make([]string, count)
	for i := range home {
		n, v := d.p.Pick(d.now, d.rnd, &policy.Call{Hash: mix(uint64(i) + 1)}, nil)
		home[i] = n.ID()
		d.end(n.(*Node), v.Permit, policy.ClassOK)
	}
	return home
}

func TestConsistentHash(t *testing.T) {
	const keys = 20_000
	nodes := weighing(100, 100, 100, 100, 100, 100, 100, 100, 50, 200)
	d := newDriver(t, Options{Strategy: ConsistentHash(0), SlowStart: -1}, nodes...)
	before := homes(d, keys)
	count := map[string]float64{}
	for _, h := range before {
		count[h]++
	}
	for _, n := range nodes {
		if want := keys * float64(n.Weight) / 1050; math.Abs(count[n.ID]-want) > 5*math.Sqrt(want) {
			t.Errorf("%s of weight %d has %v keys, want about %.0f", n.ID, n.Weight, count[n.ID], want)
		}
	}
	other := newDriver(t, Options{Strategy: ConsistentHash(0), SlowStart: -1}, nodes...)
	other.rnd = rand.NewPCG(77, 78)
	for i, h := range homes(other, keys) {
		if h != before[i] {
			t.Fatalf("key %d is at home at %s for one client and at %s for another", i, before[i], h)
		}
	}

	d.p.Update(d.now, service(append(nodes[:3:3], nodes[4:]...)...)) // n03 leaves
	to := map[string]int{}
	for i, h := range homes(d, keys) {
		switch {
		case before[i] == "n03":
			to[h]++
		case h != before[i]:
			t.Fatalf("key %d moved from %s to %s though only n03 has left", i, before[i], h)
		}
	}
	if len(to) != 9 {
		t.Errorf("the keys of the node that left went to %v, want some to each of the other nine", to)
	}
	d.p.Update(d.now, service(nodes...))
	for i, h := range homes(d, keys) {
		if h != before[i] {
			t.Fatalf("key %d is at %s after the node has come back, it was at %s", i, h, before[i])
		}
	}
}

// TestConsistentHashEjected: while a node is down its keys, and no others, are elsewhere.
func TestConsistentHashEjected(t *testing.T) {
	d := newDriver(t, Options{Strategy: ConsistentHash(0), Ejection: Ejection{Probe: -1}}, fleet(10)...)
	before := homes(d, 1000)
	d.force("n03", time.Millisecond, policy.ClassUnsent)
	for i, h := range homes(d, 1000) {
		if h == "n03" || before[i] != "n03" && h != before[i] {
			t.Fatalf("key %d went to %s, it was at %s before n03 went down", i, h, before[i])
		}
	}
}

// TestHashBound: however popular one key is, its node gets no more than its bounded share, and the overflow always goes
// to the same second.
func TestHashBound(t *testing.T) {
	d := newDriver(t, Options{Strategy: ConsistentHash(1.5), Ejection: Ejection{Mode: policy.Off}}, fleet(10)...)
	hot := &policy.Call{Hash: Key("somebody famous")}
	var order []string
	for range 100 {
		n, _ := d.p.Pick(d.now, d.rnd, hot, nil)
		if len(order) == 0 || order[len(order)-1] != n.ID() {
			order = append(order, n.ID())
		}
	}
	most := 0
	for _, n := range d.p.Nodes() {
		most = max(most, n.InFlight())
	}
	if most > 15 {
		t.Errorf("100 calls of one key are in flight to ten nodes, %d of them to one: want at most 1.5 × 10", most)
	}
	if again := newDriver(t, Options{Strategy: ConsistentHash(1.5)}, fleet(10)...); order[0] != func() string { n, _ := again.pick2(hot); return n }() {
		t.Errorf("the key's first node differs from one client to the next")
	}
}

func (d *driver) pick2(c *policy.Call) (string, policy.Verdict) {
	n, v := d.p.Pick(d.now, d.rnd, c, nil)
	return n.ID(), v
}

func TestKey(t *testing.T) {
	// Fixed for ever: clients of different versions have to agree.
	if got := Key("ada"); got != 0x7d3c4ad372fc321d {
		t.Errorf("Key(ada) = %#x", got)
	}
	if Key("") == 0 || Key("a") == Key("b") {
		t.Error("keys are neither 0 nor equal")
	}
}

// TestHashWithoutKey: calls without a key are spread.
func TestHashWithoutKey(t *testing.T) {
	d := newDriver(t, Options{Strategy: ConsistentHash(0)}, fleet(4)...)
	if got := d.spread(400); len(got) != 4 {
		t.Errorf("calls without a key went to %v, want some to each", got)
	}
}

func TestPrequal(t *testing.T) {
	d := newDriver(t, Options{Strategy: Prequal()}, fleet(5)...)
	s := Prequal().(*prequal)
	nodes := d.p.Nodes()
	choose := func() string { return s.Choose(d.now, d.rnd, &policy.Call{}, nodes).ID() }
	for i := range 5 {
		d.force(nodes[i].ID(), time.Duration(10+i)*time.Millisecond, policy.ClassOK)
	}
	share := func(id string) float64 {
		hits := 0
		for range 2000 {
			if choose() == id {
				hits++
			}
		}
		return float64(hits) / 2000
	}
	if got := share("n00"); got < 0.5 {
		t.Errorf("the quickest of five cold nodes got %.2f of the calls, want most", got)
	}
	for range 8 {
		nodes[0].begin(d.now)
	}
	if got := share("n00"); got > 0.01 {
		t.Errorf("the quickest node got %.2f of the calls though it is hot", got)
	}
	for range 8 {
		d.end(nodes[0], policy.Permit{Start: d.now}, policy.ClassOK)
	}
	nodes[0].Report(50)
	d.end(nodes[0], policy.Permit{Start: d.now}, policy.ClassOK)
	if got := share("n00"); got > 0.01 {
		t.Errorf("the quickest node got %.2f of the calls though it reports 50 in flight", got)
	}
	d.wait(10 * time.Second)
	if got := share("n00"); got < 0.1 {
		t.Errorf("the node got %.2f of the calls 10 s after its last report, want its part", got)
	}
	for i, n := range nodes {
		for range 100 * (1 + i) {
			n.begin(d.now)
		}
	}
	s.hot.Store(0)
	if got := choose(); got == "n03" || got == "n04" {
		t.Errorf("with all hot it took %s, one of those with the most in flight", got)
	}
}
