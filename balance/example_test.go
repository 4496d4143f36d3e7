package balance_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
)

func Example() {
	p, err := balance.New(balance.Options{})
	if err != nil {
		panic(err)
	}
	now, rnd := policy.Time(time.Hour), rand.NewPCG(1, 2)
	p.Update(now, &registry.Service{Name: "greeter", Nodes: []*registry.Node{
		{ID: "a", Service: "greeter", Address: "10.0.0.1:80"},
		{ID: "b", Service: "greeter", Address: "10.0.0.2:80"},
	}})
	call := &policy.Call{Service: "greeter", Idempotent: true}

	first, v := p.Pick(now, rnd, call, nil)
	p.Done(now, rnd, first, v.Permit, policy.Ended{Class: policy.ClassUnsent}) // its connection was refused
	second, v := p.Pick(now, rnd, call, []policy.Node{first})
	p.Done(now.Add(time.Millisecond), rnd, second, v.Permit, policy.Ended{Class: policy.ClassOK, Took: time.Millisecond})

	for _, s := range p.Explain(now) {
		fmt.Printf("%s: %s %q\n", s.ID, s.State, s.Why)
	}
	// Output:
	// a: ready ""
	// b: down "it refuses connections"
}

// nearest prefers nodes of its own zone as long as they are not twice as busy as others: a strategy of one's own.
type nearest struct{ zone string }

func (s nearest) Choose(now policy.Time, _ rand.Source, _ *policy.Call, nodes []*balance.Node) *balance.Node {
	best, least := nodes[0], 0.0
	for i, n := range nodes {
		load := float64(n.InFlight()+1) / n.Share(now)
		if n.Info().Zone != s.zone {
			load *= 2
		}
		if i == 0 || load < least {
			best, least = n, load
		}
	}
	return best
}

func ExampleStrategy() {
	p, err := balance.New(balance.Options{Strategy: nearest{zone: "b"}})
	if err != nil {
		panic(err)
	}
	now, rnd := policy.Time(time.Hour), rand.NewPCG(1, 2)
	p.Update(now, &registry.Service{Name: "greeter", Nodes: []*registry.Node{
		{ID: "far", Address: "10.0.0.1:80", Zone: "a"},
		{ID: "near", Address: "10.0.0.2:80", Zone: "b"},
	}})
	for range 4 {
		n, _ := p.Pick(now, rnd, &policy.Call{}, nil)
		fmt.Println(n.ID())
	}
	// Output:
	// near
	// far
	// near
	// near
}

func ExampleParseSelector() {
	s, err := balance.ParseSelector(`version=1.2, zone!=a, tier in (silver, gold)`)
	fmt.Println(s, err)
	fmt.Println(s.Match(&registry.Node{Version: "1.2", Zone: "b", Labels: map[string]string{"tier": "gold"}}))
	_, err = balance.ParseSelector("version 1.2")
	fmt.Println(err)
	// Output:
	// version=1.2,zone!=a,tier in (gold,silver) <nil>
	// true
	// selector "version 1.2": at "1.2": want =, !=, in (…), notin (…) or a comma after "version"
}

// A canary of five percent: whoever is at version 2 stays there, since the version goes by the call's key.
func ExampleOptions_versions() {
	p, err := balance.New(balance.Options{Versions: map[string]float64{"2": 0.05}})
	if err != nil {
		panic(err)
	}
	now, rnd := policy.Time(time.Hour), rand.NewPCG(1, 2)
	p.Update(now, &registry.Service{Name: "greeter", Nodes: []*registry.Node{
		{ID: "old-1", Address: "10.0.0.1:80", Version: "1"},
		{ID: "old-2", Address: "10.0.0.2:80", Version: "1"},
		{ID: "new-1", Address: "10.0.0.3:80", Version: "2"},
	}})
	canary, moved := 0, 0
	for key := range uint64(1000) {
		first, _ := p.Pick(now, rnd, &policy.Call{Hash: key + 1}, nil)
		again, _ := p.Pick(now, rnd, &policy.Call{Hash: key + 1}, nil)
		if first.ID() == "new-1" {
			canary++
		}
		if (first.ID() == "new-1") != (again.ID() == "new-1") {
			moved++
		}
	}
	fmt.Println(canary > 20 && canary < 80, moved)
	// Output:
	// true 0
}

// A function keeps nodes out that no selector can describe.
func ExampleOptions_filter() {
	ours := netip.MustParsePrefix("10.1.0.0/16")
	p, err := balance.New(balance.Options{Filter: func(n *registry.Node) bool {
		a, err := netip.ParseAddrPort(n.Address)
		return err == nil && ours.Contains(a.Addr())
	}})
	if err != nil {
		panic(err)
	}
	now, rnd := policy.Time(time.Hour), rand.NewPCG(1, 2)
	p.Update(now, &registry.Service{Name: "greeter", Nodes: []*registry.Node{
		{ID: "a", Address: "10.1.0.1:80"},
		{ID: "b", Address: "10.2.0.1:80"},
	}})
	for range 3 {
		n, _ := p.Pick(now, rnd, &policy.Call{}, nil)
		fmt.Println(n.ID())
	}
	// Output:
	// a
	// a
	// a
}

// Dry-run shows who would be avoided, and avoids nobody.
func ExampleEjection_dryRun() {
	p, err := balance.New(balance.Options{Strategy: balance.RoundRobin(), Ejection: balance.Ejection{Mode: policy.DryRun}})
	if err != nil {
		panic(err)
	}
	now, rnd := policy.Time(time.Hour), rand.NewPCG(1, 2)
	bad := &registry.Node{ID: "bad", Address: "10.0.0.1:80"}
	p.Update(now, &registry.Service{Name: "greeter", Nodes: []*registry.Node{bad, {ID: "good", Address: "10.0.0.2:80"}}})
	for range 100 {
		n, v := p.Pick(now, rnd, &policy.Call{}, nil)
		class := policy.ClassOK
		if n.ID() == "bad" {
			class = policy.ClassUnavailable
		}
		now = now.Add(10 * time.Millisecond)
		p.Done(now, rnd, n, v.Permit, policy.Ended{Class: class, Took: time.Millisecond})
	}
	s := p.Snapshot(now)
	fmt.Println(s.DryRun > 0, s.Ejections)
	// Output:
	// true 0
}
