package sim

import (
	"fmt"
	"io"
	"math"
	"strings"
)

// Text is the figure's value as people read it; "–" if there was nothing to measure.
func (f *Figure) Text(value float64) string {
	scale := f.Scale
	if scale == 0 {
		scale = 1
	}
	value *= scale
	if math.IsNaN(value) || math.Abs(value) > 1e9 {
		return "–"
	}
	return fmt.Sprintf(f.Format, value)
}

// Text is in which share of the runs a row held, as people read it.
func (r *Result) Text() string {
	switch r.Held {
	case 0:
		return "never"
	case 1:
		return "always"
	}
	return fmt.Sprintf("%.0f %%", 100*r.Held)
}

// cells are the rows of the table, the head first.
func (sc *Scenario) cells(results []Result) [][]string {
	head := []string{"protection", "holds"}
	for _, f := range sc.Figures {
		head = append(head, f.Name)
	}
	out := [][]string{head}
	for i := range results {
		r := &results[i]
		row := []string{r.Row.Name, r.Text()}
		for k := range sc.Figures {
			row = append(row, sc.Figures[k].Text(r.Figures[k]))
		}
		out = append(out, row)
	}
	return out
}

// marks lead to notes.
var marks = [...]string{"", "¹", "²", "³", "⁴", "⁵"}

// WriteMarkdown writes what results came to as a section of a page.
func (sc *Scenario) WriteMarkdown(w io.Writer, results []Result) error {
	var b strings.Builder
	fmt.Fprintf(&b, "### %d %s\n\n%s\n\nHolds: %s. Source: %s.\n\n", sc.Number, sc.Name, sc.Story, sc.Promise, sc.Source)
	if len(results) > 0 {
		fmt.Fprintf(&b, "%d runs of each:\n\n", results[0].Runs)
	}
	notes := 0
	for i, row := range sc.cells(results) {
		b.WriteString("|")
		for k, cell := range row {
			if k == 0 && i > 0 {
				if strings.HasPrefix(cell, "Hull") && !strings.HasPrefix(cell, "Hull's") {
					cell = "**" + cell + "**"
				}
				if results[i-1].Row.Note != "" && notes+1 < len(marks) {
					notes++
					cell += " " + marks[notes]
				}
			}
			b.WriteString(" " + cell + " |")
		}
		if b.WriteString("\n"); i == 0 {
			b.WriteString("|---|" + strings.Repeat("---|", len(row)-1) + "\n")
		}
	}
	notes = 0
	for i := range results {
		if note := results[i].Row.Note; note != "" && notes+1 < len(marks) {
			notes++
			fmt.Fprintf(&b, "\n%s %s\n", marks[notes], note)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteText writes what results came to for a terminal.
func (sc *Scenario) WriteText(w io.Writer, results []Result) error {
	var b strings.Builder
	if sc.Name != "" {
		fmt.Fprintf(&b, "%d %s\n%s\nHolds: %s.\nSource: %s.\n\n", sc.Number, sc.Name, sc.Story, sc.Promise, sc.Source)
	}
	rows := sc.cells(results)
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for k, cell := range row {
			widths[k] = max(widths[k], len([]rune(cell)))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for k, cell := range row {
			pad := strings.Repeat(" ", widths[k]-len([]rune(cell)))
			if k == 0 {
				line.WriteString(cell + pad)
				continue
			}
			line.WriteString("  " + pad + cell)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	for i := range results {
		if r := results[i].Row; r.Note != "" {
			fmt.Fprintf(&b, "\n%s: %s\n", r.Name, r.Note)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
