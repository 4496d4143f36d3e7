// Policies compares what Hull's policies cost with what those of other Go
// libraries cost, where it matters most: on the success path, around a function
// that does nothing.
//
//	go run ./policies -rounds 5
//	go run ./policies -only breaker,chain -d 500ms
//	go test ./policies -run=NONE -bench=/breaker/ -cpu 1,2
//
// Rounds are interleaved: each measures every case once on one processor and
// once on several, so that a machine that gets slower or faster by the minute
// does so for all. Figures are medians of the rounds; ratios are taken inside
// each round, and their median is what counts.
//
// Ratios compare processor time, which other programs on the machine disturb
// less than time on the wall. On several processors those of time on the wall
// stand beside them: who waits for a lock uses no processor. Hull's gates are given the time, as simulators and
// pipelines give it to them; for those the second ratio is net of the clock
// readings that the rival makes by itself. Rows "in Do" are what a caller of
// package policy pays altogether, clock included.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "policies:", err)
		os.Exit(1)
	}
}

// run is the command: it measures as args say and writes the tables to out.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	fs := flag.NewFlagSet("policies", flag.ContinueOnError)
	fs.SetOutput(progress)
	rounds := fs.Int("rounds", 5, "how many `rounds`; their medians are reported")
	d := fs.Duration("d", 200*time.Millisecond, "how long each measurement takes, about")
	procs := fs.Int("procs", runtime.GOMAXPROCS(0), "how many `processors` the parallel measurements use")
	only := fs.String("only", "", "`groups` to measure, separated by commas; all if empty")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; everything is said with flags", fs.Arg(0))
	}
	if *rounds < 1 || *d <= 0 || *procs < 1 {
		return errors.New("-rounds, -d and -procs must be positive")
	}
	picked, err := pick(cases(), *only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	r := newReport(picked, *rounds, *procs)
	for round := range *rounds {
		for i := range r.rows {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := r.rows[i].measure(round, *procs, *d); err != nil {
				return fmt.Errorf("%s: %w", r.rows[i].title(), err)
			}
		}
		fmt.Fprintf(progress, "round %d of %d\n", round+1, *rounds)
	}
	return r.print(out)
}
