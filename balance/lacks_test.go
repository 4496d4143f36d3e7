package balance

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// TestLacks: a node that does not serve a method is not asked for it again, and for everything else it is as good as any.
func TestLacks(t *testing.T) {
	d := newDriver(t, Options{SlowStart: -1}, fleet(4)...)
	went := func(method string) (ids []string) {
		c := &policy.Call{Method: method, Idempotent: true}
		for range 200 {
			n, v := d.p.Pick(d.now, d.rnd, c, nil)
			if !v.Decision.Admits() {
				t.Fatalf("%+v", v)
			}
			d.wait(time.Millisecond)
			d.p.Done(d.now, d.rnd, n, v.Permit, policy.Ended{Class: policy.ClassOK, Took: time.Millisecond})
			if id := n.(*Node).ID(); !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
		return ids
	}
	want := func(what, method string, ids ...string) {
		t.Helper()
		if got := went(method); !slices.Equal(got, ids) {
			t.Errorf("%s: calls of %s go to %v, want %v", what, method, got, ids)
		}
	}
	all := []string{"n00", "n01", "n02", "n03"}
	want("at first", "a.A/New", all...)
	d.node("n00").Lacks(d.now, "a.A/New")
	d.node("n01").Lacks(d.now, "a.A/New")
	want("two lack it", "a.A/New", "n02", "n03")
	want("two lack another", "a.A/Old", all...)
	if s := d.state("n00"); !slices.Equal(s.Lacks, []string{"a.A/New"}) || len(d.state("n02").Lacks) > 0 || s.State != Ready {
		t.Errorf("%+v", s)
	}
	// A further attempt goes to no one who lacks it either, while another is there.
	for range 20 {
		n, v := d.p.Pick(d.now, d.rnd, &policy.Call{Method: "a.A/New"}, []policy.Node{d.node("n02")})
		if !v.Decision.Admits() || n.(*Node).ID() != "n03" {
			t.Fatalf("%v, %+v", n, v)
		}
		d.p.Done(d.now, d.rnd, n, v.Permit, policy.Ended{Class: policy.ClassOK, Took: time.Millisecond})
	}

	// A node that becomes another process is asked again; news of others change nothing.
	next := fleet(4)
	next[1].Started = time.Unix(1, 0)
	d.p.Update(d.now, service(next...))
	want("one was restarted", "a.A/New", "n01", "n02", "n03")
	next = slices.Clone(next)
	one := *next[0]
	one.Version = "2"
	next[0] = &one
	d.p.Update(d.now, service(next...))
	want("the other was replaced", "a.A/New", all...)

	d.node("n00").Lacks(d.now, "a.A/New")
	d.wait(lacksFor / 2)
	d.node("n00").Lacks(d.now, "a.A/New")
	d.wait(lacksFor/2 + time.Second)
	want("it was said again", "a.A/New", "n01", "n02", "n03")
	d.wait(lacksFor)
	want("a minute later", "a.A/New", all...)

	for _, id := range all {
		d.node(id).Lacks(d.now, "a.A/New")
	}
	want("all lack it", "a.A/New", all...)
	for i := range 10 * maxLacks {
		d.node("n00").Lacks(d.now, fmt.Sprint("a.A/", i))
	}
	if n := len(d.state("n00").Lacks); n > maxLacks {
		t.Errorf("%d methods are remembered", n)
	}
}

// TestLacksWhereOthersAreDown: while those who serve a method cannot be reached, its calls go to a node that lacked it a while ago, as a node which says no is better than one that says
// nothing; probes find out when one of the others is back.
func TestLacksWhereOthersAreDown(t *testing.T) {
	d := newDriver(t, Options{SlowStart: -1}, fleet(2)...)
	d.node("n00").Lacks(d.now, "a.A/New")
	c := &policy.Call{Method: "a.A/New", Idempotent: true}
	down := true
	spread := func(calls int) map[string]int {
		went := map[string]int{}
		for range calls {
			n, v := d.p.Pick(d.now, d.rnd, c, nil)
			if n == nil {
				t.Fatalf("%+v", v)
			}
			went[n.ID()]++
			cl := policy.ClassOK
			if down && n.ID() == "n01" {
				cl = policy.ClassUnsent
			}
			d.wait(time.Millisecond)
			d.p.Done(d.now, d.rnd, n, v.Permit, policy.Ended{Class: cl, Took: time.Millisecond})
		}
		return went
	}
	if d.p.Spare(d.now, d.rnd, c, []policy.Node{d.node("n01")}) {
		t.Error("a node is left that lacks the method")
	}
	spread(3)
	if got := spread(100); got["n01"] > 10 {
		t.Errorf("%v: n01 cannot be reached", got)
	}
	if !d.p.Spare(d.now, d.rnd, c, []policy.Node{d.node("n01")}) {
		t.Error("no node is left, though one may be reached")
	}
	down = false
	d.node("n01").Up(d.now)
	if got := spread(100); got["n01"] != 100 {
		t.Errorf("%v: n01 is back", got)
	}
}

// TestLacksOfMadeUpNames: names of methods that somebody makes up have nobody choose anew whom to call with the others, and what is remembered of them is bounded and
// puts nothing else out of mind.
func TestLacksOfMadeUpNames(t *testing.T) {
	d := newDriver(t, Options{SlowStart: -1}, fleet(200)...)
	c := &policy.Call{Idempotent: true}
	call := func(method string) string {
		c.Method = method
		n, v := d.p.Pick(d.now, d.rnd, c, nil)
		d.p.Done(d.now, d.rnd, n, v.Permit, policy.Ended{Class: policy.ClassOK, Took: time.Millisecond})
		return n.ID()
	}
	for i := range 199 {
		d.p.Nodes()[i].Lacks(d.now, "a.A/New")
	}
	only := d.p.Nodes()[199].ID()
	call("a.A/Good")
	call("a.A/New")
	all := d.p.cur.Load()
	some := all.slot("a.A/New").Load()
	for i := range 100 * maxLacks {
		d.p.Nodes()[i%100].Lacks(d.now, fmt.Sprint("a.A/", i))
		call("a.A/Good")
		call(fmt.Sprint("a.A/", i))
		if got := call("a.A/New"); got != only {
			t.Fatalf("after %d names, %s is called, which lacks the method", i, got)
		}
	}
	if d.p.cur.Load() != all || all.slot("a.A/New").Load() != some {
		t.Error("the sets were made anew")
	}
	if n := len(*all.lacked.Load()); n > maxLacked {
		t.Errorf("%d sets of methods are kept", n)
	}
	methods := map[string]bool{}
	for _, s := range d.p.Explain(d.now) {
		if len(s.Lacks) > maxLacks {
			t.Errorf("%d methods of %s are remembered", len(s.Lacks), s.ID)
		}
		for _, m := range s.Lacks {
			methods[m] = true
		}
	}
	if len(methods) != maxLacked {
		t.Errorf("%d methods are remembered, want %d", len(methods), maxLacked)
	}
	if n := testing.AllocsPerRun(100, func() { call("a.A/New"); call("a.A/Good") }); n != 0 && pooling {
		t.Errorf("%v allocations for two calls", n)
	}
	d.wait(lacksFor + time.Second)
	call("a.A/Good")
	if d.p.lacked.Load() != nil {
		t.Error("names are remembered for ever")
	}
	d.node("n00").Lacks(d.now, "a.A/Late")
	for range 100 {
		if got := call("a.A/Late"); got == "n00" {
			t.Fatal("what was said later is not remembered")
		}
	}
}

// TestLacksOfGoneNodes: what a node that has left says is not remembered.
func TestLacksOfGoneNodes(t *testing.T) {
	d := newDriver(t, Options{}, fleet(3)...)
	n := d.node("n02")
	n.Lacks(d.now, "a.A/New")
	d.p.Update(d.now, service(fleet(2)...))
	n.Lacks(d.now, "a.A/Newer")
	if m := d.p.lacked.Load(); m != nil {
		t.Errorf("%d methods are remembered", len(*m))
	}
}

// TestLacksOfVersions: while two versions run beside each other, with a tenth of the calls for the new one, a method that only the new one has goes there, and every
// other method keeps to the shares; so it is the other way round with a method that only the old one has.
func TestLacksOfVersions(t *testing.T) {
	nodes := fleet(10)
	for i, n := range nodes {
		if n.Version = "1"; i == 9 {
			n.Version = "2"
		}
	}
	d := newDriver(t, Options{SlowStart: -1, Versions: map[string]float64{"1": 0.9, "2": 0.1}}, nodes...)
	share := func(method string) float64 {
		c, n2 := &policy.Call{Method: method, Idempotent: true}, 0
		for range 2000 {
			n, v := d.p.Pick(d.now, d.rnd, c, nil)
			d.wait(time.Millisecond)
			d.p.Done(d.now, d.rnd, n, v.Permit, policy.Ended{Class: policy.ClassOK, Took: time.Millisecond})
			if n.(*Node).Info().Version == "2" {
				n2++
			}
		}
		return float64(n2) / 2000
	}
	for i := range 9 {
		d.node(fmt.Sprintf("n%02d", i)).Lacks(d.now, "a.A/New")
	}
	d.node("n09").Lacks(d.now, "a.A/Gone")
	for _, tt := range []struct {
		method      string
		least, most float64
	}{{"a.A/New", 1, 1}, {"a.A/Gone", 0, 0}, {"a.A/Both", 0.07, 0.13}} {
		if got := share(tt.method); got < tt.least || got > tt.most {
			t.Errorf("%s: a share of %.3f goes to the new version, want %.2f to %.2f", tt.method, got, tt.least, tt.most)
		}
	}
	// One node of many that says so, of a method that its version serves, changes next to nothing.
	d.node("n00").Lacks(d.now, "a.A/Both")
	if got := share("a.A/Both"); got < 0.07 || got > 0.13 {
		t.Errorf("one node lacks a method, and a share of %.3f goes to the new version", got)
	}
}

// TestMeasuredLatency is a regression test: what was shown as a node's latency was what the strategy goes by, which a failure raises to many times what any
// answer took.
func TestMeasuredLatency(t *testing.T) {
	d := newDriver(t, Options{}, fleet(1)...)
	near := func(what string, got, want time.Duration) {
		t.Helper()
		if got < want*7/8 || got > want*9/8 {
			t.Errorf("%s: %v, want about %v", what, got, want)
		}
	}
	if s := d.state("n00"); s.Latency != 0 || s.Estimate == 0 {
		t.Errorf("before the first answer: %+v", s)
	}
	d.call(10*time.Millisecond, policy.ClassOK)
	near("the first answer", d.state("n00").Latency, 10*time.Millisecond)
	for range 100 {
		d.call(10*time.Millisecond, policy.ClassOK)
	}
	for range 3 {
		d.call(time.Millisecond, policy.ClassInternal)
	}
	s := d.state("n00")
	near("failures are not measured", s.Latency, 10*time.Millisecond)
	if s.Estimate < 2*s.Latency {
		t.Errorf("three failures count as %v", s.Estimate)
	}
	for range 1200 {
		d.call(50*time.Millisecond, policy.ClassOK)
	}
	near("it got slower", d.state("n00").Latency, 50*time.Millisecond)
	for range 120 {
		d.wait(time.Second)
		d.call(0, policy.ClassInternal)
	}
	if s := d.state("n00"); s.Latency != 0 {
		t.Errorf("nothing succeeded for two minutes, but it takes %v", s.Latency)
	}
}
