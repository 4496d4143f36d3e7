package balance

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
)

// start is when every test begins.
const start = policy.Time(1_000_000 * time.Second)

// fleet returns n nodes, n00 and so on.
func fleet(n int) []*registry.Node {
	nodes := make([]*registry.Node, n)
	for i := range nodes {
		nodes[i] = &registry.Node{ID: fmt.Sprintf("n%02d", i), Service: "greeter", Address: fmt.Sprintf("10.0.0.%d:80", i%250)}
	}
	return nodes
}

func service(nodes ...*registry.Node) *registry.Service {
	return &registry.Service{Name: "greeter", Nodes: nodes}
}

// picker returns a Picker that knows nodes.
func picker(t testing.TB, o Options, nodes ...*registry.Node) *Picker {
	t.Helper()
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	p.Update(start, service(nodes...))
	return p
}

func strategyOf(t testing.TB, name string) Strategy {
	t.Helper()
	s, err := StrategyNamed(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// driver makes one call after the other.
type driver struct {
	t   testing.TB
	p   *Picker
	now policy.Time
	rnd *rand.PCG
}

func newDriver(t testing.TB, o Options, nodes ...*registry.Node) *driver {
	return &driver{t: t, p: picker(t, o, nodes...), now: start, rnd: rand.NewPCG(1, 2)}
}

var idempotent = &policy.Call{Idempotent: true}

func (d *driver) pick(tried ...policy.Node) (*Node, policy.Permit) {
	d.t.Helper()
	n, v := d.p.Pick(d.now, d.rnd, idempotent, tried)
	if v.Decision != policy.Admit {
		d.t.Fatalf("refused: %s: %s", v.State, v.Reason)
	}
	return n.(*Node), v.Permit
}

// end settles an attempt that took took.
func (d *driver) end(n *Node, permit policy.Permit, class policy.Class) {
	d.p.Done(d.now, d.rnd, n, permit, policy.Ended{Class: class, Took: d.now.Sub(permit.Start)})
}

// call makes a call of one attempt that takes took and returns where it went.
func (d *driver) call(took time.Duration, class policy.Class) string {
	d.t.Helper()
	n, permit := d.pick()
	d.now = d.now.Add(took)
	d.end(n, permit, class)
	return n.ID()
}

// force makes an attempt on a node of one's choice.
func (d *driver) force(id string, took time.Duration, class policy.Class) {
	n := d.node(id)
	permit := policy.Permit{Start: d.now}
	n.begin(d.now)
	d.now = d.now.Add(took)
	d.end(n, permit, class)
}

func (d *driver) node(id string) *Node {
	d.t.Helper()
	for _, n := range d.p.Nodes() {
		if n.ID() == id {
			return n
		}
	}
	d.t.Fatalf("no node %s", id)
	return nil
}

func (d *driver) state(id string) NodeState {
	d.t.Helper()
	for _, s := range d.p.Explain(d.now) {
		if s.ID == id {
			return s
		}
	}
	d.t.Fatalf("no node %s", id)
	return NodeState{}
}

// wait lets time pass without calls.
func (d *driver) wait(t time.Duration) { d.now = d.now.Add(t) }

// spread makes n instant calls that succeed and counts where they go.
func (d *driver) spread(n int) map[string]int {
	d.t.Helper()
	count := map[string]int{}
	for range n {
		count[d.call(0, policy.ClassOK)]++
	}
	return count
}
