package invariant_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull/internal/invariant"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// at is d after some moment.
func at(d time.Duration) policy.Time { return policy.Time(time.Hour).Add(d) }

const s = time.Second

// load is n calls spread over 10 s, of which some are served, and shed, of each class.
func load(c *invariant.Checker, first uint64, n, served, shed int, class policy.Criticality) {
	for i := range n {
		id := first + uint64(i)
		began := at(10 * s * time.Duration(i) / time.Duration(n))
		c.Offer(invariant.Call{ID: id, Service: "a", Criticality: class, At: began, Deadline: began.Add(s)})
		e := invariant.End{ID: id, Outcome: invariant.Failed, Class: policy.ClassTimeout, At: began.Add(s)}
		if i < served {
			e.Outcome, e.Class = invariant.OK, policy.ClassOK
		} else if i < served+shed {
			e.Outcome, e.Class, e.Shed = invariant.Refused, policy.ClassShed, true
		}
		c.End(e)
	}
}

// ten is the phase of load.
var ten = invariant.Phase{Service: "a", From: at(0), To: at(10 * s), Capacity: 10}

// planted are violations of each rule, and beside each what looks like one and is none.
var planted = []struct {
	rule      invariant.Rule
	name      string
	bad, good func(*invariant.Checker)
}{
	{1, "ends twice", func(c *invariant.Checker) {
		c.Offer(invariant.Call{ID: 1, At: at(0)})
		c.End(invariant.End{ID: 1, Outcome: invariant.OK, At: at(s)})
		c.End(invariant.End{ID: 1, Outcome: invariant.Failed, At: at(s)})
	}, func(c *invariant.Checker) {
		for id := range uint64(2) {
			c.Offer(invariant.Call{ID: id, At: at(0)})
			c.End(invariant.End{ID: id, Outcome: invariant.OK, At: at(s)})
		}
	}},
	{1, "never ends", func(c *invariant.Checker) { c.Offer(invariant.Call{ID: 1, At: at(0)}) }, func(*invariant.Checker) {}},
	{1, "never began", func(c *invariant.Checker) { c.End(invariant.End{ID: 1, At: at(0)}) }, func(*invariant.Checker) {}},
	{1, "begins twice", func(c *invariant.Checker) {
		c.Offer(invariant.Call{ID: 1})
		c.Offer(invariant.Call{ID: 1})
		c.End(invariant.End{ID: 1})
	}, func(*invariant.Checker) {}},
	{2, "late", func(c *invariant.Checker) {
		c.Offer(invariant.Call{ID: 1, At: at(0), Deadline: at(s)})
		c.End(invariant.End{ID: 1, Outcome: invariant.Failed, At: at(s + 51*time.Millisecond)})
	}, func(c *invariant.Checker) {
		c.Offer(invariant.Call{ID: 1, At: at(0), Deadline: at(s)})
		c.End(invariant.End{ID: 1, Outcome: invariant.Failed, At: at(s + 50*time.Millisecond)})
		c.Offer(invariant.Call{ID: 2, At: at(0), Deadline: at(s), Process: "p"})
		c.End(invariant.End{ID: 2, Outcome: invariant.Failed, At: at(3 * s)})
		c.Stall("p", at(s/2), at(5*s/2)) // told of afterwards
	}},
	{2, "late by more than a stall that two have told of", func(c *invariant.Checker) {
		c.Offer(invariant.Call{ID: 1, At: at(0), Deadline: at(s), Process: "p"})
		c.End(invariant.End{ID: 1, Outcome: invariant.Failed, At: at(2 * s)})
		c.Stall("p", at(s/2), at(s))
		c.Stall("p", at(s/2), at(11*s/10))
	}, func(c *invariant.Checker) {
		c.Offer(invariant.Call{ID: 1, At: at(0), Deadline: at(s), Process: "p"})
		c.End(invariant.End{ID: 1, Outcome: invariant.Failed, At: at(2 * s)})
		c.Stall("p", at(s), at(3*s/2))
		c.Stall("p", at(s/2), at(3*s))
	}},
	{2, "another process stood still", func(c *invariant.Checker) {
		c.Offer(invariant.Call{ID: 2, At: at(0), Deadline: at(s), Process: "p"})
		c.End(invariant.End{ID: 2, Outcome: invariant.Failed, At: at(3 * s)})
		c.Stall("q", at(s/2), at(5*s/2))
	}, func(*invariant.Checker) {}},
	{3, "runs twice", func(c *invariant.Checker) {
		c.Start(invariant.Start{Call: 1, Once: true, Node: "x", At: at(0)})
		c.Start(invariant.Start{Call: 1, Once: true, Node: "y", At: at(s)})
	}, func(c *invariant.Checker) {
		c.Start(invariant.Start{Call: 1, Once: true})
		c.Start(invariant.Start{Call: 2, Once: true})
		c.Start(invariant.Start{Call: 3})
		c.Start(invariant.Start{Call: 3})
	}},
	{3, "ran and was not sent", func(c *invariant.Checker) {
		c.Offer(invariant.Call{ID: 1, Once: true})
		c.Start(invariant.Start{Call: 1, Once: true})
		c.End(invariant.End{ID: 1, Outcome: invariant.Failed, Fate: status.NotSent})
	}, func(c *invariant.Checker) {
		c.Offer(invariant.Call{ID: 1, Once: true})
		c.Start(invariant.Start{Call: 1, Once: true})
		c.End(invariant.End{ID: 1, Outcome: invariant.Failed, Fate: status.Maybe})
	}},
	{3, "runs after it was not sent", func(c *invariant.Checker) {
		c.Offer(invariant.Call{ID: 1, Once: true})
		c.End(invariant.End{ID: 1, Outcome: invariant.Failed, Fate: status.NotSent})
		c.Start(invariant.Start{Call: 1, Once: true})
	}, func(*invariant.Checker) {}},
	{4, "key starts twice", func(c *invariant.Checker) {
		c.Start(invariant.Start{Key: "k"})
		c.Start(invariant.Start{Key: "k"})
	}, func(c *invariant.Checker) {
		c.Start(invariant.Start{Key: "k"})
		c.Start(invariant.Start{Key: "k", Rerun: true})
		c.Start(invariant.Start{Key: "l"})
	}},
	{5, "amplification", func(c *invariant.Checker) { tree(c, 100, 116) }, func(c *invariant.Checker) { tree(c, 100, 115) }},
	{6, "downstream", func(c *invariant.Checker) {
		c.Attempt(invariant.Attempt{N: 1, Paid: true, Before: &status.Error{Origin: status.Downstream}})
	}, func(c *invariant.Checker) { c.Attempt(invariant.Attempt{N: 1, Paid: true, Before: &status.Error{}}) }},
	{6, "pushback", func(c *invariant.Checker) {
		c.Attempt(invariant.Attempt{N: 1, Paid: true, Before: &status.Error{Pushback: -1}})
	}, func(c *invariant.Checker) {
		c.Attempt(invariant.Attempt{N: 1, Paid: true, Before: &status.Error{Pushback: 1}})
	}},
	{6, "budget", func(c *invariant.Checker) { c.Attempt(invariant.Attempt{N: 1, Hedge: true}) },
		func(c *invariant.Checker) { c.Attempt(invariant.Attempt{N: 0}) }},
	{7, "same node", func(c *invariant.Checker) {
		c.Attempt(invariant.Attempt{N: 1, Paid: true, Node: "x", Tried: []string{"x"}, Eligible: []string{"x", "y"}})
	}, func(c *invariant.Checker) {
		c.Attempt(invariant.Attempt{N: 1, Paid: true, Node: "y", Tried: []string{"x"}, Eligible: []string{"x", "y"}})
		c.Attempt(invariant.Attempt{N: 2, Paid: true, Node: "x", Tried: []string{"x", "y"}, Eligible: []string{"x", "y"}})
		c.Attempt(invariant.Attempt{N: 1, Paid: true, Node: "x", Tried: []string{"x"}, Eligible: []string{"x"}})
		c.Attempt(invariant.Attempt{N: 1, Paid: true, Node: "x", Tried: []string{"x"}, Eligible: []string{"x", "y"}, Same: true})
	}},
	{8, "leak", func(c *invariant.Checker) { c.Gauge("places", 1, 0) }, func(c *invariant.Checker) { c.Gauge("places", 0, 0); c.Gauge("abandoned", 3, 3) }},
	{8, "too many abandoned", func(c *invariant.Checker) { c.Gauge("abandoned", 4, 3) }, func(*invariant.Checker) {}},
	{8, "below zero", func(c *invariant.Checker) { c.Gauge("places", -1, 0) }, func(*invariant.Checker) {}},
	{9, "too many ejected", func(c *invariant.Checker) {
		c.Nodes(invariant.Nodes{Known: 10, Ejected: 6, MaxEjected: 5, Live: -1})
	}, func(c *invariant.Checker) { c.Nodes(invariant.Nodes{Known: 10, Ejected: 5, MaxEjected: 5, Live: -1}) }},
	{9, "all ejected", func(c *invariant.Checker) { c.Nodes(invariant.Nodes{Known: 2, Ejected: 2, MaxEjected: 2, Live: -1}) },
		func(c *invariant.Checker) { c.Nodes(invariant.Nodes{Live: -1}) }},
	{9, "fails open in silence", func(c *invariant.Checker) { c.Nodes(invariant.Nodes{Known: 2, FailingOpen: true, Live: -1}) },
		func(c *invariant.Checker) {
			c.Nodes(invariant.Nodes{Known: 2, FailingOpen: true, Said: true, Live: -1})
		}},
	{10, "opens from sheds", func(c *invariant.Checker) {
		c.Offer(invariant.Call{ID: 1, At: at(0)})
		c.End(invariant.End{ID: 1, Key: "k", Outcome: invariant.Failed, Class: policy.ClassShed, At: at(s)})
		c.Offer(invariant.Call{ID: 2, At: at(0)})
		c.End(invariant.End{ID: 2, Key: "other", Outcome: invariant.Failed, Class: policy.ClassTimeout, At: at(s)})
		c.BreakerOpened("k", 10*s, at(2*s))
	}, func(c *invariant.Checker) {
		c.Offer(invariant.Call{ID: 1, At: at(0)})
		c.End(invariant.End{ID: 1, Key: "k", Outcome: invariant.Failed, Class: policy.ClassTimeout, At: at(s)})
		c.BreakerOpened("k", 10*s, at(2*s))
	}},
	{10, "opens from cancellations", func(c *invariant.Checker) {
		c.Offer(invariant.Call{ID: 1, At: at(0)})
		c.End(invariant.End{ID: 1, Key: "k", Outcome: invariant.Failed, Class: policy.ClassCancelled, At: at(s)})
		c.BreakerOpened("k", 10*s, at(2*s))
	}, func(*invariant.Checker) {}},
	{10, "opens from refusals", func(c *invariant.Checker) {
		c.Offer(invariant.Call{ID: 1, At: at(0)})
		c.End(invariant.End{ID: 1, Key: "k", Outcome: invariant.Refused, Class: policy.ClassRefused, At: at(s)})
		c.BreakerOpened("k", 10*s, at(2*s))
	}, func(*invariant.Checker) {}},
	{10, "opens long after", func(c *invariant.Checker) {
		c.Offer(invariant.Call{ID: 1, At: at(0)})
		c.End(invariant.End{ID: 1, Key: "k", Outcome: invariant.Failed, Class: policy.ClassTimeout, At: at(s)})
		c.BreakerOpened("k", 10*s, at(12*s))
	}, func(*invariant.Checker) {}},
	{11, "stays ejected", func(c *invariant.Checker) {
		c.Caused("fault", at(0), at(10*s))
		c.Spell(invariant.Spell{State: "ejected", Key: "n", Cause: "fault", From: at(s), To: at(17 * s), Max: 5 * s})
	}, func(c *invariant.Checker) {
		c.Caused("fault", at(0), at(10*s))
		c.Spell(invariant.Spell{State: "ejected", Key: "n", Cause: "fault", From: at(s), To: at(16 * s), Max: 5 * s})
	}},
	{11, "disbelieves for ever", func(c *invariant.Checker) {
		c.Caused("fault", at(0), at(10*s))
		c.Spell(invariant.Spell{State: "disbelieving", Key: "a", Cause: "fault", From: at(s), Max: 60 * s})
	}, func(*invariant.Checker) {}},
	{11, "stays open", func(c *invariant.Checker) {
		c.Caused("fault", at(0), at(10*s))
		c.Spell(invariant.Spell{State: "open", Key: "k", Cause: "fault", From: at(s), To: at(42 * s), Max: 30 * s})
	}, func(c *invariant.Checker) {
		c.Caused("fault", at(0), at(10*s))
		c.Spell(invariant.Spell{State: "open", Key: "k", Cause: "fault", From: at(s), To: at(41 * s), Max: 30 * s})
		c.Caused("lasting", at(0), 0)
		c.Spell(invariant.Spell{State: "ejected", Key: "n", Cause: "lasting", From: at(s), Max: s})
	}},
	{11, "never ends", func(c *invariant.Checker) { c.Spell(invariant.Spell{State: "open", Key: "k", From: at(s), Max: s}) }, func(*invariant.Checker) {}},
	{12, "collapses", func(c *invariant.Checker) { load(c, 0, 200, 89, 0, policy.Critical); c.Phase(ten) },
		func(c *invariant.Checker) { load(c, 0, 200, 90, 0, policy.Critical); c.Phase(ten) }},
	{12, "sheds for nothing", func(c *invariant.Checker) { load(c, 0, 80, 78, 1, policy.Critical); c.Phase(ten) },
		func(c *invariant.Checker) { load(c, 0, 80, 80, 0, policy.Critical); c.Phase(ten) }},
	{13, "sheds the wrong ones", func(c *invariant.Checker) {
		load(c, 0, 100, 50, 50, policy.Critical)
		load(c, 1000, 100, 50, 50, policy.Sheddable)
		c.Phase(ten)
	}, func(c *invariant.Checker) {
		load(c, 0, 100, 97, 3, policy.Critical)
		load(c, 1000, 100, 2, 98, policy.Sheddable)
		c.Phase(ten)
	}},
	{14, "starts for nobody", func(c *invariant.Checker) { c.Start(invariant.Start{Over: at(s), At: at(2 * s)}) },
		func(c *invariant.Checker) {
			c.Start(invariant.Start{Over: at(2 * s), At: at(s)})
			c.Start(invariant.Start{})
		}},
	{15, "forgets live nodes", func(c *invariant.Checker) { c.Nodes(invariant.Nodes{Service: "a", Live: 3}) },
		func(c *invariant.Checker) {
			c.Nodes(invariant.Nodes{Service: "a"})
			c.Nodes(invariant.Nodes{Service: "a", Known: 1, Live: 3})
			c.Nodes(invariant.Nodes{Service: "a", Live: 3, Young: true})
		}},
	{15, "wrong service", func(c *invariant.Checker) { c.Start(invariant.Start{Service: "b", WantService: "a"}) },
		func(c *invariant.Checker) { c.Start(invariant.Start{Service: "a", WantService: "a"}) }},
	{15, "wrong instance", func(c *invariant.Checker) { c.Answered("2", "1", at(s)) },
		func(c *invariant.Checker) { c.Answered("1", "1", at(s)) }},
}

