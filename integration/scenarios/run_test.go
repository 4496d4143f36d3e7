package scenarios_test

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// span is a time since the beginning.
type span struct{ from, until time.Duration }

func (s span) has(d time.Duration) bool { return d >= s.from && d < s.until }
func (s span) seconds() float64         { return (s.until - s.from).Seconds() }

// run is a run that is over.
type run struct {
	sc    *scenario
	calls []call
	seen  map[string]seen // by service
	nodes []string        // addresses of those that are called
	late  time.Duration
}

// count counts the calls of a load that began in a span, and how many of them failed.
func (r *run) count(load string, s span) (all, failed int) {
	for i := range r.calls {
		if c := &r.calls[i]; c.Load == load && s.has(c.At) {
			all++
			if !c.OK {
				failed++
			}
		}
	}
	return all, failed
}

// ok is the share of them that ended well; NaN if there were none.
func (r *run) ok(load string, s span) float64 {
	all, failed := r.count(load, s)
	return float64(all-failed) / float64(all)
}

// goodput is how many calls ended well in a span, a second.
func (r *run) goodput(load string, s span) float64 {
	n := 0
	for i := range r.calls {
		if c := &r.calls[i]; c.Load == load && c.OK && s.has(c.At+c.Took) {
			n++
		}
	}
	return float64(n) / s.seconds()
}

// attempts counts those that began in a span, toward nodes with these numbers, or all.
func (r *run) attempts(s span, nodes ...int) (n float64) {
	for i := range r.calls {
		for _, a := range r.calls[i].Attempts {
			if s.has(a.Began) && (len(nodes) == 0 || slices.ContainsFunc(nodes, func(k int) bool { return r.nodes[k] == a.Node })) {
				n++
			}
		}
	}
	return n
}

// quantile is that of the time that calls took, failed ones included.
func (r *run) quantile(load string, q float64, s span) float64 {
	var took []time.Duration
	for i := range r.calls {
		if c := &r.calls[i]; c.Load == load && s.has(c.At) {
			took = append(took, c.Took)
		}
	}
	if len(took) == 0 {
		return math.NaN()
	}
	slices.Sort(took)
	return took[min(len(took)-1, int(q*float64(len(took))))].Seconds()
}

// before is the 10 s before the trouble, but for the first second of all; after is some time after it.
func (r *run) before() span {
	return span{max(time.Second, r.sc.trouble.from-10*time.Second), r.sc.trouble.from}
}

func (r *run) after(from, long time.Duration) span {
	return span{r.sc.trouble.until + from, r.sc.trouble.until + from + long}
}

// recovered reports whether calls end nearly as well as before, some time after the trouble, for as long.
func (r *run) recovered(load string, share float64, from, long time.Duration) bool {
	return r.ok(load, r.after(from, long)) >= share*r.ok(load, r.before())
}

// recovery is how long after the trouble's end calls ended as well as before; NaN if they never did.
func (r *run) recovery(load string) float64 {
	before := r.ok(load, r.before())
	for from := r.sc.trouble.until; from+2*time.Second <= r.sc.last; from += 250 * time.Millisecond {
		if r.ok(load, span{from, from + 2*time.Second}) >= 0.95*before {
			return (from - r.sc.trouble.until).Seconds()
		}
	}
	return math.NaN()
}

// why lists why calls failed, the most frequent reasons first.
func (r *run) why() string {
	reasons := map[string]int{}
	for i := range r.calls {
		if c := &r.calls[i]; !c.OK {
			reasons[c.Load+": "+c.Why]++
		}
	}
	var all []string
	for why := range reasons {
		all = append(all, why)
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(reasons[b], reasons[a]) })
	var b strings.Builder
	for _, why := range all[:min(len(all), 8)] {
		fmt.Fprintf(&b, "\n  %6d × %s", reasons[why], why)
	}
	return b.String()
}

// second by second, for who looks for the reason of a failure.
func (r *run) seconds() string {
	var b strings.Builder
	for _, l := range r.sc.loads {
		fmt.Fprintf(&b, "\n  %s answered in each second, %%:", l.Name)
		for at := time.Duration(0); at < r.sc.last; at += time.Second {
			fmt.Fprintf(&b, " %.0f", 100*r.ok(l.Name, span{at, at + time.Second}))
		}
	}
	fmt.Fprintf(&b, "\n  attempts:")
	for at := time.Duration(0); at < r.sc.last; at += time.Second {
		fmt.Fprintf(&b, " %.0f", r.attempts(span{at, at + time.Second}))
	}
	for name, s := range r.seen {
		fmt.Fprintf(&b, "\n  %s: %s", name, strings.Join(s.Admission, " "))
	}
	return b.String()
}
