package concurrency

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

func TestCircumstances(t *testing.T) {
	for _, tt := range []struct {
		entered  uint64
		patience time.Duration
	}{{1, 0}, {1, time.Nanosecond}, {17, time.Microsecond}, {1 << 17, 100 * time.Millisecond}, {5, 3 * time.Second}, {9, 365 * 24 * time.Hour}} {
		deadline := policy.Time(0)
		if tt.patience > 0 {
			deadline = t0.Add(tt.patience)
		}
		entered, patience := unpack(circumstances(tt.entered, t0, deadline))
		if want := max(tt.patience, 256); entered != int(tt.entered) || tt.patience == 0 && patience != 0 ||
			tt.patience > 0 && (patience > want || patience < want-want/256-1) {
			t.Errorf("%d places and %v come back as %d and %v", tt.entered, tt.patience, entered, patience)
		}
	}
	if _, patience := unpack(circumstances(1, t0, t0-1)); patience != 256 {
		t.Errorf("a deadline that has passed comes back as %v", patience)
	}
}

// samples are attempts that have ended, each at its time.
func samples(source *TwoArm, each func(i int) (at, took, patience time.Duration, entered, inUse int), n int) (fell bool) {
	limit := source.Snapshot().Limit
	for i := range n {
		at, took, patience, entered, inUse := each(i)
		source.Sample(t0.Add(at), Sample{Took: took, InUse: inUse, Entered: entered, Patience: patience, Outcome: policy.Success})
		fell = fell || source.Snapshot().Limit < limit/2
	}
	return fell
}

func TestStrain(t *testing.T) {
	const patience = 100 * time.Millisecond
	noise := rand.New(rand.NewPCG(1, 2))
	about := func(d time.Duration) time.Duration { return time.Duration(float64(d) * (0.9 + 0.2*noise.Float64())) }
	for _, tt := range []struct {
		name string
		each func(i int) (at, took, patience time.Duration, entered, inUse int)
		want bool
	}{
		{"what is over its capacity is seen before anything is late", func(i int) (time.Duration, time.Duration, time.Duration, int, int) {
			n := 8 + i/3 // 800 a second are done; places fill by one with every third
			return time.Duration(i) * time.Second / 800, about(time.Duration(n) * time.Second / 800), patience, n, n + n/3
		}, true},
		{"the same for callers who have time", func(i int) (time.Duration, time.Duration, time.Duration, int, int) {
			n := 8 + i/3
			return time.Duration(i) * time.Second / 800, about(time.Duration(n) * time.Second / 800), time.Second, n, n + n/3
		}, false},
		{"callers in a hurry, whom more places do not delay", func(i int) (time.Duration, time.Duration, time.Duration, int, int) {
			n := 8 + i/3
			return time.Duration(i) * time.Second / 800, about(95 * time.Millisecond), patience, n, n + n/3
		}, false},
		{"what it waits for gets slow, and places fill because of that", func(i int) (time.Duration, time.Duration, time.Duration, int, int) {
			if i < 60 {
				return time.Duration(i) * time.Second / 800, about(20 * time.Millisecond), patience, 16, 16
			}
			n := min(16+i-60, 80) // what came first when it got slow ends first
			return time.Duration(i)*time.Second/800 + patience, about(100 * time.Millisecond), patience, n, 80
		}, false},
		{"one method of two waits", func(i int) (time.Duration, time.Duration, time.Duration, int, int) {
			at := time.Duration(i) * time.Second / 800
			if i%5 > 0 {
				return at, time.Millisecond, patience, 20, 80
			}
			n := 8 + i/3
			return at, about(time.Duration(n) * time.Second / 160), patience, n, n + n/3
		}, false},
		{"nobody says how long he waits", func(i int) (time.Duration, time.Duration, time.Duration, int, int) {
			n := 8 + i/3
			return time.Duration(i) * time.Second / 800, about(time.Duration(n) * time.Second / 800), 0, n, n + n/3
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			source := mustTwoArm(t, TwoArmOptions{Start: 160})
			source.pace, source.came = 640, 640 // which ended in a second before, and began
			if got := samples(source, tt.each, 210); got != tt.want {
				t.Errorf("places were taken away: %v, want %v; %+v", got, tt.want, source.strain)
			}
			if s := source.Snapshot(); tt.want && (s.Places < 30 || s.Places > 60) {
				t.Errorf("there are %.0f places, want about the 48 with which what begins takes 60 ms", s.Places)
			}
		})
	}
}

