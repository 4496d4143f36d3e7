package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// Under valgrind a program is a hundred times as slow. If its clock were not, whatever is done so many times a second would be done a hundred times as often
// for each call, and handlers would seem to take long. So the clock of the programs that are counted is slowed by slowing the runtime's.
const slowShift = 7 // 128 times

// countPatience is how long a count may take: it depends on the machine.
const countPatience = 10 * time.Minute

// The caches that are simulated: those of one processor of a common server, so that counts on different machines can be compared.
var cachegrind = []string{"valgrind", "-q", "--tool=cachegrind", "--cache-sim=yes", "--I1=32768,8,64", "--D1=49152,12,64", "--LL=2097152,16,64"}

// events are what cachegrind counts with these flags, in its order: instructions, reads and writes of data, and what of each was missing in the caches.
const events = "Ir I1mr ILmr Dr D1mr DLmr Dw D1mw DLmw"

// costs are counted events.
type costs [9]float64

func (c costs) instructions() float64 { return c[0] }
func (c costs) code() float64         { return c[1] }
func (c costs) data() float64         { return c[4] + c[7] }
func (c costs) second() float64       { return c[2] + c[5] + c[8] }

// runCount tells what a call costs each side, in instructions: a program runs twice, with fewer and with more calls, and the difference is divided by theirs.
func runCount(ctx context.Context, all []Rival, args []string, out, progress io.Writer) error {
	fs := flag.NewFlagSet("bench count", flag.ContinueOnError)
	fs.SetOutput(progress)
	only := fs.String("only", "hull", "`name` of the rival")
	c := fs.Int("c", 100, "how many `workers`, each in flight with one call")
	size := fs.Int("size", 100, "`bytes` of a message in protobuf, at least 64")
	shape := fs.String("shape", shapeUnary, "shape of the load: "+strings.Join(shapes(), ", "))
	side := fs.String("side", "both", "which `side` to count: client, server or both")
	by := fs.String("by", "package", "what to list: package or function")
	most := fs.Int("n", 25, "how many `lines` to list")
	d := fs.Duration("d", 150*time.Millisecond, "how long the longer run is, on its own clock, which is 128 times slower; the shorter has a tenth")
	if err := parse(fs, args); err != nil {
		return err
	}
	picked, err := pick(all, *only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	levels, err := parseLevels(*shape, strconv.Itoa(*c), strconv.Itoa(*size))
	if err != nil {
		return err
	}
	roles := map[string]string{"client": roleLoad, "server": roleServe}
	sides := []string{*side}
	if *side == "both" {
		sides = []string{"client", "server"}
	}
	switch {
	case len(picked) != 1 || len(levels) != 1:
		return errors.New("count one rival and one shape at a time")
	case roles[sides[0]] == "":
		return fmt.Errorf("-side: there is no %q, only client, server and both", *side)
	case *by != "package" && *by != "function":
		return fmt.Errorf("-by: %q is neither package nor function", *by)
	case *most < 1 || *d <= 0:
		return errors.New("-n and -d must be positive")
	}
	if _, err := exec.LookPath(cachegrind[0]); err != nil {
		return fmt.Errorf("instructions are counted by valgrind, which is not here (Debian: apt-get install valgrind): %w", err)
	}
	dir, err := os.MkdirTemp("", "bench-count")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	exe, err := buildSlow(ctx, dir)
	if err != nil {
		return err
	}
	for _, s := range sides {
		k := counter{exe: exe, dir: dir, rival: picked[0].Info().Name, level: levels[0], role: roles[s]}
		perCall, calls, err := k.count(ctx, *d)
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		if *by == "package" {
			perCall = gather(perCall, packageOf)
		}
		if err := writeCosts(out, fmt.Sprintf("%s, %v, the %s, per call of %d", k.rival, k.level, s, calls), *by, perCall, *most); err != nil {
			return err
		}
	}
	return nil
}

// buildSlow builds this program with a slowed clock.
func buildSlow(ctx context.Context, dir string) (exe string, err error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	patched, err := slowClock(filepath.Join(strings.TrimSpace(string(root)), "src", "runtime"))
	if err != nil {
		return "", err
	}
	var overlay struct{ Replace map[string]string }
	overlay.Replace = map[string]string{}
	for file, text := range patched {
		own := filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(own, []byte(text), 0o600); err != nil {
			return "", err
		}
		overlay.Replace[file] = own
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, text, 0o600); err != nil {
		return "", err
	}
	exe = filepath.Join(dir, "bench")
	build := exec.CommandContext(ctx, "go", "build", "-overlay", list, "-o", exe, "github.com/hull-go/hull/bench")
	if said, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building bench with a slowed clock: %w\n%s", err, said)
	}
	return exe, nil
}

// slowClock returns the files of package runtime, which is in dir, that read the clock, with it slowed.
func slowClock(dir string) (map[string]string, error) {
	edits := map[string][2]string{
		"time_nofake.go": {"return nanotime1()", fmt.Sprintf("return nanotime1() >> %d", slowShift)},
	}
	if runtime.GOOS == "linux" && runtime.GOARCH == "amd64" { // time.Now is written in assembly there
		edits["time_linux_amd64.s"] = [2]string{"ADDQ\tDX, CX\n\tRET", fmt.Sprintf("ADDQ\tDX, CX\n\tSHRQ\t$%d, CX\n\tRET", slowShift)}
	}
	files := map[string]string{}
	for name, e := range edits {
		file := filepath.Join(dir, name)
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("the clock of this Go: %w", err)
		}
		if n := strings.Count(string(text), e[0]); n != 1 {
			return nil, fmt.Errorf("%s of %s has %q %d times, not once: slowClock has to learn how this Go reads the clock", file, runtime.Version(), e[0], n)
		}
		files[file] = strings.Replace(string(text), e[0], e[1], 1)
	}
	return files, nil
}

