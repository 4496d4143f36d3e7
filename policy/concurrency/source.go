package concurrency

import (
	"time"

	"github.com/hull-go/hull/policy"
)

// Source says how many places there are, and learns from what becomes of those who have one. Like every decision it
// is pure: it starts nothing and reads no clock. Implementations are safe for concurrent use and quick, since they are asked
// at every end.
type Source interface {
	// Limit is the number of places now, at least 1.
	Limit(now policy.Time) int
	// Sample tells of an attempt that has ended.
	Sample(now policy.Time, s Sample)
	// Refused tells that one was not let in, or waited in vain.
	Refused(now policy.Time)
}

// Sample is what became of an attempt.
type Sample struct {
	// Took is how long it had its place.
	Took time.Duration
	// InUse is how many places were taken when it ended, its own included.
	InUse int
	// Entered is how many were taken when it began, its own included, and Patience how long its caller was willing to wait then. Zeroes:
	// that is not known.
	Entered  int
	Patience time.Duration
	// Outcome: Success is an answer, whatever it says. TimedOut is a sign of overload. Ignored says nothing.
	Outcome policy.Outcome
}