// TestStrainWhereMoreArrive: with a fifth of the places in use nothing is taken away, unless it is more calls than lately that fill them.
func TestStrainWhereMoreArrive(t *testing.T) {
	for _, tt := range []struct {
		came float64 // in a second, before
		want bool
	}{{640, true}, {1100, false}, {0, false}} {
		source := mustTwoArm(t, TwoArmOptions{Start: 320})
		source.pace, source.came = 640, tt.came
		if got := samples(source, func(i int) (time.Duration, time.Duration, time.Duration, int, int) {
			n := 8 + i/3
			return time.Duration(i) * time.Second / 800, time.Duration(n) * time.Second / 800, 100 * time.Millisecond, n, n + n/3
		}, 150); got != tt.want {
			t.Errorf("%v came in a second before: places were taken away: %v, want %v", tt.came, got, tt.want)
		}
	}
}

// Callers with deadlines so short that nobody could keep them do not take places from others for good, though there are calm times in between.
func TestStrainKeepsAnEighth(t *testing.T) {
	source := mustTwoArm(t, TwoArmOptions{Start: 160, Min: 4})
	for round := range 4 {
		samples(source, func(i int) (time.Duration, time.Duration, time.Duration, int, int) {
			n := 1 + i%120
			return time.Duration(round*2000+i) * time.Millisecond, time.Duration(n) * time.Millisecond, time.Millisecond, n, min(n, source.Snapshot().Limit)
		}, 1000)
		if s := source.Snapshot(); s.Places < 160/8 || s.Places > 160/4 {
			t.Errorf("round %d: there are %v places, want about an eighth of 160, and no less", round, s.Places)
		}
		source.begin(t0.Add(time.Duration(round*2000+1000)*time.Millisecond), calm)
	}
}

func TestTrial(t *testing.T) {
	const promised = 55 * time.Millisecond // for 20 places
	ended := func(after, took time.Duration, entered int, o policy.Outcome) func(*trial) (kept, over bool) {
		return func(r *trial) (bool, bool) {
			return r.add(t0.Add(after), &Sample{Took: took, Entered: entered, Outcome: o})
		}
	}
	for _, tt := range []struct {
		name       string
		each       func(*trial) (kept, over bool)
		n          int // after so many it is over, 0 = never
		keeps      bool
		notCounted bool
	}{
		{"as promised", ended(time.Second, promised, 20, policy.Success), trialMost, true, false},
		{"shorter", ended(time.Second, promised/2, 20, policy.Success), trialMost, true, false},
		{"a little longer", ended(time.Second, promised*11/10, 20, policy.Success), trialMost, true, false},
		{"much longer", ended(time.Second, 2*promised, 20, policy.Success), 20, false, false},
		{"a third longer", ended(time.Second, promised*4/3, 20, policy.Success), 111, false, false},
		{"much longer, and all too late", ended(time.Second, 2*promised, 20, policy.TimedOut), trialMost, true, false},
		{"began before", ended(time.Second, time.Second+1, 20, policy.Success), 0, false, true},
		{"alone", ended(time.Second, 2*promised, 9, policy.Success), 0, false, true},
		{"long ago", ended(trialLasts+1, 2*promised, 20, policy.Success), 1, true, true},
		{"the clock went back", ended(-time.Hour, 2*promised, 20, policy.Success), 1, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := trial{back: 80, began: t0, least: 10, b: promised.Seconds() / 20}
			n, kept := 0, false
			for i := 1; i <= 2*trialMost && n == 0; i++ {
				var over bool
				if kept, over = tt.each(&r); over {
					n = i
				}
			}
			if n != tt.n || n > 0 && kept != tt.keeps || (r.n == 0) != tt.notCounted {
				t.Errorf("over after %d, kept: %v; want %d, %v; %+v", n, kept, tt.n, tt.keeps, r)
			}
		})
	}
}

