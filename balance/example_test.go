package balance_test

import (
	"fmt"
	"math/rand/v2"
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
