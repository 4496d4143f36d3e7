package timeout

import (
	"errors"
	"fmt"
	"time"

	"github.com/hull-go/hull/internal/quantile"
)

// Options describes timeouts. Every zero means the default that stands beside it.
type Options struct {
	// Fixed is given to every attempt, instead of what is learned; 0 = learn. Latencies are still learned, for Fair.
	Fixed time.Duration
	// Min is the least that is learned: 100 ms.
	Min time.Duration
	// Max is the most that is learned: 60 s.
	Max time.Duration
	// Cold is the timeout while too little is known: 1 s, but within Min and Max.
	Cold time.Duration
	// NoDeadline is what the last attempt gets if nobody set a deadline: 5 s.
	NoDeadline time.Duration
	// Factor times the quantile is the timeout: 2. At least 1.
	Factor float64
	// Quantile is which: 0.99.
	Quantile float64
	// Share of what is left that an attempt gets at most if another can follow: 0.7.
	Share float64
	// Fall is by which share the timeout falls at most in one step: 0.1.
	Fall float64
	// Window is how far back attempts count: 10 s. A step is a tenth of it.
	Window time.Duration
	// MinSamples is how many attempts the window must hold: 100.
	MinSamples int
}

// steps is how many times per window the timeout is set.
const steps = 10

// withDefaults fills in the zeroes and returns all faults together.
func (o Options) withDefaults() (Options, error) {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	length := func(name string, v *time.Duration, def time.Duration) {
		fault(*v < 0, "option %s is %v: want a positive time, or 0 for %v", name, *v, def)
		if *v == 0 {
			*v = def
		}
	}
	share := func(name string, v *float64, def float64) {
		fault(!(*v >= 0 && *v < 1), "option %s is %v: want a share above 0 and below 1, or 0 for %v", name, *v, def)
		if *v == 0 {
			*v = def
		}
	}
	fault(o.Fixed < 0, "option Fixed is %v: want a positive time, or 0 to learn", o.Fixed)
	length("Min", &o.Min, 100*time.Millisecond)
	length("Max", &o.Max, max(quantile.Most, o.Min))
	fault(o.Max < o.Min, "option Max %v is less than Min %v: want at least that, or 0 for 1m0s", o.Max, o.Min)
	length("Cold", &o.Cold, min(max(time.Second, o.Min), o.Max))
	fault(o.Cold < o.Min || o.Cold > o.Max, "option Cold is %v: want something between Min %v and Max %v", o.Cold, o.Min, o.Max)
	length("NoDeadline", &o.NoDeadline, 5*time.Second)
	if o.Factor == 0 {
		o.Factor = 2
	}
	fault(!(o.Factor >= 1), "option Factor is %v: want 1 or more, or 0 for 2", o.Factor)
	share("Quantile", &o.Quantile, 0.99)
	share("Share", &o.Share, 0.7)
	share("Fall", &o.Fall, 0.1)
	length("Window", &o.Window, quantile.DefaultWindow)
	fault(o.Window > 0 && o.Window < steps*time.Millisecond, "option Window is %v: want at least 10ms, or 0 for 10s", o.Window)
	fault(o.MinSamples < 0, "option MinSamples is %d: want a positive number, or 0 for 100", o.MinSamples)
	if o.MinSamples == 0 {
		o.MinSamples = 100
	}
	if len(errs) > 0 {
		return o, fmt.Errorf("timeout: %w", errors.Join(errs...))
	}
	return o, nil
}
