package sim

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// Scenario is an experiment: services, calls that arrive, what goes wrong, and ways of protection that are compared.
type Scenario struct {
	// Number and Name are what it is known by, Story is what happens in a sentence or two, Source where it was described.
	Number              int
	Name, Story, Source string

	Services []Service
	Load     []Load
	Faults   []Fault
	// Trouble is when it begins and ends. Calls before the first and after the second are compared.
	Trouble Span
	// Last is until when calls arrive.
	Last time.Duration

	// Figures are what is measured; Holds is what a run has to come to, and Promise the same in words.
	Figures []Figure
	Promise string
	Holds   func(*Run) bool
	// Rows are the protections that are compared, with what is expected of each.
	Rows []Row
	// Parts divides the seeds: an experiment that is long or large is repeated less often. 0 = 1.
	Parts int

	first uint64 // seed
}

// Span is a time from one moment until another.
type Span struct{ From, Until time.Duration }

// Row is one way of protection.
type Row struct {
	Name string
	With Protection
	// Expect is how often it holds.
	Expect Expectation
	// Vary changes the scenario for this row; nil = nothing.
	Vary func(*Scenario)
	// Note is what has to be said about it, for instance why it does not hold.
	Note string
}

// Expectation is in which share of the runs a row is expected to hold.
type Expectation uint8

// The expectations. The zero value is none: it is left to chance, or known to be weak and to get better.
const (
	Either Expectation = iota
	Always
	Often  // nine runs in ten, or more
	Mostly // seven in ten, or more
	Rather // rather not: six in ten, or fewer
	Seldom // one in ten, or fewer
	Never
)

// bounds are the least and the greatest share.
func (e Expectation) bounds() (least, most float64) {
	switch e {
	case Always:
		return 1, 1
	case Often:
		return 0.9, 1
	case Mostly:
		return 0.7, 1
	case Rather:
		return 0, 0.6
	case Seldom:
		return 0, 0.1
	case Never:
		return 0, 0
	}
	return 0, 1
}

// Figure is something that is measured in a run.
type Figure struct {
	Name string
	// Of measures it; NaN = there was nothing to measure.
	Of func(*Run) float64
	// Format is how the mean over the runs is written, for instance "%.0f %%".
	Format string
	// Scale is what it is multiplied by before that: 1.
	Scale float64
}

// record is what became of one call.
type record struct {
	at, took time.Duration // took is negative as long as it has not ended
	ok       bool
	why      string // it failed
}

// ledger is what became of a load.
type ledger struct {
	*Load
	callers []*caller
	calls   []record
}

// Run is a run that is over.
type Run struct {
	// Scenario is as it was varied for the row.
	Scenario *Scenario
	lab      *Lab
}

// Play runs the scenario once.
func (sc *Scenario) Play(row *Row, seed uint64) (*Run, error) {
	s := *sc
	if row.Vary != nil {
		s.Services, s.Load, s.Faults = slices.Clone(s.Services), slices.Clone(s.Load), slices.Clone(s.Faults)
		row.Vary(&s)
	}
	l, err := newLab(&s, row.With, seed)
	if err != nil {
		return nil, err
	}
	l.Until(s.Last + s.longest())
	return &Run{&s, l}, nil
}

// longest is how long a call can take.
func (sc *Scenario) longest() time.Duration {
	d := 5 * time.Second
	for i := range sc.Services {
		s := sc.Services[i].complete()
		d = max(d, s.patience())
	}
	return d
}

// between calls f for the calls of a load that began in a span.
func (r *Run) between(load string, s Span, f func(*record)) {
	for _, l := range r.lab.loads {
		if l.Name != load {
			continue
		}
		i, _ := slices.BinarySearchFunc(l.calls, s.From, func(c record, t time.Duration) int { return int(c.at - t) })
		for ; i < len(l.calls) && l.calls[i].at < s.Until; i++ {
			f(&l.calls[i])
		}
	}
}

// OK is the share of the calls that began in a span which ended well; NaN if there were none.
func (r *Run) OK(load string, s Span) float64 {
	all, ok := 0, 0
	r.between(load, s, func(c *record) {
		all++
		if c.ok {
			ok++
		}
	})
	return float64(ok) / float64(all)
}

// Goodput is how many of the calls that began in a span ended well, per second.
func (r *Run) Goodput(load string, s Span) float64 {
	ok := 0
	r.between(load, s, func(c *record) {
		if c.ok {
			ok++
		}
	})
	return float64(ok) / (s.Until - s.From).Seconds()
}

// Calls is how many calls began in a span, and how many of them failed.
func (r *Run) Calls(load string, s Span) (all, failed int) {
	r.between(load, s, func(c *record) {
		all++
		if !c.ok {
			failed++
		}
	})
	return all, failed
}

// Whys is how many of the calls that began in a span failed for which reason: the policy that refused them, or the class of their failure.
func (r *Run) Whys(load string, s Span) map[string]int {
	out := map[string]int{}
	r.between(load, s, func(c *record) {
		if !c.ok {
			out[c.why]++
		}
	})
	return out
}

