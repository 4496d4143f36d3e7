package balance

import (
	"testing"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
)

// TestThirdAttemptLeavesTheZone: two nodes of a zone may both be ill of what is the zone's.
func TestThirdAttemptLeavesTheZone(t *testing.T) {
	nodes := fleet(9)
	for i, n := range nodes {
		n.Zone, n.Region, n.Version = [...]string{"a", "b", "c"}[i/3], [...]string{"north", "north", "south"}[i/3], "1"
	}
	next := func(d *driver, tried ...*Node) *registry.Node {
		var list []policy.Node
		for _, n := range tried {
			list = append(list, n)
		}
		n, permit := d.pick(list...)
		d.end(n, permit, policy.ClassOK)
		return n.Info()
	}
	d := newDriver(t, Options{Zone: "a", Region: "north"}, nodes...)
	for range 100 {
		if n := next(d); n.Zone != "a" {
			t.Fatalf("the first attempt goes to %s", n.Zone)
		}
		if n := next(d, d.node("n00")); n.Zone != "a" || n.ID == "n00" {
			t.Fatalf("the second goes to %s in %s", n.ID, n.Zone)
		}
		if n := next(d, d.node("n00"), d.node("n01")); n.Zone != "b" {
			t.Fatalf("the third goes to %s", n.Zone)
		}
		if n := next(d, d.node("n00"), d.node("n03")); n.Zone != "a" {
			t.Fatalf("one of each has failed: the third goes to %s", n.Zone)
		}
	}
	d.node("n03").Down(d.now, d.rnd)
	for range 100 {
		if n := next(d, d.node("n00"), d.node("n01")); n.Zone != "b" || n.ID == "n03" {
			t.Fatalf("one of the other zone is down: the third goes to %s", n.ID)
		}
	}
	for _, n := range nodes[3:6] {
		n.Version = "2"
	}
	d = newDriver(t, Options{Zone: "a", Region: "north"}, nodes...)
	if n := next(d, d.node("n00"), d.node("n01")); n.Zone != "c" {
		t.Errorf("the nearest are of another version: the third goes to %s", n.Zone)
	}
	d = newDriver(t, Options{Zone: "a"}, nodes[:3]...)
	if n := next(d, d.node("n00"), d.node("n01")); n.ID != "n02" {
		t.Errorf("there is but one zone: the third goes to %s", n.ID)
	}
	d = newDriver(t, Options{}, nodes...)
	seen := map[string]bool{}
	for range 300 {
		seen[next(d, d.node("n00"), d.node("n01")).Zone] = true
	}
	if len(seen) != 3 {
		t.Errorf("without a zone of its own the third attempt goes to %v", seen)
	}
}
