package sim

import (
	"testing"
	"time"
)

// TestDoubtIsPackageRegistrys: what a caller believes of a registry that has lost everybody was modelled here, and the model kept nodes for ever that nobody
// answered for.
func TestDoubtIsPackageRegistrys(t *testing.T) {
	const empty, kill, quiet, last = time.Second, 2 * time.Second, 30 * time.Second, 2 * time.Minute
	sc := Scenario{
		Services: []Service{{Name: "store", Nodes: 4, Work: Every(time.Millisecond), Timeout: time.Second, Tries: 3}},
		Load:     []Load{{Name: "calls", To: "store", Rate: Steady(100).Then(quiet, Steady(0))}},
		Faults:   []Fault{{At: empty, Do: Emptied}, {At: kill, Do: Kill("store", 0)}},
		Last:     last,
	}
	for _, with := range []Protection{Hull(), Bare(Disbelief)} {
		l, err := newLab(&sc, with, 1)
		if err != nil {
			t.Fatal(err)
		}
		sees := l.services[0].targets[0]
		for _, step := range []struct {
			at    time.Duration
			nodes int
			what  string
		}{
			{kill, 4, "nobody answers for their absence"},
			{kill + 5*time.Second, 3, "one refuses connections"},
			{quiet + 50*time.Second, 3, "the others have answered within a minute"},
			{quiet + 65*time.Second, 0, "nothing was heard of anybody for a minute"},
		} {
			l.Until(step.at)
			nodes := sees.picker.Nodes()
			if len(nodes) != step.nodes {
				t.Errorf("after %v there are %d nodes, want %d: %s", step.at, len(nodes), step.nodes, step.what)
			}
			for _, n := range nodes {
				if !n.Info().Absent {
					t.Errorf("after %v node %s is not doubted", step.at, n.ID())
				}
			}
		}
		for _, c := range l.loads[0].calls {
			if !c.ok {
				t.Errorf("a call at %v failed: %s", c.at, c.why)
			}
		}
	}
}
