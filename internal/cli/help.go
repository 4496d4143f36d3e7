package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hull-go/hull/internal/nearest"
)

// help prints how a command is used. cobra's own would show every flag that stands before the command, also those which
// mean nothing to it, and no variables of the environment.
func (p *program) help(cmd *cobra.Command) {
	w := p.Stdout
	about := cmd.Long
	if about == "" {
		about = cmd.Short + "."
	}
	fmt.Fprintf(w, "%s\n\nUsage:\n  %s\n", about, useLine(cmd))
	if cmd.Example != "" {
		fmt.Fprintf(w, "\nExamples:\n%s\n", indent(cmd.Example))
	}
	if cmd.HasAvailableSubCommands() && !cmd.HasParent() {
		fmt.Fprint(w, "\nCommands:\n")
		var rows [][2]string
		for _, c := range cmd.Commands() {
			if !c.Hidden {
				rows = append(rows, [2]string{c.Name(), c.Short})
			}
		}
		columns(w, rows)
	}
	var rows [][2]string
	for _, s := range settings() {
		if s.holdsFor(cmd.Name()) || !cmd.HasParent() && s.everywhere {
			rows = append(rows, [2]string{s.flagText(), s.helpText()})
		}
	}
	rows = append(rows, [2]string{"-h, --help", "show this help"})
	fmt.Fprint(w, "\nFlags:\n")
	columns(w, rows)
	if !cmd.HasParent() {
		fmt.Fprint(w, "\nRegistries:\n")
		rows = nil
		for _, d := range p.Drivers {
			rows = append(rows, [2]string{d.Form, d.Usage})
		}
		columns(w, rows)
		fmt.Fprint(w, "\nA flag beats the environment, which beats the default. The reference is docs/cli.md;\nhull COMMAND --help shows the flags of one command.\n")
	}
}

// useLine is how the command is written.
func useLine(cmd *cobra.Command) string {
	if !cmd.HasParent() {
		return cmd.Name() + " COMMAND [flags]"
	}
	return cmd.CommandPath() + strings.TrimPrefix(cmd.Use, cmd.Name()) + " [flags]"
}

// flagText is the flag as one writes it.
func (s *setting) flagText() string {
	text := "    --" + s.name
	if s.short != "" {
		text = "-" + s.short + ", --" + s.name
	}
	if s.kind != toggle {
		text += " " + s.value
	}
	return text
}

// helpText says what the setting does, its default and its name in the environment.
func (s *setting) helpText() string {
	text := s.usage + " ("
	if d := s.defaultText(); d != "" {
		text += "default " + d + "; "
	}
	return text + "env " + s.env() + ")"
}

// columns prints pairs side by side, the second broken into lines.
func columns(w io.Writer, rows [][2]string) {
	const most = 100
	width := 0
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	for _, r := range rows {
		first := r[0]
		for _, line := range wrap(r[1], most-width-4) {
			fmt.Fprintf(w, "  %-*s  %s\n", width, first, line)
			first = ""
		}
	}
}

// wrap breaks text at blanks into lines of at most n bytes, as far as words allow.
func wrap(text string, n int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > n {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

func indent(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }

// helpCommand is "hull help [COMMAND]".
func (p *program) helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show how a command is used",
		Args:  p.arguments(0, "COMMAND"),
		ValidArgsFunction: func(_ *cobra.Command, _ []string, part string) ([]string, cobra.ShellCompDirective) {
			return beginning(commandNames(root), part), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return root.Help()
			}
			for _, c := range root.Commands() {
				if c.Name() == args[0] && !c.Hidden {
					return c.Help()
				}
			}
			return usagef("unknown command %q%s", args[0], didYouMean(nearest.Find(args[0], commandNames(root))))
		},
	}
}
