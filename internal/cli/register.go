package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hull-go/hull/registry"
)

// deregisterTimeout bounds leaving; what is not deregistered expires.
const deregisterTimeout = 2 * time.Second

// registeredView is a registration as "hull register" prints it.
type registeredView struct {
	Service string   `json:"service" doc:"the name in discovery"`
	Node    nodeView `json:"node" doc:"what is registered"`
}

// register is "hull register".
func (p *program) register() *cobra.Command {
	return &cobra.Command{
		Use:   "register SERVICE HOST:PORT",
		Short: "Keep a program registered that does not do so itself",
		Long: `Register an address as a node of a service, keep it registered, and deregister it when
interrupted: for programs that do not use Hull, and to try things out.`,
		Example: "hull register billing 127.0.0.1:8080 --protocol http --label team=money",
		Args:    p.arguments(2, "SERVICE", "HOST:PORT"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
			return p.completeService(cmd, args, part)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			n := registry.Node{Service: args[0], Address: args[1], ID: textOf(cmd, setID), Version: textOf(cmd, setVersion),
				Zone: textOf(cmd, setZone), Protocols: listOf(cmd, setProtocol)}
			for _, l := range listOf(cmd, setLabel) {
				k, v, ok := strings.Cut(l, "=")
				if !ok || k == "" {
					return usagef("the label %q is not KEY=VALUE", l)
				}
				if n.Labels == nil {
					n.Labels = map[string]string{}
				}
				n.Labels[k] = v
			}
			r, err := p.openRegistry(cmd, p.warnings())
			if err != nil {
				return err
			}
			defer r.Close()
			return p.keepRegistered(cmd, r, n)
		},
	}
}

// keepRegistered registers n until the command is interrupted.
func (p *program) keepRegistered(cmd *cobra.Command, r *registry.Registry, n registry.Node) error {
	g, err := r.Register(cmd.Context(), n)
	if err != nil {
		return usagef("%v", err) // it can never work
	}
	first, cancel := context.WithTimeout(cmd.Context(), durationOf(cmd, setTimeout))
	defer cancel()
	if err := g.Wait(first); err != nil {
		if cmd.Context().Err() != nil {
			return err
		}
		return &registryError{err}
	}
	if p.wantsJSON(cmd) {
		err = p.printJSON(registeredView{Service: n.Service, Node: viewNode(g.Node())})
	} else {
		_, err = fmt.Fprintf(p.Stdout, "registered %s at %s as node %s; Ctrl-C deregisters it\n", n.Service, n.Address, g.Node().ID)
	}
	if err == nil {
		<-cmd.Context().Done()
	}
	leave, cancelLeave := context.WithTimeout(context.WithoutCancel(cmd.Context()), deregisterTimeout)
	defer cancelLeave()
	if gone := g.Close(leave); gone != nil {
		return &registryError{gone}
	}
	return err
}
