package cli

import (
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/hull-go/hull/demo"
)

// demo is "hull demo".
func (p *program) demo() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Run two services that survive, and buttons that break them",
		Long: `Run a backend of several nodes and a page that depends on it, protected by Hull and, beside
that, unprotected, under the same load. Buttons on the page crash, hang and slow down nodes.
With --check the whole story is played unattended: hull prints a report, and fails if a
promise was broken. Ctrl-C ends it and leaves nothing behind.`,
		Example: "hull demo\nhull demo --addr 127.0.0.1:9000 --nodes 5\nhull demo --check -o json",
		Args:    p.arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := demo.Options{Addr: textOf(cmd, setAddr), Nodes: wholeOf(cmd, setNodes), Rate: numberOf(cmd, setRate),
				Stdout: p.Stdout, Stderr: p.Stderr}
			if toggleOf(cmd, setVerbose) {
				o.Logger = slog.New(slog.NewTextHandler(p.Stderr, nil))
			}
			switch {
			case toggleOf(cmd, setCheck):
				return demo.Check(cmd.Context(), demo.CheckOptions{Options: o, JSON: p.wantsJSON(cmd)})
			case p.wantsJSON(cmd):
				return usagef("-o json goes with --check: the demo itself is a page")
			}
			return demo.Run(cmd.Context(), o)
		},
	}
}

// demoRole is a process of the demo; the demo starts it, people do not.
func (p *program) demoRole() *cobra.Command {
	return &cobra.Command{
		Use:                demo.Role + " ROLE",
		Short:              "Be one of the demo's processes",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			log := slog.New(slog.NewTextHandler(p.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
			return demo.RunRole(cmd.Context(), args, p.Stdin, p.Stdout, log)
		},
	}
}
