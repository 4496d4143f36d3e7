package spec

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Probation says how a document that may be bad is put in force: while it is new, calls are counted, and it is taken back when they fail more
// than twice as often as before. Every zero means the default that stands beside it. It decides only; Client.Try of package hull acts on it.
type Probation struct {
	// Before is how long calls are counted under the document in force, to compare with: 5 s.
	Before time.Duration
	// For is how long the new one is watched: 30 s.
	For time.Duration
	// Factor is how many times as often calls may fail as before: 2.
	Factor float64
	// MinFailures is how many calls must have failed under the new document, beyond those to be expected, before it is taken back: 10.
	MinFailures int
}

// ErrTakenBack is what the error is of a document that was in force for a while and is not any more, or that gave way to another one before it was. Watch does
// not try such a document again until the file changes.
var ErrTakenBack = errors.New("the document has been taken back")

// Complete returns p with its defaults, or what is wrong with it.
func (p Probation) Complete() (Probation, error) {
	if p.Before == 0 {
		p.Before = 5 * time.Second
	}
	if p.For == 0 {
		p.For = 30 * time.Second
	}
	if p.Factor == 0 {
		p.Factor = 2
	}
	if p.MinFailures == 0 {
		p.MinFailures = 10
	}
	switch {
	case p.Before < 0 || p.For < 0:
		return p, fmt.Errorf("spec: probation: %v before and %v under the new document: times are positive", p.Before, p.For)
	case !(p.Factor >= 1):
		return p, fmt.Errorf("spec: probation: option Factor is %v: want 1 or more, or 0 for 2", p.Factor)
	case p.MinFailures < 0:
		return p, fmt.Errorf("spec: probation: option MinFailures is %d: want a positive number, or 0 for 10", p.MinFailures)
	}
	return p, nil
}

// Tally is how many calls ended, and how many of them failed.
type Tally struct{ Calls, Failures int64 }

// share is that of failures, in words.
func (t Tally) String() string { return fmt.Sprintf("%d of %d calls failed", t.Failures, t.Calls) }

// Judge compares what became of calls under a document with what became of them before it; the error says why it should be taken back, and nil that
// nothing speaks against it so far. It may be asked again and again while since grows.
//
// Calls fail by chance too, so Factor times as many failures as before are not enough: there must be three standard deviations more than that, and
// MinFailures. With nothing to compare with, no document is bad.
func (p Probation) Judge(before, since Tally) error {
	if before.Calls == 0 || since.Calls == 0 {
		return nil
	}
	// One more than there were: what did not happen in a few calls may happen all the same.
	share := min(1, float64(before.Failures+1)/float64(before.Calls))
	most := p.Factor * share * float64(since.Calls)
	if float64(since.Failures) <= most+3*math.Sqrt(most)+float64(p.MinFailures) {
		return nil
	}
	return fmt.Errorf("%v, where %v before: %w", since, before, ErrTakenBack)
}
