package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hull-go/hull/internal/nearest"
	"github.com/hull-go/hull/registry"
)

// Driver is a kind of registry that the program is linked with.
type Driver struct {
	// Scheme is what its URLs begin with, without the colon.
	Scheme string
	// Form is how its URLs are written, Usage what it is in a few words.
	Form, Usage string
	// Parameters are the query parameters of its URLs.
	Parameters []registry.Parameter
	// Open returns a driver for a URL of that scheme.
	Open func(*url.URL) (registry.Driver, error)
}

// Options say what a run works with. The zero value reads and writes nothing and knows no registry.
type Options struct {
	// Env looks up a variable of the environment; nil = there is none.
	Env func(name string) (value string, ok bool)
	// Stdin, Stdout and Stderr are the standard streams; nil = empty, or thrown away.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Terminal says that Stdout is one that understands colours. They are left out if the environment has NO_COLOR.
	Terminal bool
	// Size is how many columns and lines the terminal has now; nil, or 0 = not known, and nothing is cut.
	Size func() (columns, lines int)
	// Drivers are the kinds of registry, the default first.
	Drivers []Driver
}

// program is one run.
type program struct {
	Options
	args []string
	ran  *cobra.Command // what the arguments named, once known
}

// Run runs the program with its arguments (without its name) until it is done or ctx ends, and returns its exit code: see
// ExitCodes. It may be called concurrently.
func Run(ctx context.Context, args []string, o Options) int {
	if o.Env == nil {
		o.Env = func(string) (string, bool) { return "", false }
	}
	if o.Stdin == nil {
		o.Stdin = strings.NewReader("")
	}
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	if o.Stderr == nil {
		o.Stderr = io.Discard
	}
	p := &program{Options: o, args: args}
	root := p.root()
	root.SetArgs(append([]string{}, args...)) // not nil: cobra would read os.Args
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	code := exitCode(ctx, err)
	p.report(err, code)
	return code
}

// root puts the commands together.
func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "hull",
		Short: "Look at services, call them, and watch them survive",
		Long: `hull looks at the services that discovery knows, calls them, and runs a demo that shows
how calls survive crashes, hangs and slowness.`,
		Args:              cobra.ArbitraryArgs,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return p.unknownCommand(cmd, args[0])
	}
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	root.SetGlobalNormalizationFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
	})
	root.SetFlagErrorFunc(p.flagError)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { p.help(cmd) })
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		p.ran = cmd
		if cmd.DisableFlagParsing {
			return nil
		}
		return p.resolve(cmd)
	}
	for _, cmd := range []*cobra.Command{p.demo(), p.demoRole(), p.list(), p.get(), p.watch(), p.call(), p.health(), p.register(),
		p.deregister(), p.migrate(), p.explain(), p.stats(), p.top(), p.policyCommand(), p.simulate(),
		p.version(), p.completion()} {
		root.AddCommand(cmd)
	}
	root.SetHelpCommand(p.helpCommand(root))
	p.define(root)
	return root
}

// unknownCommand says what may have been meant.
func (p *program) unknownCommand(root *cobra.Command, name string) error {
	p.ran = root
	return usagef("unknown command %q%s", name, didYouMean(nearest.Find(name, commandNames(root))))
}

// commandNames are the commands that are not hidden.
func commandNames(root *cobra.Command) []string {
	var names []string
	for _, c := range root.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	return names
}

// flagError says what is wrong with a flag, and what may have been meant.
func (p *program) flagError(cmd *cobra.Command, err error) error {
	p.ran = cmd
	switch e := err.(type) { //nolint:errorlint // as pflag returns them
	case *pflag.InvalidValueError:
		return wrongValue(e.GetValue(), "--"+e.GetFlag().Name, e.GetFlag(), e.Unwrap())
	case *pflag.NotExistError:
		if e.GetSpecifiedShortnames() != "" {
			break
		}
		name := strings.ReplaceAll(e.GetSpecifiedName(), "_", "-")
		if !cmd.HasParent() && slices.Contains(commandNames(cmd), name) {
			return usagef("unknown flag --%s; did you mean %s %s?", name, cmd.Name(), name)
		}
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if s := find(f.Name); s == nil || s.holdsFor(cmd.Name()) || !cmd.HasParent() {
				names = append(names, f.Name)
			}
		})
		near := nearest.Find(name, names)
		for i := range near {
			near[i] = "--" + near[i]
		}
		return usagef("unknown flag --%s%s", e.GetSpecifiedName(), didYouMean(near))
	}
	return usagef("%v", err)
}

// wrongValue is the error for a value that cannot be parsed. from is where it came from.
func wrongValue(v, from string, f *pflag.Flag, err error) error {
	if f.Value.Type() == "duration" {
		return usagef("wrong value %q of %s: a duration has a unit, such as 300ms or 5s", v, from)
	}
	if e, ok := errors.AsType[*strconv.NumError](err); ok {
		err = e.Err
	}
	return usagef("wrong value %q of %s: %v", v, from, err)
}

func didYouMean(near []string) string {
	if len(near) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(near, " or ") + "?"
}

// arguments returns a check that a command has between least and most of them. names are what they are called.
func (p *program) arguments(least int, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		p.ran = cmd
		if len(args) < least {
			return usagef("%s is missing: write %s", names[len(args)], cmd.UseLine())
		}
		if len(args) > len(names) {
			return usagef("one argument too many, %q: write %s", args[len(names)], cmd.UseLine())
		}
		return nil
	}
}

// note tells the user something that is not the answer.
func (p *program) note(format string, args ...any) {
	fmt.Fprintf(p.Stderr, "hull: "+format+"\n", args...)
}
