package chaos_test

import (
	"math"
	"testing"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// TestExcuse has calls that failed, and times in which their caller stood still: only what the one shows to come from the other is excused.
func TestExcuse(t *testing.T) {
	const ms = time.Millisecond
	late, cutOff := status.Errorf(status.DeadlineExceeded, "no answer"), status.Errorf(status.Unavailable, "reset")
	began := policy.Now().Add(-time.Second)
	stood := func(from, to time.Duration) span { return span{began.Add(from), began.Add(to)} }
	under, before := stood(50*ms, 200*ms), stood(-1500*ms, -1300*ms)
	first := hull.AttemptInfo{Took: 120 * ms, Err: late}
	second := hull.AttemptInfo{Began: 300 * ms, Took: 120 * ms, Err: late}
	reset := hull.AttemptInfo{Began: 300 * ms, Took: 120 * ms, Err: cutOff}
	for _, tt := range []struct {
		name     string
		err      error
		stalls   []span
		attempts []hull.AttemptInfo
		by       string
		excused  bool
	}{
		{"nothing stood still", late, nil, []hull.AttemptInfo{first}, "retry", false},
		{"under the only attempt", late, []span{under}, []hull.AttemptInfo{first}, "retry", true},
		{"under one of two", late, []span{under}, []hull.AttemptInfo{first, second}, "retry", false},
		{"under both", late, []span{under, stood(310*ms, 430*ms)}, []hull.AttemptInfo{first, second}, "retry", true},
		{"under one, and the other was cut off", late, []span{under}, []hull.AttemptInfo{first, reset}, "retry", true},
		{"often and never for long", late, []span{stood(0, 60*ms), stood(61*ms, 119*ms)}, []hull.AttemptInfo{first}, "retry", false},
		{"before, and no budget is left", late, []span{before}, []hull.AttemptInfo{first}, "budget", true},
		{"before, and there was budget", late, []span{before}, []hull.AttemptInfo{first}, "retry", false},
		{"long before, and no budget is left", late, []span{stood(-3000*ms, -2500*ms)}, []hull.AttemptInfo{first}, "budget", false},
		{"cut off", cutOff, []span{under}, []hull.AttemptInfo{first, reset}, "budget", false},
		{"never attempted", late, []span{under}, nil, "", false},
	} {
		c := &caller{stalls: tt.stalls}
		if got := c.excuse(began, &hull.CallInfo{Attempts: tt.attempts, StoppedBy: tt.by}, tt.err); (got != "") != tt.excused {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}

// TestSickLately has calls of the sick method, and callers that stood still after it was well again: only for so long are they granted more time.
func TestSickLately(t *testing.T) {
	const ms = time.Millisecond
	well := policy.Time(10 * sickEvery).Add(sickFor)
	after := func(d time.Duration) policy.Time { return well.Add(d) }
	grant := reopening + time.Second
	for _, tt := range []struct {
		name       string
		began, end policy.Time
		stalls     []span
		sick       bool
	}{
		{"while it is sick", after(-ms), after(ms), nil, true},
		{"just well", after(0), after(ms), nil, true},
		{"for nearly as long as it takes", after(grant - ms), after(grant), nil, true},
		{"for as long as it takes", after(grant), after(grant + ms), nil, false},
		{"stood still meanwhile", after(grant + 200*ms), after(grant + 201*ms), []span{{after(300 * ms), after(3300 * ms)}}, true},
		{"stood still, and had its time", after(grant + 3*time.Second), after(grant + 3*time.Second), []span{{after(300 * ms), after(3300 * ms)}}, false},
		{"stood still before it was well", after(grant + 200*ms), after(grant + 201*ms), []span{{after(-2900 * ms), after(100 * ms)}}, false},
		{"stood still twice", after(grant + 200*ms), after(grant + 201*ms), []span{{after(0), after(150 * ms)}, {after(time.Second), after(1100 * ms)}}, true},
		{"long well", after(30 * time.Second), after(30 * time.Second), []span{{after(20 * time.Second), after(29 * time.Second)}}, false},
		{"sick when it ends", after(sickEvery - sickFor - ms), after(sickEvery - sickFor + ms), nil, true},
	} {
		c := &caller{stalls: tt.stalls}
		if got := c.sick(tt.began, tt.end); got != tt.sick {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// TestSlope has a heap that grows by a mebibyte in ten minutes while it swings, and one that only swings.
func TestSlope(t *testing.T) {
	for _, grows := range []float64{0, 1 << 20} {
		var all []sample
		for sec := range 900 {
			all = append(all, sample{At: policy.Time(time.Hour).Add(time.Duration(sec) * time.Second), Heap: uint64(4<<20 + grows*float64(sec)/600 + float64(sec%7)*1e5)})
		}
		if got := slopeOf(all) * 600; math.Abs(got-grows) > 1<<14 {
			t.Errorf("%.0f bytes in ten minutes, want %.0f", got, grows)
		}
	}
}
