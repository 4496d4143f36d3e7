package cli

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hull-go/hull/internal/nearest"
	"github.com/hull-go/hull/sim"
)

// defaultSeeds is over how many seeds "hull simulate" plays.
const defaultSeeds = 20

// simulate is "hull simulate".
func (p *program) simulate() *cobra.Command {
	return &cobra.Command{
		Use:   "simulate [SCENARIO...]",
		Short: "Play outages in virtual time, with and without protection",
		Long: `Play named outages in virtual time, with each protection by itself and with Hull, and show what
becomes of the calls. Who decides is Hull's own code. Without a name it lists the scenarios;
all stands for all of them.`,
		Example: "hull simulate\nhull simulate retry-storm half-dead\nhull simulate titanic --seeds 100",
		Args:    cobra.ArbitraryArgs,
		ValidArgsFunction: func(_ *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
			names := slices.DeleteFunc(scenarioNames(sim.Scenarios()), func(name string) bool { return slices.Contains(given, name) })
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			all := sim.Scenarios()
			if len(args) == 0 {
				t := table{head: []string{"NO", "SCENARIO", "WHAT HAPPENS"}}
				for _, sc := range all {
					first, _, _ := strings.Cut(sc.Story, ". ")
					t.add(strconv.Itoa(sc.Number), sc.Name, strings.TrimSuffix(first, ".")+".")
				}
				t.print(p.Stdout, p.colours())
				return nil
			}
			seeds := wholeOf(cmd, setSeeds)
			if seeds < 1 || seeds > 10_000 {
				return usagef("--%s is %d: want 1 to 10000", setSeeds, seeds)
			}
			chosen, err := chooseScenarios(all, args)
			if err != nil {
				return err
			}
			for i := range chosen {
				results, err := chosen[i].Measure(cmd.Context(), seeds, runtime.GOMAXPROCS(0))
				if err != nil {
					return err
				}
				if i > 0 {
					fmt.Fprintln(p.Stdout)
				}
				if err := chosen[i].WriteText(p.Stdout, results); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// chooseScenarios finds the scenarios of the names, in their order.
func chooseScenarios(all []sim.Scenario, names []string) ([]sim.Scenario, error) {
	var out []sim.Scenario
	for _, name := range names {
		if name == "all" {
			out = append(out, all...)
			continue
		}
		i := slices.IndexFunc(all, func(sc sim.Scenario) bool { return sc.Name == name || strconv.Itoa(sc.Number) == name })
		if i < 0 {
			return nil, usagef("there is no scenario %q%s", name, didYouMean(nearest.Find(name, scenarioNames(all))))
		}
		out = append(out, all[i])
	}
	return out, nil
}

func scenarioNames(all []sim.Scenario) []string {
	var names []string
	for _, sc := range all {
		names = append(names, sc.Name)
	}
	return names
}
