package concurrency

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
)

// AIMDOptions describes an AIMD. Every zero means the default that stands beside it.
type AIMDOptions struct {
	// Start is the number of places at first: 20 for each processor that Go may use.
	Start int
	// Min and Max bound it: 4 and 10,000.
	Min, Max int
	// Slow is from how long on an answer is a sign of overload, as a timeout is: 0, answers never are.
	Slow time.Duration
	// Backoff is what a sign of overload leaves of the limit, between 0 and 1: 0.9.
	Backoff float64
}

// AIMD is a Source that adds one place for each full round of good answers, and takes a share away at a sign of overload. It
// finds the point where calls begin to take too long, which has to be known, and says nothing about throughput.
type AIMD struct {
	opt   AIMDOptions
	limit atomic.Int64 // in parts of a place
	cut   atomic.Int64 // when it was last cut
}

// part divides places, so that a good answer can add its share of one.
const part = 1 << 20

var _ Source = (*AIMD)(nil)

// NewAIMD returns a source that has seen nothing yet. The error names everything that is wrong with o.
func NewAIMD(o AIMDOptions) (*AIMD, error) {
	bounds, err := TwoArmOptions{Start: o.Start, Min: o.Min, Max: o.Max}.withDefaults()
	errs := []error{err}
	o.Start, o.Min, o.Max = bounds.Start, bounds.Min, bounds.Max
	if o.Slow < 0 {
		errs = append(errs, fmt.Errorf("option Slow is %v: want a positive time, or 0 for never", o.Slow))
	}
	if o.Backoff == 0 {
		o.Backoff = 0.9
	}
	if !(o.Backoff > 0 && o.Backoff < 1) {
		errs = append(errs, fmt.Errorf("option Backoff is %v: want a share between 0 and 1, or 0 for 0.9", o.Backoff))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("concurrency: aimd: %w", err)
	}
	a := &AIMD{opt: o}
	a.limit.Store(int64(o.Start) * part)
	return a, nil
}

// Limit implements Source.
func (a *AIMD) Limit(policy.Time) int { return int(a.limit.Load() / part) }

// Refused implements Source. It does not matter.
func (a *AIMD) Refused(policy.Time) {}

// Sample implements Source.
func (a *AIMD) Sample(now policy.Time, s Sample) {
	switch {
	case s.Outcome == policy.TimedOut || s.Outcome == policy.Success && a.opt.Slow > 0 && s.Took >= a.opt.Slow:
		// Those who began before the last cut say nothing about the limit since.
		last := a.cut.Load()
		if began := int64(now) - int64(s.Took); began < last && last <= int64(now) || !a.cut.CompareAndSwap(last, int64(now)) {
			return
		}
		a.change(func(n int64) int64 { return max(int64(float64(n)*a.opt.Backoff), int64(a.opt.Min)*part) })
	case s.Outcome == policy.Success && int64(s.InUse)*2*part >= a.limit.Load(): // else the limit was not what mattered
		a.change(func(n int64) int64 { return min(n+part*part/n, int64(a.opt.Max)*part) })
	}
}

func (a *AIMD) change(f func(int64) int64) {
	for {
		n := a.limit.Load()
		if a.limit.CompareAndSwap(n, f(n)) {
			return
		}
	}
}
