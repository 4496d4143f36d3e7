package balance

import (
	"testing"

	"github.com/hull-go/hull/policy"
)

// TestOtherVersion: what serves a method that a node does not know is a node of another version, if there is one.
func TestOtherVersion(t *testing.T) {
	nodes := fleet(9)
	for i, n := range nodes {
		n.Version = []string{"", "2", "3"}[i%3]
	}
	d := newDriver(t, Options{}, nodes...)
	p, call := d.p, &policy.Call{Method: "a.A/Get"}
	of := func(version string) (list []policy.Node) {
		for _, n := range p.Nodes() {
			if n.Info().Version == version {
				list = append(list, n)
			}
		}
		return list
	}
	for range 50 {
		lacking := []policy.Node{of("")[0], of("3")[1]}
		tried := append([]policy.Node{of("2")[0], of("2")[2]}, lacking...)
		n, v := p.Other(d.now, d.rnd, call, tried, lacking)
		if !v.Decision.Admits() || n != of("2")[1] || !p.HasOther(d.now, d.rnd, call, lacking) {
			t.Fatalf("%v, %+v: want the one node of version 2 that was not tried", n, v)
		}
		p.Done(d.now, d.rnd, n, v.Permit, policy.Ended{Class: policy.ClassOK, Took: 1})
	}
	all := []policy.Node{of("")[0], of("2")[0], of("3")[0]}
	if n, v := p.Other(d.now, d.rnd, call, all, all); n != nil || v.Decision.Admits() || p.HasOther(d.now, d.rnd, call, all) {
		t.Errorf("%v, %+v: every version has been tried", n, v)
	}
	p.Update(d.now, service(fleet(3)...))
	if one := p.Nodes()[:1]; p.HasOther(d.now, d.rnd, call, []policy.Node{one[0]}) {
		t.Error("nodes without a version are of different versions")
	}
}
