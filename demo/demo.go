package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"time"

	"github.com/hull-go/hull/demo/backend"
	"github.com/hull-go/hull/demo/check"
	"github.com/hull-go/hull/demo/system"
	"github.com/hull-go/hull/demo/ui"
)

// Role is the argument with which the demo starts the running program again for each of its processes, unless
// Options.Command says otherwise. The program passes what follows it to RunRole.
const Role = "demo-role"

// Defaults of Options and CheckOptions, for help texts.
const (
	DefaultAddr      = system.DefaultAddr
	DefaultNodes     = system.DefaultNodes
	DefaultRate      = system.DefaultRate
	DefaultCheckRate = check.DefaultRate
)

// ErrBroken is what Check returns if a promise was not kept; the report says which.
var ErrBroken = errors.New("a promise was broken")

// Options configure Run. The zero value is the demo as newcomers see it.
type Options struct {
	// Addr is where the page is served, host:port; empty = DefaultAddr, or the next free port. A port that is given and in
	// use is an error.
	Addr string
	// Nodes is how many backends there are; 0 = DefaultNodes, at most 16.
	Nodes int
	// Rate is the load of each client in calls per second; 0 = DefaultRate, negative = none.
	Rate float64
	// Command is how a process of the demo is started, its role is added; empty = this program with the argument Role.
	Command []string
	// TempDir is where the demo keeps its data while it runs; empty = the system's temporary directory.
	TempDir string
	// Stdout gets what people read, Stderr what the processes complain about; nil = nothing is written.
	Stdout, Stderr io.Writer
	// Logger is told what happens; nil = nobody is.
	Logger *slog.Logger
}

// Run runs the demo until ctx ends, which is not an error. When it returns nothing is left of the demo.
func Run(ctx context.Context, o Options) error {
	out := o.Stdout
	if out == nil {
		out = io.Discard
	}
	so, err := o.system()
	if err != nil {
		return err
	}
	s, err := system.Start(ctx, so)
	if err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // ended before it had begun: that is what was asked for
		}
		return err
	}
	if o.Addr == "" && s.URL != "http://"+DefaultAddr {
		fmt.Fprintf(out, "Another program uses %s, so the page is elsewhere today.\n", DefaultAddr)
	}
	if u, err := url.Parse(s.URL); err == nil && exposed(u.Hostname()) {
		fmt.Fprintf(out, "Warning: the page is served on %s: everybody who can reach this machine can break the demo.\n", u.Host)
	}
	fmt.Fprintf(out, `
  The demo runs: open  %s

  Two clients call three backends at the same rate, one through Hull and one without.
  Press buttons on the page to crash, hang or slow down a backend, or do the same by hand:

    curl -d '{"node":"backend-1","fault":"hang"}' %s/api/faults
    curl -d '{"node":"all","fault":"heal"}' %s/api/faults

  Ctrl-C ends it and leaves nothing behind.
`, s.URL, s.URL, s.URL)
	err = s.Wait(ctx)
	return errors.Join(err, s.Close())
}

func (o Options) system() (system.Options, error) {
	command := o.Command
	if len(command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return system.Options{}, fmt.Errorf("demo: finding this program: %w", err)
		}
		command = []string{self, Role}
	}
	return system.Options{Command: command, Addr: o.Addr, Nodes: o.Nodes, Rate: o.Rate, TempDir: o.TempDir, Stderr: o.Stderr, Logger: o.Logger}, nil
}

// exposed reports whether a host can be reached from other machines.
func exposed(host string) bool {
	return host != "localhost" && host != "127.0.0.1" && host != "::1"
}

// CheckOptions configure Check.
type CheckOptions struct {
	// Options are as for Run; empty Addr = any free port, Rate 0 = DefaultCheckRate. Stdout gets the report.
	Options
	// JSON prints the report as JSON, instead of a table with the story as it happens.
	JSON bool
}

// Check plays the whole story unattended, prints a report, and returns an error that wraps ErrBroken if a promise was not
// kept. It takes about 100 s. When it returns nothing is left of the demo.
func Check(ctx context.Context, o CheckOptions) error {
	out := o.Stdout
	if out == nil {
		out = io.Discard
	}
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.Rate == 0 {
		o.Rate = check.DefaultRate
	}
	so, err := o.system()
	if err != nil {
		return err
	}
	so.Posts, so.KeepAll = true, true
	began := time.Now()
	s, err := system.Start(ctx, so)
	if err != nil {
		return err
	}
	said := out
	if o.JSON {
		said = io.Discard
	}
	report, err := check.Run(ctx, s, said)
	if err = errors.Join(err, s.Close()); err != nil {
		return fmt.Errorf("demo: the check could not be finished: %w", err)
	}
	report.Seconds = time.Since(began).Seconds()
	if o.JSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(report); err != nil {
			return err
		}
	} else {
		report.Print(out)
	}
	if n := len(report.Broken()); n > 0 {
		return fmt.Errorf("%w: %d of %d, see the report", ErrBroken, n, report.Count())
	}
	return nil
}

// RunRole is the life of a process of the demo. args are the role and, for a backend, its name; in and out are the
// process's standard input and output, over which the demo talks with it. It returns when in ends.
func RunRole(ctx context.Context, args []string, in io.Reader, out io.Writer, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if len(args) == 0 {
		return fmt.Errorf("demo: no role is given: this is for the demo's own use, run hull demo")
	}
	switch args[0] {
	case system.RoleBackend:
		return backend.Run(ctx, in, out, log)
	case system.RoleUI:
		return ui.Run(ctx, in, out, log)
	}
	return fmt.Errorf("demo: unknown role %q: this is for the demo's own use, run hull demo", args[0])
}
