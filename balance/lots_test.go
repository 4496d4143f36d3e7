package balance

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
)

// zoned returns count nodes of a zone, named after it.
func zoned(region, zone string, count int) []*registry.Node {
	nodes := fleet(count)
	for i, n := range nodes {
		n.ID = fmt.Sprintf("%s%02d", zone, i)
		n.Address = fmt.Sprintf("10.%d.0.%d:80", zone[0], i)
		n.Region, n.Zone = region, zone
	}
	return nodes
}

// shares makes calls and says which part of them each value of key gets.
func (d *driver) shares(calls int, key func(*registry.Node) string) map[string]float64 {
	got := map[string]float64{}
	for range calls {
		n, permit := d.pick()
		d.end(n, permit, policy.ClassOK)
		got[key(n.Info())] += 1 / float64(calls)
	}
	return got
}

// take puts count nodes of a zone down.
func (d *driver) take(zone string, count int) {
	for i := range count {
		d.force(fmt.Sprintf("%s%02d", zone, i), 0, policy.ClassUnsent)
	}
}

func TestZones(t *testing.T) {
	zone := func(n *registry.Node) string { return n.Zone }
	tests := []struct {
		name             string
		zone, region     string
		downA, downB     int
		wantA, b, wantFr float64 // shares of the local zone a, its region's other zone b, and f elsewhere
	}{
		{"all well", "a", "eu", 0, 0, 1, 0, 0},
		{"a few local ones down", "a", "eu", 2, 0, 1, 0, 0},
		{"half of the local ones down", "a", "eu", 5, 0, 0.7, 0.3, 0},
		{"all local ones down", "a", "eu", 10, 0, 0, 1, 0},
		{"all of the region down but one each", "a", "eu", 9, 9, 0.14, 0.14, 0.72},
		{"the whole region down", "a", "eu", 10, 10, 0, 0, 1},
		{"no region known", "a", "", 5, 0, 0.7, 0.15, 0.15},
		{"a zone without nodes", "x", "eu", 0, 0, 0.5, 0.5, 0},
		{"nothing known", "", "", 0, 0, 1. / 3, 1. / 3, 1. / 3},
	}
	for _, test := range tests {
		nodes := append(append(zoned("eu", "a", 10), zoned("eu", "b", 10)...), zoned("us", "f", 10)...)
		d := newDriver(t, Options{Strategy: Random(), Zone: test.zone, Region: test.region, Ejection: Ejection{Probe: -1}}, nodes...)
		d.take("a", test.downA)
		d.take("b", test.downB)
		got := d.shares(20_000, zone)
		for z, want := range map[string]float64{"a": test.wantA, "b": test.b, "f": test.wantFr} {
			if math.Abs(got[z]-want) > 0.015 {
				t.Errorf("%s: zone %s gets %.3f, want %.3f", test.name, z, got[z], want)
			}
		}
	}
}

// TestZonesCountWeight: what a zone can take is a matter of weight, and a draining node is no sign of trouble.
func TestZonesCountWeight(t *testing.T) {
	nodes := append(zoned("", "a", 4), zoned("", "b", 4)...)
	nodes[0].Weight = 300 // of 600
	d := newDriver(t, Options{Strategy: Random(), Zone: "a", Ejection: Ejection{Probe: -1}}, nodes...)
	d.take("a", 1)
	zone := func(n *registry.Node) string { return n.Zone }
	if got := d.shares(20_000, zone); math.Abs(got["a"]-0.7) > 0.015 {
		t.Errorf("a zone with half of its weight down gets %.3f, want 0.7", got["a"])
	}
	for i, n := range nodes {
		n = n.Clone()
		n.Weight, n.Draining = 0, i < 2
		nodes[i] = n
	}
	d = newDriver(t, Options{Zone: "a"}, nodes...)
	if got := d.shares(1000, zone); got["b"] > 0 {
		t.Errorf("while two of four nodes drain, another zone gets %.3f, want nothing", got["b"])
	}
}

