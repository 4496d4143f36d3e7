package main

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// A report is the outcome of a whole run, written as JSON or as tables.
type report struct {
	GOOS   string  `json:"goos"`
	GOARCH string  `json:"goarch"`
	Go     string  `json:"go"`
	CPUs   int     `json:"cpus"`
	Rounds int     `json:"rounds"`
	D      float64 `json:"seconds"`
	Warm   float64 `json:"warm_seconds"`
	// Pinned says that at c=1 client and server ran on different CPUs.
	Pinned bool `json:"pinned"`
	// Base is the rival that ratios compare with.
	Base   string        `json:"base"`
	Rivals []rivalReport `json:"rivals"`
	Rows   []*row        `json:"rows"`
}

type rivalReport struct {
	Info
	Version string `json:"version"`
}

// A row is one rival at one level.
type row struct {
	level
	Rival  string   `json:"rival"`
	Median *measure `json:"median"` // nil if no round succeeded
	Ratio  *ratio   `json:"ratio"`  // nil if no round has both this rival and the base
	// Rounds has nil for a round that failed.
	Rounds []*measure `json:"rounds"`
}

// A ratio is the median, over the rounds, of this rival divided by the base.
type ratio struct {
	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50"`
	P99       float64 `json:"p99"`
	CPU       float64 `json:"cpu"` // both sides; 0 where CPU is not measured
}

func newReport(rs []Rival, levels []level, rounds int, d, warm time.Duration, base string) *report {
	rep := &report{
		GOOS: runtime.GOOS, GOARCH: runtime.GOARCH, Go: runtime.Version(), CPUs: runtime.NumCPU(),
		Rounds: rounds, D: d.Seconds(), Warm: warm.Seconds(), Base: base,
	}
	for _, r := range rs {
		i := r.Info()
		rep.Rivals = append(rep.Rivals, rivalReport{Info: i, Version: version(i.Module)})
	}
	for _, lv := range levels {
		for _, r := range rs {
			i := r.Info()
			unary := lv.Shape == shapeUnary || lv.Shape == shapeBesideCalls || lv.Shape == shapeBesideStreams
			if !i.Streams && lv.Shape != shapeUnary || i.StreamsOnly && unary {
				continue
			}
			rep.Rows = append(rep.Rows, &row{level: lv, Rival: r.Info().Name, Rounds: make([]*measure, rounds)})
		}
	}
	return rep
}

// row returns the one of a rival at a level, or nil.
func (rep *report) row(lv level, rival string) *row {
	for _, r := range rep.Rows {
		if r.level == lv && r.Rival == rival {
			return r
		}
	}
	return nil
}

// add notes what was measured in a round.
func (rep *report) add(round int, lv level, rival string, m measure) {
	rep.row(lv, rival).Rounds[round] = &m
}

// finish computes medians and ratios.
func (rep *report) finish() {
	for _, r := range rep.Rows {
		r.Median = medianMeasure(r.Rounds)
		if base := rep.row(r.level, rep.Base); base != nil {
			r.Ratio = medianRatio(r.Rounds, base.Rounds)
		}
	}
}

func medianMeasure(rounds []*measure) *measure {
	done := slices.DeleteFunc(slices.Clone(rounds), func(m *measure) bool { return m == nil })
	if len(done) == 0 {
		return nil
	}
	med := func(f func(*measure) float64) float64 {
		vs := make([]float64, len(done))
		for i, m := range done {
			vs[i] = f(m)
		}
		return median(vs)
	}
	return &measure{
		Requests:     uint64(med(func(m *measure) float64 { return float64(m.Requests) })),
		PerSecond:    med(func(m *measure) float64 { return m.PerSecond }),
		P50:          med(func(m *measure) float64 { return m.P50 }),
		P99:          med(func(m *measure) float64 { return m.P99 }),
		ClientCPU:    med(func(m *measure) float64 { return m.ClientCPU }),
		ServerCPU:    med(func(m *measure) float64 { return m.ServerCPU }),
		ClientAllocs: med(func(m *measure) float64 { return m.ClientAllocs }),
		ServerAllocs: med(func(m *measure) float64 { return m.ServerAllocs }),
		ClientRSS:    med(func(m *measure) float64 { return m.ClientRSS }),
		ServerRSS:    med(func(m *measure) float64 { return m.ServerRSS }),
		Bulk:         med(func(m *measure) float64 { return m.Bulk }),
	}
}

func medianRatio(rounds, base []*measure) *ratio {
	var rps, p50, p99, cpu []float64
	for i, m := range rounds {
		b := base[i]
		if m == nil || b == nil {
			continue
		}
		rps = append(rps, m.PerSecond/b.PerSecond)
		if b.P50 > 0 { // streams that do not wait have no latency
			p50 = append(p50, m.P50/b.P50)
			p99 = append(p99, m.P99/b.P99)
		}
		if b.cpu() > 0 {
			cpu = append(cpu, m.cpu()/b.cpu())
		}
	}
	if len(rps) == 0 {
		return nil
	}
	return &ratio{PerSecond: median(rps), P50: median(p50), P99: median(p99), CPU: median(cpu)}
}

// median returns the middle of vs, which it sorts, or 0 of none.
func median(vs []float64) float64 {
	if len(vs) == 0 {
		return 0
	}
	slices.Sort(vs)
	n := len(vs)
	return (vs[(n-1)/2] + vs[n/2]) / 2
}

// print writes one table for each level, in the order of the rivals, after a
// line that says how it was measured.
func (rep *report) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%s, %s/%s, %d CPUs; medians of %d interleaved rounds of %gs; × is the median ratio to %s of the same round\n",
		rep.Go, rep.GOOS, rep.GOARCH, rep.CPUs, rep.Rounds, rep.D, rep.Base)
	var last level
	for _, r := range rep.Rows {
		if r.level != last {
			last = r.level
			// A line without tabs ends a table, so that each has its own widths.
			note := ""
			if rep.Pinned && r.pinned() {
				note = " (client and server on different CPUs)"
			}
			fmt.Fprintf(w, "\n%v%s\n", r.level, note)
			fmt.Fprintln(w, "\treq/s\t×\tp50 µs\t×\tp99 µs\t×\tCPU µs/req\t×\tallocs c/s\tRSS MiB c/s\tbeside, MiB/s\t\t")
		}
		// The name is padded by hand: the other columns are aligned to the right.
		name := fmt.Sprintf("%-15s", r.Rival)
		m := r.Median
		if m == nil {
			fmt.Fprintf(w, "%s\tfailed\t\t\t\t\t\t\t\t\t\t\t\t\n", name)
			continue
		}
		x := ratio{PerSecond: math.NaN(), P50: math.NaN(), P99: math.NaN(), CPU: math.NaN()}
		if r.Ratio != nil {
			x = *r.Ratio
		}
		beside := ""
		if m.Bulk > 0 {
			beside = fmt.Sprintf("%.0f", m.Bulk)
		}
		fmt.Fprintf(w, "%s\t%.0f\t%s\t%.0f\t%s\t%.0f\t%s\t%.1f\t%s\t%.1f / %.1f\t%.0f / %.0f\t%s\t\t\n", name,
			m.PerSecond, times(x.PerSecond), m.P50, times(x.P50), m.P99, times(x.P99), m.cpu(), times(x.CPU),
			m.ClientAllocs, m.ServerAllocs, m.ClientRSS, m.ServerRSS, beside)
	}
	fmt.Fprintln(w)
	return w.Flush()
}

// times formats a ratio; one that is not known is a dash.
func times(x float64) string {
	if math.IsNaN(x) || math.IsInf(x, 0) || x == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", x)
}