// A promise that is not kept is taken back, and the next is waited for ever longer, until one is kept.
func TestTried(t *testing.T) {
	source := mustTwoArm(t, TwoArmOptions{Start: 160})
	now := t0
	for i, want := range []time.Duration{restLeast, 2 * restLeast, 4 * restLeast, 8 * restLeast, restMost, restMost} {
		source.trial = trial{back: 160}
		source.climb.ceilingLeft = ceilingLasts
		source.fall(now, 40)
		source.tried(now, false)
		if s := source.Snapshot(); s.Places != 160 || s.Limit < 160 || s.Saturated || source.climb.ceilingLeft > 0 || source.rest != want || source.trial.back > 0 {
			t.Errorf("%d: rests %v, want %v; %+v", i, source.rest, want, s)
		}
		now = now.Add(want)
	}
	source.trial = trial{back: 160}
	source.fall(now, 40)
	source.tried(now, true)
	if s := source.Snapshot(); s.Places != 40 || source.rest != 0 || source.trial.back > 0 {
		t.Errorf("a promise was kept: rests %v, want 0; %+v, want 40 places", source.rest, s)
	}
	source.trial = trial{back: 30} // it has climbed since
	source.tried(now, false)
	if s := source.Snapshot(); s.Places != 40 || source.rest != restLeast {
		t.Errorf("there are %v places and it rests %v, want 40 and %v", s.Places, source.rest, restLeast)
	}
}

// As long as it rests nothing is taken away.
func TestStrainRests(t *testing.T) {
	for _, rest := range []time.Duration{0, restMost} {
		source := mustTwoArm(t, TwoArmOptions{Start: 160})
		source.pace, source.rested, source.rest = 640, t0.Add(-restLeast), rest
		fell := samples(source, func(i int) (time.Duration, time.Duration, time.Duration, int, int) {
			n := 8 + i/3
			return time.Duration(i) * time.Second / 800, time.Duration(n) * time.Second / 800, 100 * time.Millisecond, n, n + n/3
		}, 210)
		if fell != (rest == 0) {
			t.Errorf("rests for %v: places were taken away: %v", rest, fell)
		}
	}
}

// What was seen before a pause says nothing about what comes after it, nor does what lies ahead because the clock went back.
func TestStrainForgets(t *testing.T) {
	var r strain
	for i := range 40 {
		r.add(t0, i, time.Second, time.Second)
	}
	if r.add(t0.Add(strainLasts+1), 1, time.Second, time.Second); r.n != 1 {
		t.Errorf("after a pause %v attempts are remembered", r.n)
	}
	if r.add(t0.Add(-time.Hour), 1, time.Second, time.Second); r.n != 1 {
		t.Errorf("after the clock went back %v attempts are remembered", r.n)
	}
}

// A permit carries what a source learns from, whichever way the place was got.
func TestPermitsSayHowItWas(t *testing.T) {
	source := mustTwoArm(t, TwoArmOptions{Start: 40})
	l := must(t, Options{Source: source})
	c := &policy.Call{Deadline: t0.Add(time.Second)}
	check := func(how string, p policy.Permit, want int) {
		t.Helper()
		if entered, patience := unpack(p.Gen); entered != want || patience < 990*time.Millisecond {
			t.Errorf("%s: %d places and %v, want %d and 1s", how, entered, patience, want)
		}
	}
	check("admitted", l.Admit(t0, nil, c).Permit, 1)
	p, _ := l.Pass(t0, c.Deadline, c.Criticality)
	check("passed", p, 2)
	_, v := l.Join(t0, nil, c, policy.Waiting{})
	check("joined", v.Permit, 3)
	for l.Admit(t0, nil, c).Decision.Admits() {
	}
	if _, v := l.Join(t0, nil, c, policy.Waiting{}); v.Decision != policy.Park {
		t.Fatalf("a full limiter says %+v", v)
	}
	n := l.Snapshot().InUse
	l.Done(t0, nil, p, policy.Success)
	if _, v, ok := l.Next(t0, nil); ok {
		check("waited", v.Permit, n)
	} else {
		t.Error("who waited did not get the place")
	}
}
