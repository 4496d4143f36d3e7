package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// table collects rows and prints them with aligned columns. Unlike text/tabwriter it knows that colours take no room.
type table struct {
	head  []string
	rows  [][]string
	paint func(column int, cell string) colour // nil = no colours
}

// add appends a row; what others wrote is made harmless.
func (t *table) add(cells ...string) {
	for i := range cells {
		if cells[i] = plainLine(cells[i]); cells[i] == "" {
			cells[i] = "-"
		}
	}
	t.rows = append(t.rows, cells)
}

// print writes the table; colours says whether w understands them.
func (t *table) print(w io.Writer, colours bool) {
	width := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	line := func(row []string, paint func(int, string) colour) {
		var b strings.Builder
		for i, cell := range row {
			c := none
			if colours && paint != nil {
				c = paint(i, cell)
			}
			b.WriteString(c.wrap(cell))
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		fmt.Fprintln(w, b.String())
	}
	line(t.head, func(int, string) colour { return bold })
	for _, row := range t.rows {
		line(row, t.paint)
	}
}

// colour is a terminal's escape sequence, without the escape.
type colour string

const (
	none   colour = ""
	bold   colour = "1"
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
)

func (c colour) wrap(text string) string {
	if c == none {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// colourOf is the colour of a word that says how something is.
func colourOf(state string) colour {
	switch state {
	case stateReady, healthServing, healthAnswers, healthReachable, eventJoined, eventReturned, eventFresh:
		return green
	case stateDraining, stateDoubtful, eventChanged, eventStale:
		return yellow
	case healthFailing, healthUnreachable, healthSilent, eventLeft:
		return red
	}
	return none
}

// colours reports whether standard output gets any.
func (p *program) colours() bool {
	no, set := p.Env("NO_COLOR")
	term, _ := p.Env("TERM")
	return p.Terminal && (!set || no == "") && term != "dumb"
}

// plain makes text that others wrote harmless for a terminal: control characters are shown, not obeyed.
func plain(s string) string {
	if strings.IndexFunc(s, hostile) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hostile(r) {
			fmt.Fprintf(&b, "\\u%04x", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// plainLine is plain for what must stay on its line.
func plainLine(s string) string { return strings.ReplaceAll(plain(s), "\n", `\n`) }

// hostile reports whether a terminal does something else with r than to show it.
func hostile(r rune) bool { return r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) }

// printJSON writes v for programs, indented.
func (p *program) printJSON(v any) error {
	enc := json.NewEncoder(p.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
