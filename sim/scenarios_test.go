//go:build !race

package sim

// A run is single-threaded, so the race detector would find nothing in it, slowly.

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
)

var (
	update = flag.Bool("update", false, "write the results into docs/scenarios.md")
	seeds  = flag.Int("seeds", 20, "over how many seeds; some scenarios take a part of them")
	only   = flag.String("only", "", "play the scenario of this name, and print it")
	first  = flag.Uint64("first", 0, "the first seed: others than those that policies were chosen with")
)

const page = "../docs/scenarios.md"

// TestScenarios plays every scenario with every protection, holds the outcomes against what is expected, and the figures against the page.
func TestScenarios(t *testing.T) {
	// There is much garbage and next to no heap: collecting at every 4 MB takes a third of the time.
	defer debug.SetGCPercent(debug.SetGCPercent(1000))
	var all bytes.Buffer
	overview := "| # | scenario | none | Hull |\n|---|---|---|---|\n"
	for _, sc := range Scenarios() {
		if *only != "" && sc.Name != *only {
			continue
		}
		sc.first = *first
		results, err := sc.Measure(t.Context(), *seeds, runtime.GOMAXPROCS(0))
		if err != nil {
			t.Fatal(err)
		}
		if *only != "" {
			if err := sc.WriteText(t.Output(), results); err != nil {
				t.Fatal(err)
			}
		}
		for i, r := range results {
			if i == 0 {
				overview += fmt.Sprintf("| %d | [%s](#%d-%s) | %s |", sc.Number, sc.Name, sc.Number, sc.Name, r.Text())
			}
			if r.Row.Name == "Hull" {
				overview += " " + r.Text()
			} else if what, ok := strings.CutPrefix(r.Row.Name, "Hull with "); ok { // after "Hull"
				overview += "; with " + what + " " + r.Text()
			}
			if !r.AsExpected() {
				least, most := r.Row.Expect.bounds()
				t.Errorf("%s, %s: holds %s, want from %.0f to %.0f %%", sc.Name, r.Row.Name, r.Text(), 100*least, 100*most)
			}
		}
		overview += " |\n"
		if err := sc.WriteMarkdown(&all, results); err != nil {
			t.Fatal(err)
		}
		all.WriteString("\n")
	}
	if *only == "" && *first == 0 {
		compare(t, overview+"\n"+all.String())
	}
}

// compare writes the results into the page with -update, and else holds the page against them. A figure may differ by as much as chance makes it differ:
// the last bit of a floating-point number is not the same on all machines, and whoever changes a policy a little need not write the page anew.
func compare(t *testing.T, got string) {
	const begin, end = "<!-- begin generated -->\n", "<!-- end generated -->"
	old, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(old), begin)
	want, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no generated part", page)
	}
	got = fmt.Sprintf("How often each holds without protection and with Hull's defaults, over %d seeds, of the longer ones over a part of those:\n\n%s", *seeds, got)
	if *update {
		if err := os.WriteFile(page, []byte(before+begin+got+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if *seeds != 20 {
		return // the page is about others
	}
	is, was := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(is), len(was)) {
		if i >= len(is) || i >= len(was) || !alike(is[i], was[i]) {
			t.Errorf("%s does not say what the scenarios come to: run go test ./sim -run Scenarios -update. The first difference:\n%s\n%s",
				page, line(was, i), line(is, i))
			return
		}
	}
}

func line(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}

var number = regexp.MustCompile(`[0-9]+(\.[0-9]+)?`)

// alike compares two lines. What a row is called must be the same; its figures may differ by a fifth, or by four of their last digit.
func alike(a, b string) bool {
	if a == b {
		return true
	}
	ca, cb := strings.Split(a, "|"), strings.Split(b, "|")
	if len(ca) != len(cb) || len(ca) < 4 || ca[1] != cb[1] {
		return false
	}
	for k := 2; k < len(ca); k++ {
		if !near(ca[k], cb[k]) {
			return false
		}
	}
	return true
}

// near compares two cells. What could not be measured in a run is near to everything.
func near(a, b string) bool {
	words := strings.NewReplacer("always", "100", "never", "0")
	na, nb := number.FindString(words.Replace(a)), number.FindString(words.Replace(b))
	if na == "" || nb == "" {
		return a == b || strings.Contains(a+b, "–")
	}
	x, errX := strconv.ParseFloat(na, 64)
	y, errY := strconv.ParseFloat(nb, 64)
	_, digits, _ := strings.Cut(na, ".")
	return errX == nil && errY == nil && math.Abs(x-y) <= max(0.2*max(x, y), 4*math.Pow10(-len(digits)))
}

func TestAlike(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"text", "text", true},
		{"text 1", "text 2", false},
		{"| none | never | 100 % | 12 ms |", "| none | never | 98 % | 13 ms |", true},
		{"| none | never | 100 % | 12 ms |", "| none | always | 98 % | 13 ms |", false},
		{"| none | never | 100 % | 12 ms |", "| none | never | 70 % | 12 ms |", false},
		{"| none | 50 % | 1.01 × |", "| none | 55 % | 1.04 × |", true},
		{"| none | 50 % | 1.01 × |", "| none | 55 % | 1.34 × |", false},
		{"| none | never | 2.0 s |", "| none | never | – |", true},
		{"| none | never | 2.0 s |", "| Hull | never | 2.0 s |", false},
	} {
		if got := alike(tt.a, tt.b); got != tt.want {
			t.Errorf("alike(%q, %q) = %v", tt.a, tt.b, got)
		}
	}
}

// The first seed of the barest protection and of Hull: it ends, all calls have ended, nothing is left at the nodes, and what is certain is so.
func TestEveryScenarioOnce(t *testing.T) {
	for _, sc := range Scenarios() {
		t.Run(sc.Name, func(t *testing.T) {
			t.Parallel()
			for i := range sc.Rows {
				row := &sc.Rows[i]
				if i > 0 && row.Name != "Hull" {
					continue
				}
				r, err := sc.Play(row, 0)
				if err != nil {
					t.Fatal(err)
				}
				held := r.Scenario.Holds(r)
				if row.Expect == Always && !held || row.Expect == Never && held {
					t.Errorf("%s: holds is %v", row.Name, held)
				}
				for _, l := range r.lab.loads {
					if len(l.calls) == 0 {
						t.Errorf("%s: nothing was offered as %s", row.Name, l.Name)
					}
					name, _ := split(l.To)
					patience := r.lab.byName[name].patience()
					for _, c := range l.calls {
						if row.Name == "Hull" && (c.took < 0 || c.took > patience) {
							t.Fatalf("a call of %s that began at %v took %v, more than the %v that it had", l.Name, c.at, c.took, patience)
						}
					}
				}
			}
		})
	}
}

// A run of a row must not change the scenario for the next one.
func TestVaryIsForOneRow(t *testing.T) {
	sc := RetryStorm()
	for i := range sc.Rows {
		if sc.Rows[i].Vary != nil {
			if _, err := sc.Play(&sc.Rows[i], 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if rate := sc.Load[0].Rate(0); rate != 280 {
		t.Errorf("afterwards the rate is %v, want 280", rate)
	}
}
