package concurrency

import (
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// A service of slow calls that get in each other's way needs about 67 places for 40 calls a second, and begins with 64: nearly none are refused, though a
// comparison would refuse a seventh.
func TestLift(t *testing.T) {
	got := judge(t, changeSeeds, func(seed uint64) float64 {
		w := newWorld(seed, must(t, Options{Source: mustTwoArm(t, TwoArmOptions{Start: 40})}))
		w.crowd = func(busy int) time.Duration { return time.Second + time.Duration(busy)*10*time.Millisecond }
		w.dep, w.patient = 0, 3*time.Second
		w.arrive(func() float64 { return 40 }, plain)
		w.until(45 * time.Second)
		return 1 - w.figures(10*time.Second, 40*time.Second, nil).shed
	})
	if got[0] < 0.85 || mean(got) < 0.95 { // of comparisons alone: 0.71 and 0.86
		t.Errorf("%.3f served, least %.3f; want 0.95 and 0.85", mean(got), got[0])
	}
}

// slowEnds tells a source of attempts that took so long while places filled, and of what was refused then.
func slowEnds(t *testing.T, took func(n int) time.Duration, patience time.Duration) *TwoArm {
	t.Helper()
	s := mustTwoArm(t, TwoArmOptions{Start: 40})
	now := t0
	for i := range 400 {
		n := min(10+i/4, s.Limit(now))
		now = now.Add(took(n) / time.Duration(n))
		s.Sample(now, Sample{Took: took(n), InUse: n, Entered: n, Patience: patience, Outcome: policy.Success})
		if n == s.Limit(now) && i%4 == 0 {
			s.Refused(now)
		}
	}
	return s
}

func TestLiftOnlyWhatHelps(t *testing.T) {
	for _, tt := range []struct {
		name     string
		took     func(n int) time.Duration
		patience time.Duration
		want     bool
	}{
		{"places bring throughput", func(n int) time.Duration { return time.Second + time.Duration(n)*10*time.Millisecond }, 5 * time.Second, true},
		{"places bring nothing", func(n int) time.Duration { return time.Duration(n) * 25 * time.Millisecond }, 5 * time.Second, false},
		{"callers would be late", func(n int) time.Duration { return time.Second + time.Duration(n)*10*time.Millisecond }, 1700 * time.Millisecond, false},
		{"calls are quick", func(n int) time.Duration { return 500*time.Millisecond + time.Duration(n)*5*time.Millisecond }, 5 * time.Second, false},
		{"nobody says how long he waits", func(n int) time.Duration { return time.Second + time.Duration(n)*10*time.Millisecond }, 0, false},
	} {
		if s := slowEnds(t, tt.took, tt.patience); s.climb.lift != tt.want {
			t.Errorf("%s: lifted: %v, want %v; %+v", tt.name, s.climb.lift, tt.want, s.Snapshot())
		}
	}
}
