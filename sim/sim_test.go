package sim

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull/spec"
)

// small is a scenario with a bit of everything.
func small() Scenario {
	return Scenario{
		Services: []Service{
			{Name: "web", Nodes: 2, Threads: 20, Work: About(2 * time.Millisecond), Calls: []string{"store"}, Network: time.Millisecond},
			{Name: "store", Nodes: 3, Cores: 2, Work: About(5 * time.Millisecond), Timeout: 500 * time.Millisecond, Tries: 3},
		},
		Load: []Load{
			{Name: "calls", To: "web", Rate: Steady(200), Clients: 2},
			{Name: "reads", To: "store", Rate: Ramp(10, 400, time.Second, 3*time.Second), Keys: 5, Fan: 2, SideEffectFree: true, Lost: 0.001},
		},
		Faults: []Fault{
			{At: time.Second, For: time.Second, Do: Stop("store", 0)},
			{At: 2 * time.Second, For: time.Second, Do: Kill("store", 1)},
			{At: 3 * time.Second, For: time.Second, Do: Mute("store", 2)},
			{At: 3 * time.Second, For: time.Second, Do: Fail("store", 0.5)},
			{At: 4 * time.Second, Do: Restart("store", 300*time.Millisecond)},
			{At: 5 * time.Second, Do: Stall("web", 300*time.Millisecond, 1)},
			{At: 5 * time.Second, For: time.Second, Do: Silence},
			{At: 6 * time.Second, For: time.Second, Do: Emptied},
		},
		Trouble: Span{time.Second, 7 * time.Second},
		Last:    8 * time.Second,
	}
}

// Calls of a load may be made by the processes of an earlier one.
func TestBy(t *testing.T) {
	sc := small()
	sc.Load = append(sc.Load, Load{Name: "writes", To: "store", Rate: Steady(1), By: "calls"})
	l, err := newLab(&sc, Hull(), 1)
	if err != nil {
		t.Fatal(err)
	}
	calls, reads, writes := l.loads[0].callers, l.loads[1].callers, l.loads[2].callers
	if len(writes) != 2 || writes[0] != calls[0] || writes[1] != calls[1] || reads[0] == calls[0] {
		t.Errorf("%p and %p make calls, %p reads, %p and %p writes; want the first two to write too", calls[0], calls[1], reads[0], writes[0], writes[1])
	}
	sc.Load[0].By = "writes" // which comes later
	if _, err := newLab(&sc, Hull(), 1); err == nil || !strings.Contains(err.Error(), `no load "writes" before "calls"`) {
		t.Errorf("%v, want an error that says that there is no such load before it", err)
	}
}

// Whatever happens, each call ends exactly once, nothing stays at a node, and nothing is counted twice.
func TestBooks(t *testing.T) {
	for _, with := range []Protection{Bare(), Bare(Travel, Drain, LIFO), Bare(Admission, Eject, Stale), Hull(), Hull(Hedge(0, 0.05)), Hull(Balance("consistent-hash"))} {
		sc := small()
		l, err := newLab(&sc, with, 1)
		if err != nil {
			t.Fatal(err)
		}
		l.Run() // until nothing is to happen any more
		for _, load := range l.loads {
			for _, c := range load.calls {
				if c.took < 0 {
					t.Fatalf("a call of %s that began at %v has not ended", load.Name, c.at)
				}
			}
		}
		for _, s := range l.services {
			for _, n := range s.nodes {
				if len(n.jobs) > 0 || n.busy != 0 || n.threads != 0 || len(n.cores.jobs)+len(n.starts.jobs) > 0 {
					t.Errorf("%s: %d requests are left, %d are worked on, %d threads are taken", n.id(), len(n.jobs), n.busy, n.threads)
				}
				if n.desk != nil {
					if d := n.desk.Snapshot(); d.Running != 0 || d.Waiting != 0 || d.Abandoned != 0 {
						t.Errorf("%s: the desk has %d running, %d waiting, %d abandoned", n.id(), d.Running, d.Waiting, d.Abandoned)
					}
				}
			}
			for _, target := range s.targets {
				if in := target.picker.Snapshot(l.Now()).InFlight; in != 0 {
					t.Errorf("%s: a picker has %d in flight", s.Name, in)
				}
			}
		}
	}
}

// The same seed gives the same run, however many goroutines measure.
func TestSameSeedSameRun(t *testing.T) {
	table := func(workers int) string {
		sc := small()
		sc.Holds = func(r *Run) bool { return r.OK("calls", Span{0, sc.Last}) > 0.9 }
		sc.Figures = []Figure{
			{Name: "answered", Of: func(r *Run) float64 { return r.OK("calls", Span{0, sc.Last}) }, Format: "%.12f"},
			{Name: "p99", Of: func(r *Run) float64 { return r.Quantile("reads", 0.99, Span{0, sc.Last}) }, Format: "%.12f"},
			{Name: "attempts", Of: func(r *Run) float64 { return r.Attempts("store", Span{0, sc.Last}) }, Format: "%.12f"},
		}
		sc.Rows = []Row{{Name: "none", With: Bare()}, {Name: "Hull", With: Hull()}}
		results, err := sc.Measure(t.Context(), 2, workers)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := sc.WriteText(&b, results); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	one := table(1)
	if four := table(4); four != one {
		t.Errorf("with one goroutine:\n%s\nwith four:\n%s", one, four)
	}
	if !strings.Contains(one, "answered") {
		t.Errorf("the table is\n%s", one)
	}
}

func TestFaultsOfTheDescription(t *testing.T) {
	for name, change := range map[string]func(*Scenario){
		`no service "stock"`:   func(sc *Scenario) { sc.Load[0].To = "stock" },
		`no method "all"`:      func(sc *Scenario) { sc.Load[0].To = "store/all" },
		`no service "nowhere"`: func(sc *Scenario) { sc.Services[0].Calls = []string{"nowhere"} },
		"no valid document": func(sc *Scenario) {
			sc.Rows = []Row{{With: Hull(Client(func(d *spec.Service) { d.Retry.Attempts = 99 }))}}
		},
	} {
		sc := small()
		sc.Rows = []Row{{With: Hull()}}
		sc.Holds = func(*Run) bool { return true }
		change(&sc)
		if _, err := sc.Measure(t.Context(), 1, 1); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("the error is %v, want one that says %s", err, name)
		}
	}
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for i, sc := range Scenarios() {
		if sc.Number != i+1 {
			t.Errorf("%s has number %d in place %d", sc.Name, sc.Number, i+1)
		}
		rows := map[string]bool{}
		for _, r := range sc.Rows {
			if rows[r.Name] {
				t.Errorf("%s has two rows %q", sc.Name, r.Name)
			}
			rows[r.Name] = true
		}
		if seen[sc.Name] || !rows["Hull"] || sc.Story == "" || sc.Source == "" || sc.Promise == "" {
			t.Errorf("%s: its name is not its own, or it lacks Hull's row, its story, its source or its promise", sc.Name)
		}
		seen[sc.Name] = true
		var b bytes.Buffer
		if err := sc.WriteMarkdown(&b, nil); err != nil || !strings.Contains(b.String(), sc.Name) {
			t.Errorf("%s is written as %q, %v", sc.Name, b.String(), err)
		}
	}
}
