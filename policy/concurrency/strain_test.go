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
			source.pace = 640 // which ended in a second before
			if got := samples(source, tt.each, 210); got != tt.want {
				t.Errorf("places were taken away: %v, want %v; %+v", got, tt.want, source.strain)
			}
			if s := source.Snapshot(); tt.want && (s.Places < 30 || s.Places > 60) {
				t.Errorf("there are %.0f places, want about the 48 with which what begins takes 60 ms", s.Places)
			}
		})
	}
}

// Callers with deadlines so short that nobody could keep them do not take places from others for good.
func TestStrainKeepsAnEighth(t *testing.T) {
	source := mustTwoArm(t, TwoArmOptions{Start: 160, Min: 4})
	samples(source, func(i int) (time.Duration, time.Duration, time.Duration, int, int) {
		n := 1 + i%40
		return time.Duration(i) * time.Millisecond, time.Duration(n) * time.Millisecond, time.Millisecond, n, min(n, source.Snapshot().Limit)
	}, 2000)
	if s := source.Snapshot(); s.Places < 160/8 {
		t.Errorf("there are %v places, want an eighth of 160 or more", s.Places)
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
	p, _ := l.Pass(t0, c)
	check("passed", p, 2)
	p, _ = l.PassUntil(t0, c.Deadline)
	check("passed until", p, 3)
	_, v := l.Join(t0, nil, c, policy.Waiting{})
	check("joined", v.Permit, 4)
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