// Quantile is that of the time that the calls took which began in a span, failed ones included; NaN if there were none. Calls that never
// ended took for ever.
func (r *Run) Quantile(load string, q float64, s Span) float64 {
	var all []time.Duration
	r.between(load, s, func(c *record) {
		took := c.took
		if took < 0 {
			took = math.MaxInt64
		}
		all = append(all, took)
	})
	if len(all) == 0 {
		return math.NaN()
	}
	slices.Sort(all)
	return all[min(len(all)-1, int(q*float64(len(all))))].Seconds()
}

// Attempts is how many requests a service got in a span; of the nodes named, or all.
func (r *Run) Attempts(service string, s Span, nodes ...int) float64 {
	sum := 0
	for i, counts := range r.lab.byName[service].arrived {
		if len(nodes) > 0 && !slices.Contains(nodes, i) {
			continue
		}
		for k := int(s.From / slice); k < len(counts) && k < int(s.Until/slice); k++ {
			sum += counts[k]
		}
	}
	return float64(sum)
}

// Wasted is the share of a service's work that was done for callers that were gone.
func (r *Run) Wasted(service string) float64 {
	s := r.lab.byName[service]
	return s.wasted.Seconds() / max((s.wasted+s.useful).Seconds(), 1e-9)
}

// Overtime is the share of the time that a service's calls to others were under way in which nobody waited for what they were for.
func (r *Run) Overtime(service string) float64 {
	s := r.lab.byName[service]
	return s.overtime.Seconds() / max(s.calling.Seconds(), 1e-9)
}

// Poorer is how many requests a service answered without what it calls.
func (r *Run) Poorer(service string) float64 { return float64(r.lab.byName[service].poorer) }

// Before is a span of so long before the trouble.
func (r *Run) Before(d time.Duration) Span {
	t := r.Scenario.Trouble.From
	return Span{max(0, t-d), t}
}

// After is a span of so long, beginning some time after the trouble.
func (r *Run) After(later, d time.Duration) Span {
	t := r.Scenario.Trouble.Until + later
	return Span{t, t + d}
}

// Recovery is how many seconds after the trouble's end the first second begins from which on calls end as well as before it, or 95 % as well, for three
// seconds; NaN = not before the scenario's end.
func (r *Run) Recovery(load string) float64 {
	t := r.Scenario.Trouble
	before := r.OK(load, r.Before(before))
	const step = 500 * time.Millisecond
	for from := t.Until; from+3*time.Second <= r.Scenario.Last; from += step {
		if r.OK(load, Span{from, from + 3*time.Second}) >= 0.95*before {
			return (from - t.Until).Seconds()
		}
	}
	return math.NaN()
}

// Recovered reports whether, from 5 s after the trouble's end on and for five seconds, calls end at least 95 % as well as before it.
func (r *Run) Recovered(load string) bool { return r.RecoveredAfter(load, 5*time.Second) }

// RecoveredAfter is Recovered from another moment on.
func (r *Run) RecoveredAfter(load string, d time.Duration) bool {
	return r.OK(load, r.After(d, 5*time.Second)) >= 0.95*r.OK(load, r.Before(before))
}

// Result is what a row came to.
type Result struct {
	Row *Row
	// Runs is how many there were.
	Runs int
	// Held is the share of the runs that held.
	Held float64
	// Figures are the means over the runs in which there was something to measure, NaN if there was none.
	Figures []float64
}

// AsExpected reports whether the row holds as often as was expected.
func (r *Result) AsExpected() bool {
	least, most := r.Row.Expect.bounds()
	return r.Held >= least && r.Held <= most
}

// Measure plays all rows with the seeds from 0 to below seeds, on as many goroutines as workers says. What comes out does not
// depend on their number. It ends early, with ctx's error, if ctx does.
func (sc *Scenario) Measure(ctx context.Context, seeds, workers int) ([]Result, error) {
	seeds = max(1, seeds/max(sc.Parts, 1))
	type outcome struct {
		figures []float64
		held    bool
		err     error
	}
	all := make([]outcome, len(sc.Rows)*seeds)
	next := make(chan int)
	var wg sync.WaitGroup
	for range max(workers, 1) {
		wg.Go(func() {
			for i := range next {
				o := &all[i]
				r, err := sc.Play(&sc.Rows[i/seeds], sc.first+uint64(i%seeds))
				if o.err = err; err != nil {
					continue
				}
				o.held = r.Scenario.Holds(r)
				for _, f := range sc.Figures {
					o.figures = append(o.figures, f.Of(r))
				}
			}
		})
	}
	for i := range all {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	out := make([]Result, len(sc.Rows))
	for i := range out {
		out[i] = Result{Row: &sc.Rows[i], Runs: seeds, Figures: make([]float64, len(sc.Figures))}
		n := make([]float64, len(sc.Figures))
		for _, o := range all[i*seeds : (i+1)*seeds] {
			if o.err != nil {
				return nil, fmt.Errorf("sim: %s, %s: %w", sc.Name, sc.Rows[i].Name, o.err)
			}
			if o.held {
				out[i].Held += 1 / float64(seeds)
			}
			for k, v := range o.figures {
				if !math.IsNaN(v) {
					out[i].Figures[k] += v
					n[k]++
				}
			}
		}
		out[i].Held = math.Round(out[i].Held*float64(seeds)) / float64(seeds)
		for k := range n {
			out[i].Figures[k] /= n[k] // NaN for 0
		}
	}
	return out, nil
}