// A counter counts one side of one rival at one level.
type counter struct {
	exe, dir, rival string
	level           level
	role            string // of the side that is counted; the other runs as it is
}

// count returns what a call costs in each function, and how many calls that is the mean of.
func (k *counter) count(ctx context.Context, d time.Duration) (perCall map[string]costs, calls int64, err error) {
	type run struct {
		calls int64
		total map[string]costs
		err   error
	}
	var runs [2]run
	var wg sync.WaitGroup
	for i, d := range []time.Duration{d / 10, d} {
		wg.Go(func() {
			r := &runs[i]
			r.calls, r.total, r.err = k.run(ctx, d, filepath.Join(k.dir, fmt.Sprintf("%s.%d", k.role, i)))
		})
	}
	wg.Wait()
	if err := errors.Join(runs[0].err, runs[1].err); err != nil {
		return nil, 0, err
	}
	calls = runs[1].calls - runs[0].calls
	if calls < 1 {
		return nil, 0, fmt.Errorf("%d calls in the shorter run, %d in the longer one: a larger -d is needed", runs[0].calls, runs[1].calls)
	}
	perCall = runs[1].total
	for fn, c := range perCall {
		less := runs[0].total[fn]
		for i := range c {
			c[i] = (c[i] - less[i]) / float64(calls)
		}
		perCall[fn] = c
	}
	return perCall, calls, nil
}

// run measures once, with what valgrind counts in file.
func (k *counter) run(ctx context.Context, d time.Duration, file string) (calls int64, total map[string]costs, err error) {
	r := &runner{exe: k.exe, d: d, under: map[string][]string{k.role: append(slices.Clone(cachegrind), "--cachegrind-out-file="+file)}}
	m, err := r.measure(ctx, k.rival, k.level)
	if err != nil {
		return 0, nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	total, err = readCachegrind(f)
	return int64(m.Requests), total, err
}

// readCachegrind adds up what cachegrind has written, by function.
func readCachegrind(in io.Reader) (map[string]costs, error) {
	total := map[string]costs{}
	fn, known := "", false
	sc := bufio.NewScanner(in)
	sc.Buffer(nil, 1<<20)
	for n := 1; sc.Scan(); n++ {
		line := sc.Text()
		if name, ok := strings.CutPrefix(line, "fn="); ok {
			fn = name
			continue
		}
		if list, ok := strings.CutPrefix(line, "events: "); ok {
			if strings.TrimSpace(list) != events {
				return nil, fmt.Errorf("cachegrind's line %d: events %q, not %q", n, list, events)
			}
			known = true
			continue
		}
		if line == "" || line[0] < '0' || line[0] > '9' {
			continue // files, and what the whole run was
		}
		fields := strings.Fields(line)
		c := total[fn]
		if !known || len(fields) != len(c)+1 {
			return nil, fmt.Errorf("cachegrind's line %d: %d figures, not a line number and %d events", n, len(fields), len(c))
		}
		for i, f := range fields[1:] {
			v, err := strconv.ParseUint(f, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("cachegrind's line %d: %w", n, err)
			}
			c[i] += float64(v)
		}
		total[fn] = c
	}
	return total, sc.Err()
}

// gather adds up the costs of functions that belong to the same.
func gather(costsOf map[string]costs, same func(fn string) string) map[string]costs {
	sums := map[string]costs{}
	for fn, c := range costsOf {
		s := sums[same(fn)]
		for i := range c {
			s[i] += c[i]
		}
		sums[same(fn)] = s
	}
	return sums
}

// packageOf returns the package of a function as it is called in the symbol table.
func packageOf(fn string) string {
	path, _, _ := strings.Cut(fn, "[") // type arguments have paths of their own
	slash := strings.LastIndexByte(path, '/') + 1
	if dot := strings.IndexByte(path[slash:], '.'); dot > 0 {
		return path[:slash+dot]
	}
	return "(assembly and libraries)"
}

// writeCosts writes the total and the most costly lines.
func writeCosts(out io.Writer, title, by string, perCall map[string]costs, most int) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%s\n\n", title)
	fmt.Fprint(w, "instructions\tcode misses\tdata misses\tL2 misses\t\t\n")
	line := func(c costs, name string) {
		fmt.Fprintf(w, "%.0f\t%.1f\t%.1f\t%.2f\t\t  %s\n", c.instructions(), c.code(), c.data(), c.second(), name)
	}
	line(gather(perCall, func(string) string { return "" })[""], "all")
	names := slices.SortedFunc(maps.Keys(perCall), func(a, b string) int {
		return cmp.Or(cmp.Compare(perCall[b].instructions(), perCall[a].instructions()), cmp.Compare(a, b))
	})
	for _, name := range names[:min(most, len(names))] {
		line(perCall[name], name)
	}
	if more := len(names) - most; more > 0 {
		fmt.Fprintf(w, "\t\t\t\t\t  and %d more: -n, -by %s\n", more, by)
	}
	fmt.Fprintln(w)
	return w.Flush()
}
