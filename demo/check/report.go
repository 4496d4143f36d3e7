package check

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Side is what one step did to one client.
type Side struct {
	// Calls are the idempotent calls that ended, OK and Failed and Fallback what became of them.
	Calls    int64 `json:"calls"`
	OK       int64 `json:"ok"`
	Failed   int64 `json:"failed"`
	Fallback int64 `json:"fallback"`
	Retried  int64 `json:"retried"`
	// Goodput is OK calls per second while the fault was there.
	Goodput float64 `json:"goodput"`
	// P99 is the highest p99 of a 10 s window, in milliseconds.
	P99 float64 `json:"p99Millis"`
	// Trouble is how long after the fault began calls still failed or needed the fallback, in seconds; Recovery the same from
	// the end of its cause.
	Trouble  float64 `json:"troubleSeconds"`
	Recovery float64 `json:"recoverySeconds"`
	// UnsafeOK, UnsafeFailed and UnsafeMaybe are the calls that are not idempotent.
	UnsafeOK     int64 `json:"unsafeOK"`
	UnsafeFailed int64 `json:"unsafeFailed"`
	UnsafeMaybe  int64 `json:"unsafeMaybe"`
}

// Promise is something that was to be shown.
type Promise struct {
	Text string `json:"text"`
	Kept bool   `json:"kept"`
	// Got says what was seen.
	Got string `json:"got"`
}

// Step is one act of the story.
type Step struct {
	Name        string `json:"name"`
	Protected   Side   `json:"protected"`
	Unprotected Side   `json:"unprotected"`
	// Stall is how long the machine itself kept the demo waiting at most, in milliseconds.
	Stall float64 `json:"stallMillis"`
	// Plays is how often the act was played: more than once if the machine spoilt it. The last time counts. 0 = it is no act.
	Plays    int       `json:"plays,omitempty"`
	Promises []Promise `json:"promises"`
}

// doubtful reports whether promises were broken while the machine stood still for half of what an attempt may take, in
// milliseconds: no policy can help that, so it shows nothing about them.
func (s *Step) doubtful(attemptTimeout int64) bool {
	return s.Stall > float64(attemptTimeout)/2 && slices.ContainsFunc(s.Promises, func(p Promise) bool { return !p.Kept })
}

// promise notes whether something was shown.
func (s *Step) promise(kept bool, text, got string, args ...any) {
	s.Promises = append(s.Promises, Promise{Text: text, Kept: kept, Got: fmt.Sprintf(got, args...)})
}

// Report is what a check came to.
type Report struct {
	// Rate is the load of each client in calls per second, Nodes the number of backends.
	Rate  float64 `json:"rate"`
	Nodes int     `json:"nodes"`
	// AttemptTimeout is in milliseconds.
	AttemptTimeout int64   `json:"attemptTimeoutMillis"`
	Seconds        float64 `json:"seconds"`
	Steps          []*Step `json:"steps"`
}

// Broken lists the promises that were not kept.
func (r *Report) Broken() []Promise {
	var list []Promise
	for _, s := range r.Steps {
		for _, p := range s.Promises {
			if !p.Kept {
				list = append(list, p)
			}
		}
	}
	return list
}

// Count is how many promises there are.
func (r *Report) Count() (n int) {
	for _, s := range r.Steps {
		n += len(s.Promises)
	}
	return n
}

// Print writes the report as people read it.
func (r *Report) Print(w io.Writer) {
	fmt.Fprintf(w, "\n%d backends, %g calls/s open loop per client, attempt timeout %d ms, %.0f s\n\n", r.Nodes, r.Rate, r.AttemptTimeout, r.Seconds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "step\tclient\tgoodput/s\tfailed\tfallback\tretried\tp99 ms\ttrouble s\trecovery s\tunsafe maybe\tunsafe failed\t")
	for _, s := range r.Steps {
		if s.Protected.Calls+s.Unprotected.Calls == 0 {
			continue
		}
		name := s.Name
		for _, side := range []struct {
			name string
			Side
		}{{"protected", s.Protected}, {"unprotected", s.Unprotected}} {
			fmt.Fprintf(t, "%s\t%s\t%.0f\t%d\t%d\t%d\t%.0f\t%.1f\t%.1f\t%d\t%d\t\n", name, side.name, side.Goodput, side.Failed,
				side.Fallback, side.Retried, side.P99, side.Trouble, side.Recovery, side.UnsafeMaybe, side.UnsafeFailed)
			name = ""
		}
	}
	_ = t.Flush() // the terminal is gone: nobody is left to tell
	fmt.Fprintln(w)
	for _, s := range r.Steps {
		for _, p := range s.Promises {
			mark := "kept  "
			if !p.Kept {
				mark = "BROKEN"
			}
			fmt.Fprintf(w, "  %s  %s: %s (%s)\n", mark, s.Name, p.Text, p.Got)
		}
	}
	if n := len(r.Broken()); n > 0 {
		fmt.Fprintf(w, "\n%s\n", strings.ToUpper(fmt.Sprintf("%d of %d promises broken", n, r.Count())))
		return
	}
	fmt.Fprintf(w, "\nAll %d promises kept.\n", r.Count())
}
