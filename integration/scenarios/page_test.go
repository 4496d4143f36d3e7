package scenarios_test

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

const page = "../../docs/scenarios.md"

// Markers of the part of the page that is written here.
const (
	begin = "<!-- begin generated: real programs -->\n"
	end   = "<!-- end generated: real programs -->"
)

// result is what the runs of a row came to.
type result struct {
	runs, held, roughly int
	sums                []float64
	counts              []int
	late                time.Duration
}

// add adds a run, and tells what it was like.
func (res *result) add(r *run, t *testing.T, row *row) {
	t.Helper()
	sc := r.sc
	if res.sums == nil {
		res.sums, res.counts = make([]float64, len(sc.figures)), make([]int, len(sc.figures))
	}
	held, rough := sc.holds(r), sc.roughly(r)
	res.runs++
	if held {
		res.held++
	}
	if rough {
		res.roughly++
	}
	res.late = max(res.late, r.late)
	var b strings.Builder
	for i, f := range sc.figures {
		v := f.of(r)
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			res.sums[i] += v
			res.counts[i]++
		}
		fmt.Fprintf(&b, "; %s %s", f.name, f.text(v))
	}
	t.Logf("%s, %s: holds %v, roughly %v; %d calls, the latest began %v too late%s%s%s", sc.name, row.name, held, rough, len(r.calls), r.late.Round(time.Millisecond), b.String(), r.why(),
		r.seconds())
}

func (f *figure) text(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "–"
	}
	if f.scale != 0 {
		v *= f.scale
	}
	return fmt.Sprintf(f.format, v)
}

// text is in how many runs it held.
func (res *result) text() string {
	switch res.held {
	case 0:
		return "never"
	case res.runs:
		return "always"
	}
	return fmt.Sprintf("%d of %d", res.held, res.runs)
}

var marks = [...]string{"¹", "²", "³", "⁴"}

// section is the part of the page about a scenario.
func (sc *scenario) section(results []result, rounds int) string {
	var b, notes strings.Builder
	var late time.Duration
	fmt.Fprintf(&b, "#### %s, really\n\n%s\n\nHolds: %s.\n\n| protection | holds |", sc.name, sc.story, sc.promise)
	for _, f := range sc.figures {
		fmt.Fprintf(&b, " %s |", f.name)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(sc.figures)) + "\n")
	n := 0
	for i := range results {
		r, res := &sc.rows[i], &results[i]
		if res.runs == 0 {
			continue
		}
		late = max(late, res.late)
		name := r.name
		if strings.HasPrefix(name, "Hull") && !strings.HasPrefix(name, "Hull's") {
			name = "**" + name + "**"
		}
		if r.note != "" {
			name += " " + marks[n]
			fmt.Fprintf(&notes, "%s %s\n\n", marks[n], r.note)
			n++
		}
		fmt.Fprintf(&b, "| %s | %s |", name, res.text())
		for k := range sc.figures {
			fmt.Fprintf(&b, " %s |", sc.figures[k].text(res.sums[k]/float64(res.counts[k])))
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\n%s%s: %d rounds on a machine of %d processors, %s. The latest call began %d ms too late; rows with one of more than %d ms are played again, twice at most.\n\n", &notes, time.Now().UTC().Format(time.DateOnly), rounds, runtime.NumCPU(),
		runtime.Version(), late.Milliseconds(), still.Milliseconds())
	return b.String()
}

// write puts a section into the page, in the place of the one that is there about the same scenario, and makes the overview from all that are there.
func write(t *testing.T, sc *scenario, text string) {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(b), begin)
	was, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no part about real programs", page)
	}
	sections := map[string]string{}
	for i, s := range strings.Split(was, "#### ") {
		if name, _, ok := strings.Cut(s, ", really\n"); i > 0 && ok {
			sections[name] = "#### " + s
		}
	}
	sections[sc.name] = text
	overview, parts := "| # | scenario | none | Hull |\n|---|---|---|---|\n", ""
	for _, one := range all(true) {
		s := sections[one.name]
		if s == "" {
			continue
		}
		overview += fmt.Sprintf("| %d | [%s](#%s-really) | %s | %s |\n", one.number, one.name, one.name, cell(s, one.rows[bareRow(&one)].name), cell(s, "**Hull**"))
		parts += s
	}
	if err := os.WriteFile(page, []byte(head+begin+overview+"\n"+parts+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

// bareRow is the row without protection.
func bareRow(sc *scenario) int {
	for i := range sc.rows {
		if strings.HasPrefix(sc.rows[i].name, "none") {
			return i
		}
	}
	return 0
}

// cell is what a section says of whether a row holds.
func cell(section, row string) string {
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) > 3 && strings.HasPrefix(strings.TrimSpace(cells[1]), row) {
			return strings.TrimSpace(cells[2])
		}
	}
	return ""
}
