package muxtransport

import (
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// TestYieldsThatDoNotPay: how much of the time goes into yields, where each takes so long and gathers so many bytes, with a flush every so often.
func TestYieldsThatDoNotPay(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name     string
		took     time.Duration
		gathered uint64
		every    time.Duration // between flushes
		min, max float64       // share of ten seconds spent in yields
	}{
		{"nothing else is ready", 5 * time.Microsecond, 0, 20 * time.Microsecond, 0.19, 0.21},
		{"others add a little, soon", 900 * time.Microsecond, 60, ms, 0.4, 0.5},
		{"a thousand callers add theirs", 4 * ms, 100_000, ms, 0.75, 0.85},
		{"handlers compute", 60 * ms, 4000, ms, 0, 0.04},
		{"a stopped program", 10 * time.Second, 0, ms, 0.9, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var y yielding
			var spent time.Duration
			const end = policy.Time(10 * time.Second)
			for now := policy.Time(0); now < end; now = now.Add(tt.every) {
				if !y.wanted(now) {
					continue
				}
				now = now.Add(tt.took)
				spent += tt.took
				y.took(now, tt.took, tt.gathered)
			}
			if share := spent.Seconds() / 10; share < tt.min || share > tt.max {
				t.Errorf("%.3f of the time is spent in yields, want %v to %v", share, tt.min, tt.max)
			}
		})
	}
}

// TestYieldsPayAgain: one bad yield costs one pause, and good ones make the next pause short again.
func TestYieldsPayAgain(t *testing.T) {
	var y yielding
	y.took(0, 10*time.Millisecond, 0)
	if y.wanted(policy.Time(9 * time.Millisecond)) {
		t.Error("a yield that took long is repeated at once")
	}
	now := policy.Time(10 * time.Millisecond)
	if !y.wanted(now) {
		t.Fatal("a single yield that took long is not tried again after as long a time")
	}
	y.took(now, 10*time.Millisecond, 0)
	if y.wanted(now.Add(39 * time.Millisecond)) {
		t.Error("after the second the pause is not longer")
	}
	now = now.Add(40 * time.Millisecond)
	y.took(now, time.Microsecond, 0)
	y.took(now, 10*time.Millisecond, 0)
	if !y.wanted(now.Add(10 * time.Millisecond)) {
		t.Error("a yield that paid does not make the pause short again")
	}
}
