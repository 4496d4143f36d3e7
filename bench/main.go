// Bench compares remote calls of Hull with those of other Go frameworks: a
// unary echo of a small message over loopback, client and server in processes
// of their own, a closed loop of c workers.
//
//	go run . -rounds 5 -d 2s -c 1,100,1000
//	go run . -only grpc,hull -size 100,1024 -json > result.json
//	go run . -only grpc,hull -c 1 -shape bidi,up,down
//	go run . idle-cost -n 19000
//	go run . tables -svg ../docs/img
//	go run . count -by function
//
// tables measures, one after the other, all that docs/performance.md has a table of. count tells how many instructions a call takes, and where,
// which is the same however busy the machine is.
//
// Rounds are interleaved: each round measures every rival once at every level,
// so that a machine that gets slower or faster by the minute does so for all.
// Figures are medians of the rounds. Ratios are taken inside each round, and
// their median is what counts; a single one may swing by a quarter.
//
// Every call of every rival has a deadline of 5 s, except net/rpc, which has
// none, and the row that says so. Every rival encodes with protobuf's own Go
// code, except net/rpc (gob) and http-json. -list says how each is configured.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if args := os.Args[1:]; isRole(args) {
		// An interrupt goes to the whole group; the parent ends its children.
		err := runRole(context.Background(), rivals(), args, os.Stdin, os.Stdout)
		exit(err)
	}
	if args := os.Args[1:]; len(args) > 0 && args[0] == "idle-cost" {
		exe, err := os.Executable()
		if err == nil {
			err = runIdle(ctx, exe, args[1:], os.Stdout, os.Stderr)
		}
		exit(err)
	}
	if args := os.Args[1:]; len(args) > 0 && args[0] == "tables" {
		exit(runTables(ctx, rivals(), args[1:], os.Stdout, os.Stderr))
	}
	if args := os.Args[1:]; len(args) > 0 && args[0] == "count" {
		exit(runCount(ctx, rivals(), args[1:], os.Stdout, os.Stderr))
	}
	exit(run(ctx, rivals(), os.Args[1:], os.Stdout, os.Stderr))
}

// parse reads a command's flags, which are all that it is told.
func parse(fs *flag.FlagSet, args []string) error {
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; everything is said with flags", fs.Arg(0))
	}
	return nil
}

// exit ends the program: 0 for no error or a request for help, 1 otherwise.
func exit(err error) {
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run is the command: it measures as args say and writes the report to out.
func run(ctx context.Context, all []Rival, args []string, out, progress io.Writer) error {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(progress)
	rounds := fs.Int("rounds", 5, "how many `rounds`; their medians are reported")
	d := fs.Duration("d", 2*time.Second, "how long each measurement takes")
	warm := fs.Duration("warm", 500*time.Millisecond, "how long to warm up before each")
	cs := fs.String("c", "1,100,1000", "numbers of `workers`, each in flight with one call")
	sizes := fs.String("size", "100", "`bytes` of a message in protobuf, at least 64")
	shape := fs.String("shape", shapeUnary, "`shapes` of load: "+strings.Join(shapes(), ", "))
	only := fs.String("only", "", "`names` of rivals to measure; all if empty")
	base := fs.String("base", all[0].Info().Name, "`name` of the rival that ratios compare with")
	pin := fs.Bool("pin", true, "at c=1, keep client and server on different CPUs (Linux)")
	asJSON := fs.Bool("json", false, "write JSON, with every round, instead of tables")
	profiles := fs.String("profiles", "", "`directory` for CPU profiles of the last round, which slow everything down a little")
	svg := fs.String("svg", "", "`directory` for charts, one for each level")
	list := fs.Bool("list", false, "list the rivals and how they are configured, and stop")
	if err := parse(fs, args); err != nil {
		return err
	}
	picked, err := pick(all, *only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if *list {
		return listRivals(out, picked)
	}
	if _, err := pick(all, *base); err != nil {
		return fmt.Errorf("-base: %w", err)
	}
	if *rounds < 1 || *d <= 0 || *warm < 0 {
		return errors.New("-rounds and -d must be positive, -warm not negative")
	}
	levels, err := parseLevels(*shape, *cs, *sizes)
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}

	if *profiles != "" {
		if err := os.MkdirAll(*profiles, 0o755); err != nil {
			return fmt.Errorf("-profiles: %w", err)
		}
	}
	r := &runner{exe: exe, warm: *warm, d: *d, profiles: *profiles}
	if *pin {
		r.clientCPUs, r.serverCPUs = splitCPUs()
	}
	rep := newReport(picked, levels, *rounds, *d, *warm, *base)
	rep.Pinned = len(r.clientCPUs) > 0
	var failed []error
	for round := range *rounds {
		for _, lv := range levels {
			for _, rv := range picked {
				name := rv.Info().Name
				if rep.row(lv, name) == nil {
					continue
				}
				m, err := r.measure(ctx, name, lv)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err != nil {
					err = fmt.Errorf("round %d, %v, %s: %w", round+1, lv, name, err)
					fmt.Fprintln(progress, err)
					failed = append(failed, err)
					continue
				}
				fmt.Fprintf(progress, "round %d/%d  %-24v %-15s %8.0f req/s  p50 %6.0f µs  p99 %7.0f µs\n",
					round+1, *rounds, lv, name, m.PerSecond, m.P50, m.P99)
				rep.add(round, lv, name, m)
			}
		}
	}
	rep.finish()
	if *svg != "" {
		if err := rep.draw(*svg); err != nil {
			return fmt.Errorf("-svg: %w", err)
		}
	}
	if *asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		err = enc.Encode(rep)
	} else {
		err = rep.print(out)
	}
	if err != nil {
		return err
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d measurements failed and are left out; the first: %w", len(failed), failed[0])
	}
	return nil
}

// parseLevels combines every shape with every number of workers and every size.
func parseLevels(shapes, cs, sizes string) ([]level, error) {
	ss, err := parseShapes(shapes)
	if err != nil {
		return nil, fmt.Errorf("-shape: %w", err)
	}
	ns, err := parseInts(cs, 1, maxConns)
	if err != nil {
		return nil, fmt.Errorf("-c: %w", err)
	}
	bs, err := parseInts(sizes, 64, 1<<20)
	if err != nil {
		return nil, fmt.Errorf("-size: %w", err)
	}
	var levels []level
	for _, s := range ss {
		for _, b := range bs {
			for _, n := range ns {
				levels = append(levels, level{C: n, Size: b, Shape: s})
			}
		}
	}
	return levels, nil
}

func parseInts(list string, least, most int) ([]int, error) {
	var ns []int
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < least || n > most {
			return nil, fmt.Errorf("%q is not a number from %d to %d", s, least, most)
		}
		ns = append(ns, n)
	}
	return ns, nil
}

func listRivals(out io.Writer, rs []Rival) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, r := range rs {
		i := r.Info()
		fmt.Fprintf(w, "%s\t%s %s\t%s\n", i.Name, i.Module, version(i.Module), i.Setup)
	}
	return w.Flush()
}