// tree is so many root calls, and attempts at a service below.
func tree(c *invariant.Checker, roots, attempts int) {
	for id := range uint64(roots) {
		c.Offer(invariant.Call{ID: id, Root: true})
		c.End(invariant.End{ID: id, Outcome: invariant.OK})
	}
	for range attempts {
		c.Attempt(invariant.Attempt{Service: "leaf"})
	}
}

func TestPlanted(t *testing.T) {
	var covered [invariant.Rules + 1]bool
	for _, p := range planted {
		t.Run(p.name, func(t *testing.T) {
			for _, want := range []bool{true, false} {
				c := invariant.New(invariant.Options{Burst: 5})
				if want {
					p.bad(c)
				} else {
					p.good(c)
				}
				r := c.Report(at(100 * s))
				for n, k := range r.Broken {
					if (k > 0) != (want && n == int(p.rule)) {
						t.Errorf("planted %v: invariant %d was broken %d times: %v", want, n, k, r.Violations)
					}
				}
				if (r.Err() != nil) != want || want && !strings.Contains(r.Err().Error(), "invariant ") {
					t.Errorf("%v", r.Err())
				}
				if want && len(r.Untested(p.rule)) > 0 && p.rule != 1 {
					t.Error("the rule was broken and not judged")
				}
			}
			covered[p.rule] = true
		})
	}
	for n := 1; n <= invariant.Rules; n++ {
		if !covered[n] {
			t.Errorf("no violation of invariant %d is planted", n)
		}
	}
}

