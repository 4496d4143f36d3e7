package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// A table is one run of those that make up docs/performance.md.
type table struct {
	title  string
	args   string
	charts bool // of its levels; another table's would have the same names otherwise
}

// tables are in the order of the page.
var tables = []table{
	{"Calls, beside all rivals", "-rounds 5 -d 1s -c 1,100,1000", true},
	{"One call at a time, where the kernel puts them", "-rounds 10 -d 500ms -c 1 -pin=false -only grpc,raw-tcp,hull", false},
	{"Larger calls", "-rounds 5 -d 800ms -c 100,1000 -size 1024 -only grpc,grpc-vt,hull,hull-vt", true},
	{"Messages there and back, of each kind of message", "-rounds 5 -d 500ms -c 1,10,100 -shape bidi -only grpc,hull,grpc-vt,hull-vt,grpc-raw,hull-raw", true},
	{"... with vtprotobuf's methods on both sides", "-rounds 5 -d 500ms -c 1,10 -shape bidi -only grpc-vt,hull-vt -base grpc-vt", false},
	{"... that are bytes on both sides", "-rounds 5 -d 500ms -c 1,10 -shape bidi -only grpc-raw,hull-raw -base grpc-raw", false},
	{"Messages in one direction", "-rounds 3 -d 500ms -c 1,10 -shape up,down -only grpc,hull,grpc-vt,hull-vt", true},
	{"One message at a time", "-rounds 5 -d 500ms -c 1 -shape pingpong -only grpc,hull", true},
	{"Beside large messages", "-rounds 5 -d 800ms -c 1 -shape beside-calls,beside-streams,pingpong-beside -only grpc,hull", true},
}

// runTables measures all tables, and then what idle connections cost. What is asked for with flags holds for each of the tables.
func runTables(ctx context.Context, all []Rival, args []string, out, progress io.Writer) error {
	fs := flag.NewFlagSet("bench tables", flag.ContinueOnError)
	fs.SetOutput(progress)
	rounds := fs.Int("rounds", 0, "how many `rounds` each table has; 0 = its own number")
	d := fs.Duration("d", 0, "how long each measurement takes; 0 = as long as is usual for its table")
	idle := fs.Int("idle", 19000, "how many idle `connections`; 0 = leave them out")
	svg := fs.String("svg", "", "`directory` for charts")
	if err := parse(fs, args); err != nil {
		return err
	}
	var failed []error
	for _, t := range tables {
		if err := ctx.Err(); err != nil {
			return err
		}
		more := []string{}
		if *rounds != 0 {
			more = append(more, "-rounds", fmt.Sprint(*rounds))
		}
		if *d != 0 {
			more = append(more, "-d", d.String())
		}
		if *svg != "" && t.charts {
			more = append(more, "-svg", *svg)
		}
		fmt.Fprintf(out, "## %s\n\ngo run . %s\n", t.title, t.args)
		if err := run(ctx, all, slices.Concat(strings.Fields(t.args), more), out, progress); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", t.title, err))
		}
	}
	if *idle > 0 && ctx.Err() == nil {
		fmt.Fprint(out, "## Idle connections\n\n")
		exe, err := os.Executable()
		if err == nil {
			err = runIdle(ctx, exe, []string{"-n", fmt.Sprint(*idle), "-settle", (5 * time.Second).String()}, out, progress)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("idle connections: %w", err))
		}
	}
	return errors.Join(failed...)
}
