package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// topEvery is how often "hull top" looks.
const topEvery = time.Second

// What "hull top" reads of an admin page's state.
type (
	topState struct {
		At      time.Time   `json:"at"`
		Server  *topServer  `json:"server"`
		Clients []topClient `json:"clients"`
	}
	topServer struct {
		Service   string `json:"service"`
		Node      string `json:"node"`
		Phase     string `json:"phase"`
		Why       string `json:"why"`
		InFlight  int64  `json:"inFlight"`
		Calls     int64  `json:"calls"`
		Failures  int64  `json:"failures"`
		Admission struct {
			Running, Limit, Waiting, Queue, Abandoned int64
			Refused                                   topRefused
		} `json:"admission"`
	}
	topRefused struct{ Limit, Rate, Pressure int64 }
	topClient  struct {
		Services []topService `json:"services"`
	}
	topService struct {
		Name    string      `json:"name"`
		Nodes   []topNode   `json:"nodes"`
		Methods []topMethod `json:"methods"`
		Budget  *struct {
			Tokens   int64 `json:"tokens"`
			Capacity int64 `json:"capacity"`
		} `json:"budget"`
		Concurrency *struct{ InUse, Limit, Waiting int64 } `json:"concurrency"`
		Throttle    *struct {
			Shares []struct {
				Share float64 `json:"share"`
			} `json:"shares"`
		} `json:"throttle"`
	}
	topNode struct {
		ID       string        `json:"id"`
		Address  string        `json:"address"`
		State    string        `json:"state"`
		Why      string        `json:"why"`
		Latency  time.Duration `json:"latency"`
		Estimate time.Duration `json:"estimate"`
		InFlight int           `json:"inFlight"`
		OK       int64         `json:"ok"`
		Failed   int64         `json:"failed"`
	}
	topMethod struct {
		Name    string `json:"name"`
		Calls   int64  `json:"calls"`
		Refused int64  `json:"refused"`
		Retries int64  `json:"retries"`
		Breaker struct {
			State string `json:"state"`
		} `json:"breaker"`
		Timeout *struct {
			MS      float64 `json:"ms"`
			Learned bool    `json:"learned"`
		} `json:"attemptTimeout"`
	}
)

// top is "hull top".
func (p *program) top() *cobra.Command {
	return &cobra.Command{
		Use:   "top",
		Short: "Watch a program's calls, nodes and breakers, live",
		Long: `Show, every second, how many calls a program makes and serves, how its nodes, breakers and budgets
stand, and who is avoided and why. LIMIT is how many attempts are under way of how many, plus those
that wait; THROTTLE the share of the least important calls that is held back; TIMEOUT that of an
attempt, with a question mark while nothing is learned; LATENCY what a node's successful attempts
took of late, and COUNTS AS what the balancer goes by, which takes failures for slow answers. On a
terminal the picture is drawn anew until it is interrupted, also when the program is away and comes
back; anywhere else one picture of one second is printed.`,
		Example: "hull top --admin 127.0.0.1:7070",
		Args:    p.arguments(0),
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.runTop(cmd) },
	}
}

func (p *program) runTop(cmd *cobra.Command) error {
	a, err := p.page(cmd)
	if err != nil {
		return err
	}
	look := func() (*topState, error) {
		b, err := a.ask(cmd.Context(), http.MethodGet, "state", nil, true)
		if err != nil {
			return nil, err
		}
		s := new(topState)
		if err := json.Unmarshal(b, s); err != nil {
			return nil, fmt.Errorf("the admin page at %s does not speak this program's language: %w", a.name, err)
		}
		return s, nil
	}
	before, err := look()
	if err != nil {
		return err
	}
	if p.Terminal {
		fmt.Fprint(p.Stdout, "\x1b[?1049h\x1b[?25l") // another screen, without the cursor
		defer fmt.Fprint(p.Stdout, "\x1b[?25h\x1b[?1049l")
	}
	t := time.NewTicker(topEvery)
	defer t.Stop()
	for picture := ""; ; {
		select {
		case <-cmd.Context().Done():
			if p.Terminal {
				return nil
			}
			return cmd.Context().Err()
		case <-t.C:
		}
		var b strings.Builder
		switch now, err := look(); {
		case err == nil:
			p.drawTop(&b, a.name, before, now)
			before, picture = now, b.String()
		case !p.Terminal:
			return err
		case cmd.Context().Err() != nil:
			return nil
		default: // it may be what one looks for
			said := red
			if !p.colours() {
				said = none
			}
			fmt.Fprintf(&b, "%s\nThis was:\n%s", said.wrap(plainLine(fmt.Sprintf("no answer since %s: %v", before.At.Format(time.TimeOnly), err))), picture)
		}
		if !p.Terminal {
			_, err := io.WriteString(p.Stdout, b.String())
			return err
		}
		columns, lines := 0, 0
		if p.Size != nil {
			columns, lines = p.Size()
		}
		fmt.Fprint(p.Stdout, "\x1b[H"+strings.Join(fit(b.String(), columns, lines), "\x1b[K\n")+"\x1b[K\x1b[J")
	}
}

// fit cuts a picture to a terminal's size, of which 0 is not known: a line that is too long would go on in the next one, and lines that are too many would push
// out the first.
func fit(picture string, columns, lines int) []string {
	all := strings.Split(strings.TrimSuffix(picture, "\n"), "\n")
	if n := len(all); lines > 0 && n > lines {
		all = append(all[:lines-1], fmt.Sprintf("… %d more lines, in a larger window or with hull stats", n-lines+1))
	}
	if columns > 0 {
		for i := range all {
			all[i] = cutLine(all[i], columns)
		}
	}
	return all
}