func TestReport(t *testing.T) {
	c := invariant.New(invariant.Options{})
	load(c, 0, 50, 30, 10, policy.Critical)
	c.Offer(invariant.Call{ID: 1000})
	for range 100 {
		c.Gauge("places", 1, 0)
	}
	r := c.Report(at(20 * s))
	if r.Offered != 51 || r.Ended[invariant.OK] != 30 || r.Ended[invariant.Refused] != 10 || r.Ended[invariant.Failed] != 10 || r.Broken[8] != 100 ||
		len(r.Violations) != 21 {
		t.Errorf("%+v", r)
	}
	if left := r.Untested(1, 2, 3, 8); !slices.Equal(left, []invariant.Rule{3}) {
		t.Errorf("untested: %v", left)
	}
}

// A checker that looks on says the same again and again, counts nothing twice, and forgets what is over.
func TestLook(t *testing.T) {
	const keep = 30 * s
	c := invariant.New(invariant.Options{Keep: keep})
	calls := func(first uint64, from time.Duration) {
		for id := first; id < first+100; id++ {
			c.Offer(invariant.Call{ID: id, Once: true, Deadline: at(from + s), Process: "p", At: at(from)})
			c.End(invariant.End{ID: id, Outcome: invariant.Failed, Class: policy.ClassTimeout, Key: "k", Fate: status.NotSent, At: at(from + 3*s)})
		}
		c.Stall("p", at(from), at(from+3*s))
	}
	calls(0, 0)
	c.Offer(invariant.Call{ID: 5000, At: at(0)}) // goes on
	c.BreakerOpened("k", 10*s, at(4*s))
	c.BreakerOpened("other", 10*s, at(4*s))
	c.Spell(invariant.Spell{State: "open", Key: "k", From: at(4 * s), To: at(20 * s), Max: 5 * s})
	for _, now := range []time.Duration{25 * s, 26 * s, 60 * s, 61 * s} {
		r := c.Look(at(now))
		if r.Offered != 101 || r.Broken[1] != 0 || r.Broken[2] != 0 || r.Broken[10] != 1 || r.Broken[11] != 1 || r.Judged[10] != 2 || len(r.Violations) != 2 {
			t.Errorf("at %v: %+v", now, r)
		}
	}
	// What was forgotten is not compared any more, what goes on still is.
	c.Start(invariant.Start{Call: 1, Once: true, At: at(70 * s)})
	c.End(invariant.End{ID: 5000, Outcome: invariant.OK, At: at(70 * s)})
	if r := c.Look(at(71 * s)); r.Broken[3] != 0 || r.Broken[1] != 0 || r.Ended[invariant.OK] != 1 {
		t.Errorf("%+v", r)
	}
	calls(200, 80*s)
	c.Start(invariant.Start{Call: 201, Once: true, At: at(84 * s)})
	if r := c.Look(at(85 * s)); r.Broken[3] != 1 || r.Broken[2] != 0 {
		t.Errorf("%+v", r)
	}
}

// The texts of the rules are those of the package's documentation.
func TestRuleTexts(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for n := invariant.Rule(1); n <= invariant.Rules; n++ {
		if line := fmt.Sprintf("//\t%2d  %v\n", int(n), n); !strings.Contains(string(doc), line) {
			t.Errorf("the documentation has no line %q", line)
		}
	}
}
