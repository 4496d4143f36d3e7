package cli

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// detailView is a service as "hull get" prints it.
type detailView struct {
	Service  string       `json:"service" doc:"the name in discovery"`
	Nodes    []nodeView   `json:"nodes" doc:"its nodes, by id"`
	Methods  []methodView `json:"methods" doc:"its methods, by name"`
	Stale    bool         `json:"stale" doc:"the registry does not answer; this is what was last known"`
	Doubtful int          `json:"doubtful" doc:"how many nodes are no longer listed, but that is not believed yet"`
	Why      string       `json:"why,omitempty" doc:"why it is stale or nodes are doubtful"`
	Since    time.Time    `json:"since,omitzero" doc:"since when"`
}

// get is "hull get".
func (p *program) get() *cobra.Command {
	return &cobra.Command{
		Use:               "get SERVICE",
		Short:             "Show a service: its nodes, their state, and its methods",
		Example:           "hull get greeter\nhull get greeter -l version=1.2 -o json",
		Args:              p.arguments(1, "SERVICE"),
		ValidArgsFunction: p.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			sel, err := selectorOf(cmd)
			if err != nil {
				return err
			}
			r, err := p.openRegistry(cmd, p.warnings())
			if err != nil {
				return err
			}
			defer r.Close()
			ctx, cancel := context.WithTimeout(cmd.Context(), durationOf(cmd, setTimeout))
			defer cancel()
			s, err := lookup(ctx, r, args[0])
			if err != nil {
				return err
			}
			nodes, err := chosen(s, sel)
			if err != nil {
				return err
			}
			v := detailView{Service: s.Name, Stale: s.Stale, Doubtful: s.Disbelieved, Why: s.Why, Since: s.Since, Methods: methodsOf(nodes)}
			if p.wantsJSON(cmd) {
				for _, n := range nodes {
					v.Nodes = append(v.Nodes, viewNode(n))
				}
				return p.printJSON(v)
			}
			t := table{head: []string{"NODE", "ADDRESS", "VERSION", "STATE", "PLACE", "AGE", "LABELS"},
				paint: func(column int, cell string) colour {
					if column != 3 {
						return none
					}
					return colourOf(cell)
				}}
			for _, n := range nodes {
				t.add(n.ID, n.Address, n.Version, stateOf(n), place(n), age(n, time.Now()), labelsText(n.Labels))
			}
			t.print(p.Stdout, p.colours())
			p.printMethods(&v)
			if v.Why != "" {
				fmt.Fprintf(p.Stdout, "\nSince %s: %s\n", v.Since.Format(time.TimeOnly), plain(v.Why))
			}
			return nil
		},
	}
}

func (p *program) printMethods(v *detailView) {
	fmt.Fprintln(p.Stdout)
	if len(v.Methods) == 0 {
		fmt.Fprintln(p.Stdout, "The nodes do not say which methods they serve.")
		return
	}
	t := table{head: []string{"METHOD", "DECLARED", "NODES"}}
	for _, m := range v.Methods {
		t.add(m.Name, m.declared(), strconv.Itoa(m.Nodes))
	}
	t.print(p.Stdout, p.colours())
}
