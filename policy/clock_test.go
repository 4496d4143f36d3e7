package policy_test

import (
	"math"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// TestAt: moments keep their order, however far they are, and only the zero time is never.
func TestAt(t *testing.T) {
	now := time.Now()
	var last policy.Time
	for _, at := range []time.Time{
		{}, time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC), time.Unix(0, 0), time.Unix(1, 0), now.Add(-time.Hour), now, now.Add(time.Nanosecond),
		now.Add(time.Hour), now.Add(200 * 365 * 24 * time.Hour), now.Add(math.MaxInt64), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
	} {
		got := policy.At(at)
		if (got == 0) != at.IsZero() || got < last {
			t.Errorf("%v is %d; the one before was %d", at, got, last)
		}
		if left := got.Sub(policy.At(now)); !at.IsZero() && (left > 0) != at.After(now) {
			t.Errorf("%v is in %v", at, left)
		}
		last = got
	}
	if got := policy.At(now).Clock(); got.Sub(now) != 0 {
		t.Errorf("%v became %v", now, got)
	}
	if last != math.MaxInt64 || last.Clock().Before(now.Add(200*365*24*time.Hour)) {
		t.Errorf("the last moment is %d, %v", last, last.Clock())
	}
}