// cutLine cuts a line, in which colours take no room.
func cutLine(line string, columns int) string {
	if utf8.RuneCountInString(line) <= columns {
		return line
	}
	room, coloured, inside, last := columns, false, false, 0
	for i, r := range line {
		switch {
		case r == '\x1b':
			inside, coloured = true, true
		case inside:
			inside = r != 'm'
		case room == 0:
			if line = line[:last] + "…"; coloured {
				line += "\x1b[0m"
			}
			return line
		default:
			room, last = room-1, i
		}
	}
	return line
}

// drawTop writes one picture of what happened between two looks.
func (p *program) drawTop(w io.Writer, addr string, before, now *topState) {
	seconds := max(now.At.Sub(before.At).Seconds(), 0.001)
	rate := func(v, was int64) string { return strconv.FormatFloat(float64(max(v-was, 0))/seconds, 'f', 0, 64) }
	fmt.Fprintf(w, "%s at %s\n", addr, now.At.Format(time.TimeOnly))
	if s := now.Server; s != nil {
		var calls, failures int64
		if before.Server != nil {
			calls, failures = before.Server.Calls, before.Server.Failures
		}
		phase := plain(s.Phase)
		if s.Why != "" {
			phase += " (" + plain(s.Why) + ")"
		}
		fmt.Fprintf(w, "\nserves %s as %s, %s: %s calls/s, %s failed/s, %d in flight, %d of at most %d running, %d of at most %d waiting, %d abandoned\n", plain(s.Service),
			plain(s.Node), phase, rate(s.Calls, calls), rate(s.Failures, failures), s.InFlight, s.Admission.Running, s.Admission.Limit, s.Admission.Waiting,
			s.Admission.Queue, s.Admission.Abandoned)
		now, old := s.Admission.Refused, topRefused{}
		if before.Server != nil {
			old = before.Server.Admission.Refused
		}
		fmt.Fprintf(w, "refuses %s/s for want of a place, %s/s above their caller's rate, %s/s under pressure\n", rate(now.Limit, old.Limit), rate(now.Rate, old.Rate),
			rate(now.Pressure, old.Pressure))
	}
	was := map[[2]string]topMethod{}
	for i, c := range before.Clients {
		for _, s := range c.Services {
			for _, m := range s.Methods {
				was[[2]string{strconv.Itoa(i) + s.Name, m.Name}] = m
			}
		}
	}
	methods := table{head: []string{"SERVICE", "METHOD", "CALLS/S", "REFUSED/S", "RETRIES/S", "BREAKER", "BUDGET", "LIMIT", "THROTTLE", "TIMEOUT"}, paint: func(column int, cell string) colour {
		if column == 5 {
			return standing(cell, "closed")
		}
		return none
	}}
	nodes := table{head: []string{"SERVICE", "NODE", "ADDRESS", "STATE", "IN FLIGHT", "LATENCY", "COUNTS AS", "OK", "FAILED", "WHY"}, paint: func(column int, cell string) colour {
		if column == 3 {
			return standing(cell, "ready")
		}
		return none
	}}
	for i, c := range now.Clients {
		for _, s := range c.Services {
			budget := ""
			if s.Budget != nil && s.Budget.Capacity > 0 {
				budget = fmt.Sprintf("%d%%", 100*s.Budget.Tokens/s.Budget.Capacity)
			}
			limit, held := "", ""
			if c := s.Concurrency; c != nil {
				limit = fmt.Sprintf("%d/%d", c.InUse, c.Limit)
				if c.Waiting > 0 {
					limit += fmt.Sprintf("+%d", c.Waiting)
				}
			}
			if t := s.Throttle; t != nil {
				most := 0.0
				for _, s := range t.Shares {
					most = max(most, s.Share)
				}
				held = fmt.Sprintf("%.0f%%", 100*most)
			}
			for _, m := range s.Methods {
				timeout := ""
				if t := m.Timeout; t != nil {
					if timeout = (time.Duration(t.MS * float64(time.Millisecond))).Round(100 * time.Microsecond).String(); !t.Learned {
						timeout += "?"
					}
				}
				old := was[[2]string{strconv.Itoa(i) + s.Name, m.Name}]
				methods.add(s.Name, m.Name, rate(m.Calls, old.Calls), rate(m.Refused, old.Refused), rate(m.Retries, old.Retries), m.Breaker.State, budget, limit, held, timeout)
			}
			for _, n := range s.Nodes {
				nodes.add(s.Name, n.ID, n.Address, n.State, strconv.Itoa(n.InFlight), latency(n.Latency), latency(n.Estimate), strconv.FormatInt(n.OK, 10),
					strconv.FormatInt(n.Failed, 10), n.Why)
			}
		}
	}
	for _, t := range []*table{&methods, &nodes} {
		if len(t.rows) > 0 {
			fmt.Fprintln(w)
			t.print(w, p.colours())
		}
	}
}

// latency is a time that was measured, in three digits; nothing for none.
func latency(d time.Duration) string {
	if d == 0 {
		return ""
	}
	unit := time.Duration(1)
	for d >= 1000*unit {
		unit *= 10
	}
	return d.Round(unit).String()
}

// standing is the colour of a state: of the good one, and of all others.
func standing(state, good string) colour {
	if state == good {
		return green
	}
	return red
}
