package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hull-go/hull/internal/nearest"
	"github.com/hull-go/hull/registry"
)

// completionTime is how long somebody who pressed the tab key waits.
const completionTime = time.Second

// completion is "hull completion".
func (p *program) completion() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that completes commands, services and methods",
		Long: `Print a script for a shell that completes commands, flags, and the names of services and methods
as discovery knows them.`,
		Example: `source <(hull completion bash)                  # in ~/.bashrc
hull completion zsh > "${fpath[1]}/_hull"       # once
hull completion fish > ~/.config/fish/completions/hull.fish`,
		Args:      p.arguments(1, "SHELL"),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(p.Stdout, true)
			case "zsh":
				return root.GenZshCompletion(p.Stdout)
			case "fish":
				return root.GenFishCompletion(p.Stdout, true)
			}
			return usagef("no completion for %q: there is one for bash, zsh and fish%s", args[0], didYouMean(nearest.Find(args[0], shells)))
		},
	}
}

// completeRegistry completes --registry.
func (p *program) completeRegistry(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var urls []string
	for _, d := range p.Drivers {
		urls = append(urls, d.Scheme+"://\t"+d.Usage)
	}
	return urls, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// discover gives f the registry for a completion. Whoever completes wants names or nothing, never an error.
func (p *program) discover(cmd *cobra.Command, f func(context.Context, *registry.Registry)) {
	if p.resolve(cmd) != nil {
		return
	}
	r, err := p.openRegistry(cmd, nil)
	if err != nil {
		return
	}
	defer r.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), min(completionTime, durationOf(cmd, setTimeout)))
	defer cancel()
	f(ctx, r)
}

// completeService completes the first argument.
func (p *program) completeService(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
	var found []string
	if len(args) == 0 {
		p.discover(cmd, func(ctx context.Context, r *registry.Registry) {
			all, _ := r.List(ctx) // nothing to complete, then
			found = beginning(all, part)
		})
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// completeCall completes the arguments of "hull call".
func (p *program) completeCall(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
	switch {
	case len(args) == 0:
		return p.completeService(cmd, args, part)
	case len(args) == 2 && strings.HasPrefix(part, "@"):
		return nil, cobra.ShellCompDirectiveDefault
	case len(args) != 1:
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var found []string
	p.discover(cmd, func(ctx context.Context, r *registry.Registry) {
		s, err := r.Lookup(ctx, args[0])
		if err != nil {
			return
		}
		var full, short []string
		for _, m := range methodsOf(s.Nodes) {
			note := ""
			if d := m.declared(); d != "" {
				note = "\t" + d
			}
			full = append(full, m.Name+note)
			short = append(short, m.Name[strings.LastIndexByte(m.Name, '/')+1:]+note)
		}
		if found = beginning(full, part); len(found) == 0 {
			found = slices.Compact(slices.Sorted(slices.Values(beginning(short, part))))
		}
	})
	return found, cobra.ShellCompDirectiveNoFileComp
}

// beginning returns what begins with part.
func beginning(list []string, part string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return !strings.HasPrefix(s, part) })
}
