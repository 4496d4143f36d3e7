package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// A report is the outcome of a whole run.
type report struct {
	rounds, procs int
	rows          []row
}

// A row is one bench, measured once per round in each of the two ways.
type row struct {
	bench
	one, many way
}

// A way is one processor, or several. n is how often the bench runs in each measurement, 0 = not known yet.
type way struct {
	n       int
	samples []sample
}

// The ways.
func single(r *row) *way   { return &r.one }
func parallel(r *row) *way { return &r.many }

func newReport(cs []bench, rounds, procs int) *report {
	r := &report{rounds: rounds, procs: procs}
	for _, c := range cs {
		r.rows = append(r.rows, row{bench: c, one: way{samples: make([]sample, rounds)}, many: way{samples: make([]sample, rounds)}})
	}
	return r
}

// measure takes the samples of a round.
func (r *row) measure(round, procs int, d time.Duration) error {
	if err := r.one.measure(&r.bench, round, 1, d); err != nil {
		return fmt.Errorf("one processor: %w", err)
	}
	if err := r.many.measure(&r.bench, round, procs, d); err != nil {
		return fmt.Errorf("%d processors: %w", procs, err)
	}
	return nil
}

func (w *way) measure(c *bench, round, procs int, d time.Duration) (err error) {
	if w.n == 0 {
		if w.n, err = calibrate(c, procs, d); err != nil {
			return err
		}
	}
	w.samples[round], err = measure(c, procs, w.n)
	return err
}

// median returns the middle of what f takes from the rounds.
func (w *way) median(f func(sample) float64) float64 {
	var vs []float64
	for _, s := range w.samples {
		vs = append(vs, f(s))
	}
	return median(vs)
}

func median(vs []float64) float64 {
	slices.Sort(vs)
	n := len(vs)
	return (vs[(n-1)/2] + vs[n/2]) / 2
}

// ratio returns how many times as much as ours the rival takes of something, in the median of the rounds; net of what it takes
// to read the clock as often as it does, if net is true. A processor overlaps such readings with other work, so net is a little
// less than fair to us.
func (rep *report) ratio(ours, rival *row, pick func(*row) *way, of func(sample) float64, net bool) float64 {
	var vs []float64
	for i := range rep.rounds {
		t := of(pick(rival).samples[i])
		if net {
			t -= float64(rival.Nows)*of(rep.clock(clockNow, pick, i)) + float64(rival.Sinces)*of(rep.clock(clockSince, pick, i))
		}
		vs = append(vs, t/of(pick(ours).samples[i]))
	}
	return median(vs)
}

// clock returns what reading the clock took in a round.
func (rep *report) clock(name string, pick func(*row) *way, round int) sample {
	for i := range rep.rows {
		if r := &rep.rows[i]; r.Group == clockGroup && r.Name == name {
			return pick(r).samples[round]
		}
	}
	return sample{}
}

// print writes what everything costs, and then how Hull compares.
func (rep *report) print(out io.Writer) error {
	fmt.Fprintf(out, "%s, %s/%s, %d CPUs; medians of %d interleaved rounds\n", runtime.Version(), runtime.GOOS, runtime.GOARCH,
		runtime.NumCPU(), rep.rounds)
	fmt.Fprintf(out, "ns is time on the wall, cpu the processor time of all processors, both in ns per call; ×%d = on %d processors\n\n", rep.procs, rep.procs)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\t\tns\tcpu\tns ×%d\tcpu ×%d\tB\tallocs\n", rep.procs, rep.procs)
	last := ""
	for i := range rep.rows {
		r := &rep.rows[i]
		group := r.Group
		if group == last {
			group = ""
		}
		last = r.Group
		wall, cpu := func(s sample) float64 { return s.Wall }, func(s sample) float64 { return s.CPU }
		fmt.Fprintf(w, "%s\t%s\t%.1f\t%.1f\t%.1f\t%.1f\t%.0f\t%.0f\n", group, r.Name, r.one.median(wall), r.one.median(cpu),
			r.many.median(wall), r.many.median(cpu), r.one.median(func(s sample) float64 { return s.Bytes }),
			r.one.median(func(s sample) float64 { return s.Allocs }))
	}
	fmt.Fprintf(w, "\nHow many times as much the rival takes (medians of the rounds' ratios); net = without the rival's readings of the clock\n\n")
	fmt.Fprintf(w, "ours\trival\tcpu\tnet\tcpu ×%[1]d\tnet\tns ×%[1]d\tnet\n", rep.procs)
	for i := range rep.rows {
		for j := range rep.rows {
			ours, rival := &rep.rows[i], &rep.rows[j]
			if ours.Group != rival.Group || !ours.Hull || rival.Hull {
				continue
			}
			fmt.Fprintf(w, "%s\t%s", ours.title(), rival.Name)
			for _, col := range []struct {
				pick func(*row) *way
				of   func(sample) float64
			}{{single, sample.time}, {parallel, sample.time}, {parallel, sample.wall}} {
				fmt.Fprintf(w, "\t%.2f", rep.ratio(ours, rival, col.pick, col.of, false))
				if ours.Given {
					fmt.Fprintf(w, "\t%.2f", rep.ratio(ours, rival, col.pick, col.of, true))
				} else {
					fmt.Fprint(w, "\t-")
				}
			}
			fmt.Fprintln(w)
		}
	}
	return w.Flush()
}