// TestRetryLeavesTheZone: a further attempt stays near while there is an untried node, and then goes farther.
func TestRetryLeavesTheZone(t *testing.T) {
	d := newDriver(t, Options{Zone: "a"}, append(zoned("", "a", 2), zoned("", "b", 2)...)...)
	var tried []policy.Node
	zones := ""
	for range 4 {
		n, permit := d.pick(tried...)
		d.end(n, permit, policy.ClassUnavailable)
		tried = append(tried, n)
		zones += n.Info().Zone
	}
	if zones != "aabb" {
		t.Errorf("four attempts of one call went to zones %s, want aabb", zones)
	}
	if s := d.state("b00"); s.Considered || s.State != Ready || !strings.Contains(s.Why, "farther") {
		t.Errorf("a node of another zone is explained as %+v", s)
	}
}

func TestSubset(t *testing.T) {
	const clients, size, count = 300, 20, 200
	nodes := fleet(count)
	for i, n := range nodes {
		n.ID = fmt.Sprintf("pod-%c%d", 'a'+i%7, i)
	}
	subsetOf := func(d *driver) map[string]bool {
		s := map[string]bool{}
		for _, n := range d.p.Explain(d.now) {
			if n.Considered {
				s[n.ID] = true
			}
		}
		return s
	}
	for _, test := range []struct {
		name        string
		client      func(i int) uint64
		least, most int // clients of one node; 30 on average
	}{
		{"numbered", func(i int) uint64 { return uint64(i + 1) }, 26, 34},
		{"hashed", func(i int) uint64 { return Key(fmt.Sprintf("client-%d", i)) }, 8, 60},
	} {
		of := map[string]int{}
		for i := range clients {
			d := newDriver(t, Options{Subset: Subset{Size: size, Client: test.client(i)}}, nodes...)
			s := subsetOf(d)
			if len(s) != size {
				t.Fatalf("%s: client %d has %d nodes, want %d", test.name, i, len(s), size)
			}
			for id := range s {
				of[id]++
			}
			if i > 10 {
				continue
			}
			// Six nodes elsewhere in the ring leave.
			d.p.Update(d.now, service(nodes[6:]...))
			moved := 0
			for id := range subsetOf(d) {
				if !s[id] {
					moved++
				}
			}
			if moved > 12 {
				t.Errorf("%s: after 6 of %d nodes left client %d has %d other nodes, want at most one or two for each", test.name, count, i, moved)
			}
		}
		least, most := clients, 0
		for _, n := range nodes {
			least, most = min(least, of[n.ID]), max(most, of[n.ID])
		}
		t.Logf("%s: %d to %d clients for each node", test.name, least, most)
		if least < test.least || most > test.most {
			t.Errorf("%s: nodes have %d to %d clients, want %d to %d", test.name, least, most, test.least, test.most)
		}
	}

	d := newDriver(t, Options{Subset: Subset{Size: 3, Client: 1}, Ejection: Ejection{Probe: -1}}, nodes...)
	before := subsetOf(d)
	for id := range before {
		d.force(id, 0, policy.ClassUnsent)
	}
	after := subsetOf(d)
	for id := range after {
		if before[id] {
			t.Errorf("%s is down and still in the subset", id)
		}
	}
	if got := d.shares(100, func(n *registry.Node) string { return n.ID }); len(after) != 3 || len(got) != 3 {
		t.Errorf("with all three down the subset is %v and calls went to %v, want the next three", after, got)
	}
	d = newDriver(t, Options{Subset: Subset{Size: 3}}, nodes...)
	if got := subsetOf(d); len(got) != 3 {
		t.Errorf("a client without a number has the nodes %v, want three", got)
	}
}

