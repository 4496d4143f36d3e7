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
