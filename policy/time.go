package policy

import (
	"math"
	"time"
)

// Time is a moment: nanoseconds since the Unix epoch as this process's monotonic clock tells them, so that it never
// jumps with the wall clock. Zero means never. Times of different processes must not be compared.
type Time int64

// Add returns t + d. It saturates instead of overflowing.
func (t Time) Add(d time.Duration) Time {
	if s := t + Time(d); d <= 0 || s > t {
		return s
	}
	return math.MaxInt64
}

// Sub returns t − u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Earliest returns the earlier of two times, of which either may be never.
func Earliest(a, b Time) Time {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}