func TestVersions(t *testing.T) {
	nodes := fleet(10)
	for i, n := range nodes {
		n.Version = []string{"1", "2"}[min(1, i/5)]
	}
	version := func(n *registry.Node) string { return n.Version }
	d := newDriver(t, Options{Versions: map[string]float64{"2": 0.05}, Ejection: Ejection{Probe: -1}}, nodes...)
	if got := d.shares(40_000, version); math.Abs(got["2"]-0.05) > 0.005 {
		t.Errorf("the canary of 5 %% got %.3f", got["2"])
	}
	sticky := func() map[uint64]string {
		got := map[uint64]string{}
		for key := range uint64(4000) {
			for range 2 {
				n, v := d.p.Pick(d.now, d.rnd, &policy.Call{Hash: key + 1}, nil)
				d.end(n.(*Node), v.Permit, policy.ClassOK)
				if was := got[key]; was != "" && was != n.(*Node).Info().Version {
					t.Fatalf("key %d changed from version %s", key, was)
				}
				got[key] = n.(*Node).Info().Version
			}
		}
		return got
	}
	before := sticky()
	if err := d.p.Configure(Options{Versions: map[string]float64{"2": 0.2}, Ejection: Ejection{Probe: -1}}); err != nil {
		t.Fatal(err)
	}
	onTwo := 0
	for key, v := range sticky() {
		if v == "2" {
			onTwo++
		} else if before[key] == "2" {
			t.Errorf("key %d went back to version 1 as the canary grew", key)
		}
	}
	if onTwo < 700 || onTwo > 900 {
		t.Errorf("%d of 4000 keys are at the canary of 20 %%", onTwo)
	}
	for i := 5; i < 10; i++ {
		d.force(nodes[i].ID, 0, policy.ClassUnsent)
	}
	if got := d.shares(100, version); got["1"] < 0.999 {
		t.Errorf("with the canary down calls went to %v, want all to version 1", got)
	}

	d = newDriver(t, Options{Versions: map[string]float64{"2": 0}}, nodes...)
	if got := d.shares(1000, version); got["2"] > 0 {
		t.Errorf("a version of share 0 got %.3f", got["2"])
	}
	sel, _ := ParseSelector("version=2")
	if n, v := d.p.With(sel).Pick(d.now, d.rnd, idempotent, nil); v.Decision != policy.Admit || n.(*Node).Info().Version != "2" {
		t.Errorf("a version of share 0 that is asked for: %v, %+v", n, v)
	}
	d = newDriver(t, Options{Versions: map[string]float64{"1": 0.3, "2": 0.3, "3": 0.4}}, nodes...)
	if got := d.shares(20_000, version); math.Abs(got["1"]-0.5) > 0.02 {
		t.Errorf("two versions of 30 %% each, and a third that has no nodes, got %v: want half each", got)
	}
	// Versions and zones together: the canary's own zones count.
	for i, n := range nodes {
		nodes[i] = n.Clone()
		nodes[i].Zone = []string{"a", "b"}[i%2]
	}
	d = newDriver(t, Options{Zone: "a", Versions: map[string]float64{"2": 0.25}}, nodes...)
	got := d.shares(20_000, func(n *registry.Node) string { return n.Version + n.Zone })
	if math.Abs(got["2a"]-0.25) > 0.02 || math.Abs(got["1a"]-0.75) > 0.02 {
		t.Errorf("a canary of 25 %% in a client of zone a: %v", got)
	}
}

func TestLotOptions(t *testing.T) {
	for _, test := range []struct {
		o    Options
		want string
	}{
		{Options{Versions: map[string]float64{"2": 1.5}}, "want 0 to 1"},
		{Options{Versions: map[string]float64{"2": math.NaN()}}, "want 0 to 1"},
		{Options{Versions: map[string]float64{"2": 0.6, "3": 0.6}}, "at most 1 together"},
		{Options{Subset: Subset{Size: -1}}, "subset size -1"},
		{Options{Subset: Subset{Size: 5}, Strategy: ConsistentHash(0)}, "choose one of the two"},
	} {
		if _, err := New(test.o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want an error with %q", test.o, err, test.want)
		}
	}
}

// TestDividedPickAllocatesNothing: nor does it take a lock, as the set is made once.
func TestDividedPickAllocatesNothing(t *testing.T) {
	nodes := append(zoned("eu", "a", 4), zoned("eu", "b", 4)...)
	for i, n := range nodes {
		n.Version = []string{"1", "2"}[i%2]
	}
	d := newDriver(t, Options{Zone: "a", Versions: map[string]float64{"2": 0.1}, Subset: Subset{Size: 3, Client: 1},
		Ejection: Ejection{Probe: -1}}, nodes...)
	d.take("a", 2)
	once := func() {
		n, v := d.p.Pick(d.now, d.rnd, idempotent, nil)
		d.p.Done(d.now, d.rnd, n, v.Permit, policy.Ended{Took: time.Millisecond})
	}
	once()
	if got := testing.AllocsPerRun(500, once); got != 0 {
		t.Errorf("%v allocations", got)
	}
}
