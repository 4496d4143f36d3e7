package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hull-go/hull/registry"
)

// deregisteredView is what "hull deregister" prints.
type deregisteredView struct {
	Service string `json:"service" doc:"the name in discovery"`
	ID      string `json:"id" doc:"the node's own name"`
}

// deregister is "hull deregister".
func (p *program) deregister() *cobra.Command {
	return &cobra.Command{
		Use:   "deregister SERVICE NODE",
		Short: "Remove a node's entry that its process does not remove",
		Long: `Remove the entry of a node by its id: one that was written by hand, or that a process left
behind. A process that lives announces itself again at once; end that instead.`,
		Example: "hull deregister billing 7c1f0a93be52d604",
		Args:    p.arguments(2, "SERVICE", "NODE"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
			return p.completeService(cmd, args, part)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			for what, name := range map[string]string{"service": args[0], "node id": args[1]} {
				if err := registry.ValidName(what, name); err != nil {
					return usagef("%v", err)
				}
			}
			r, err := p.openRegistry(cmd, p.warnings())
			if err != nil {
				return err
			}
			defer r.Close()
			ctx, cancel := context.WithTimeout(cmd.Context(), durationOf(cmd, setTimeout))
			defer cancel()
			err = r.Deregister(ctx, args[0], args[1])
			switch {
			case errors.Is(err, registry.ErrUnknown):
				return &notFoundError{fmt.Sprintf("service %q has no node %q at %s", args[0], args[1], registryName(textOf(cmd, setRegistry)))}
			case errors.Is(err, registry.ErrReadOnly):
				return usagef("%v", err)
			case err != nil:
				return &registryError{err}
			}
			if p.wantsJSON(cmd) {
				return p.printJSON(deregisteredView{Service: args[0], ID: args[1]})
			}
			fmt.Fprintf(p.Stdout, "deregistered node %s of %s\n", args[1], args[0])
			return nil
		},
	}
}
