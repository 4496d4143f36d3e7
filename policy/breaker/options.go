package breaker

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/hull-go/hull/internal/window"
)

// Options describes a breaker. Every zero means the default that stands beside it.
type Options struct {
	// Window is how far back results count: 10 s. It should be longer than the call's timeout, else failures and the
	// calls they belong to are counted in different windows. It is also how long a breaker has to stay closed before its next
	// opening is a first one again.
	Window time.Duration
	// Buckets is how many parts the window slides in: 10.
	Buckets int
	// LastCalls, if set, makes the latest LastCalls results count, however old, instead of those within Window: for
	// calls so rare that no window holds enough of them. At most 10,000.
	LastCalls int
	// MinCalls is how many results the window must hold before the breaker can open: 20, or LastCalls if that is less.
	MinCalls int
	// Failures is the share of failed calls, above 0 and up to 1, at which it opens: 0.5.
	Failures float64
	// Consecutive failures open it too, whatever the share; 0 = they do not.
	Consecutive int
	// Slow is from how long on a call is counted as slow; 0 = slow calls are not counted.
	Slow time.Duration
	// SlowCalls is the share of slow calls at which it opens; 0 = they are only counted.
	SlowCalls float64
	// Open is how long it stays open the first time: 1 s. Each opening in a row doubles it, up to OpenCap.
	Open time.Duration
	// OpenCap is the longest time it stays open by itself, Jitter included: Open, so that the time does not grow.
	OpenCap time.Duration
	// PushbackCap is the longest time that it stays open because the dependency asked for it: 30 s, or OpenCap if that is more.
	PushbackCap time.Duration
	// Jitter is the share by which open times vary, so that callers do not come back together: 0.2. Negative = none.
	Jitter float64
	// ProbeEvery is how long after a probe the next may go if the first said nothing: 1 s.
	ProbeEvery time.Duration
	// ProbeLease is how long a probe may take before it is taken back as failed: 5 s, the default call timeout, or
	// ProbeEvery if that is more.
	ProbeLease time.Duration
	// Successes is how many probes in a row must succeed: 3.
	Successes int
	// Ramp is how long the share of admitted calls grows from 10 to 100 % after closing: 1 s. Negative = all at once.
	Ramp time.Duration
}

// withDefaults fills in the zeroes and returns all faults together.
func (o Options) withDefaults() (Options, error) {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	share := func(name string, v *float64, def float64) {
		zero := "none"
		if def != 0 {
			zero = strconv.FormatFloat(def, 'g', -1, 64)
		}
		fault(!(*v >= 0 && *v <= 1), "option %s is %v: want a share above 0 and up to 1, or 0 for %s", name, *v, zero)
		if *v == 0 {
			*v = def
		}
	}
	length := func(name string, v *time.Duration, def time.Duration) {
		zero := "none"
		if def != 0 {
			zero = def.String()
		}
		fault(*v < 0, "option %s is %v: want a positive time, or 0 for %s", name, *v, zero)
		if *v == 0 {
			*v = def
		}
	}
	number := func(name string, v *int, def int) {
		zero := "none"
		if def != 0 {
			zero = strconv.Itoa(def)
		}
		fault(*v < 0, "option %s is %d: want a positive number, or 0 for %s", name, *v, zero)
		if *v == 0 {
			*v = def
		}
	}
	length("Window", &o.Window, 10*time.Second)
	number("Buckets", &o.Buckets, 10)
	number("LastCalls", &o.LastCalls, 0)
	fault(o.LastCalls > maxLast, "option LastCalls is %d: at most %d", o.LastCalls, maxLast)
	least := 20
	if o.LastCalls > 0 {
		least = min(least, o.LastCalls)
	}
	number("MinCalls", &o.MinCalls, least)
	fault(o.LastCalls > 0 && o.MinCalls > o.LastCalls, "option MinCalls %d is more than LastCalls %d: the breaker could never open", o.MinCalls, o.LastCalls)
	share("Failures", &o.Failures, 0.5)
	number("Consecutive", &o.Consecutive, 0)
	length("Slow", &o.Slow, 0)
	share("SlowCalls", &o.SlowCalls, 0)
	fault(o.SlowCalls > 0 && o.Slow == 0, "option SlowCalls without Slow: say from how long on a call is slow")
	length("Open", &o.Open, time.Second)
	length("OpenCap", &o.OpenCap, o.Open)
	fault(o.OpenCap < o.Open, "option OpenCap %v is less than Open %v: want at least that, or 0 for the same", o.OpenCap, o.Open)
	length("PushbackCap", &o.PushbackCap, max(30*time.Second, o.OpenCap))
	fault(o.PushbackCap < o.OpenCap, "option PushbackCap %v is less than OpenCap %v: want at least that, or 0 for 30s", o.PushbackCap, o.OpenCap)
	fault(math.IsNaN(o.Jitter) || o.Jitter >= 1, "option Jitter is %v: want a share below 1, 0 for 0.2, negative for none", o.Jitter)
	switch {
	case o.Jitter == 0:
		o.Jitter = 0.2
	case o.Jitter < 0:
		o.Jitter = 0
	}
	length("ProbeEvery", &o.ProbeEvery, time.Second)
	length("ProbeLease", &o.ProbeLease, max(5*time.Second, o.ProbeEvery))
	fault(o.ProbeLease < o.ProbeEvery, "option ProbeLease %v is less than ProbeEvery %v: a probe would be taken back before the next may go", o.ProbeLease, o.ProbeEvery)
	number("Successes", &o.Successes, 3)
	if o.Ramp == 0 {
		o.Ramp = time.Second
	}
	fault(o.Buckets > 1000, "option Buckets is %d: want at most 1000, or 0 for 10", o.Buckets)
	fault(o.Buckets > 0 && o.Window > 0 && int64(o.Window)/int64(o.Buckets) < window.MinBucket,
		"option Window %v in %d Buckets: want a longer one or fewer, so that a bucket is at least 1ms long", o.Window, o.Buckets)
	if len(errs) > 0 {
		return o, fmt.Errorf("breaker: %w", errors.Join(errs...))
	}
	return o, nil
}
