package admission

import (
	"math"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// A call is counted in the second after which it is abandoned, if that is one of those that the ring looks ahead.
func TestSpot(t *testing.T) {
	const now, grace = policy.Time(1000*time.Second + 500*time.Millisecond), time.Second
	for _, tt := range []struct {
		name     string
		deadline policy.Time
		second   uint64 // 0 = it never counts as abandoned
	}{
		{"no deadline", 0, 0},
		{"long past", now.Add(-2 * time.Second), 0},
		{"ends with this second", now.Add(-time.Second), 1001},
		{"in time", now.Add(time.Second), 1003},
		{"the last one", now.Add(60 * time.Second), 1062},
		{"too far away", now.Add(61 * time.Second), 0},
		{"as far away as can be", math.MaxInt64, 0},
	} {
		want := never
		if tt.second != 0 {
			want = spot{mark: uint32(tt.second), at: uint8(tt.second % ringSize)}
		}
		if got := spotOf(now, tt.deadline, grace); got != want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, want)
		}
	}
}
