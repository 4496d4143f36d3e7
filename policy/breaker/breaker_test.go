package breaker

import (
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// steady is a source of chance that always says the same.
type steady uint64

func (s steady) Uint64() uint64 { return uint64(s) }

const (
	low  steady = 0
	mid  steady = 1 << 63
	high steady = 1<<64 - 1
)

// t0 is when tests begin: a bucket's boundary.
const t0 = policy.Time(1_700_000_000 * time.Second)

func at(d time.Duration) policy.Time { return t0.Add(d) }

func must(t testing.TB, o Options) *Breaker {
	t.Helper()
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// plain has round numbers.
var plain = Options{Jitter: -1, Ramp: -1}

// call makes one call with outcome o and reports whether it was admitted.
func call(b *Breaker, now policy.Time, o policy.Outcome) bool {
	v := b.Admit(now, mid, nil)
	if v.Decision.Admits() {
		b.Done(now, mid, v.Permit, o)
	}
	return v.Decision.Admits()
}

func calls(b *Breaker, now policy.Time, n int, o policy.Outcome) {
	for range n {
		call(b, now, o)
	}
}

func wantState(t *testing.T, b *Breaker, now policy.Time, want State) {
	t.Helper()
	if got := b.State(now); got != want {
		t.Fatalf("at %v: %v, want %v", now.Sub(t0), got, want)
	}
}

// opened returns a breaker that opened at t0.
func opened(t testing.TB, o Options) *Breaker {
	t.Helper()
	b := must(t, o)
	calls(b, t0, 20, policy.Failure)
	if s := b.State(t0); s != Open {
		t.Fatalf("%v, want open", s)
	}
	return b
}

func TestWhatOpens(t *testing.T) {
	tests := []struct {
		name string
		o    Options
		run  func(b *Breaker)
		want State
	}{
		{"nothing", plain, func(*Breaker) {}, Closed},
		{"19 failures are too few", plain, func(b *Breaker) { calls(b, t0, 19, policy.Failure) }, Closed},
		{"20 failures", plain, func(b *Breaker) { calls(b, t0, 20, policy.Failure) }, Open},
		{"20 timeouts", plain, func(b *Breaker) { calls(b, t0, 20, policy.TimedOut) }, Open},
		{"half of them", plain, func(b *Breaker) { calls(b, t0, 10, policy.Success); calls(b, t0, 10, policy.Failure) }, Open},
		{"less than half", plain, func(b *Breaker) { calls(b, t0, 11, policy.Success); calls(b, t0, 10, policy.Failure) }, Closed},
		{"a success is no reason", plain, func(b *Breaker) { calls(b, t0, 19, policy.Failure); call(b, t0, policy.Success) }, Closed},
		{"the next failure is", plain, func(b *Breaker) {
			calls(b, t0, 19, policy.Failure)
			call(b, t0, policy.Success)
			call(b, t0, policy.Failure)
		}, Open},
		{"old ones are forgotten", plain, func(b *Breaker) {
			calls(b, at(-11*time.Second), 19, policy.Failure)
			call(b, t0, policy.Failure)
		}, Closed},
		{"cancelled calls neither fail nor dilute", plain, func(b *Breaker) {
			calls(b, t0, 1000, policy.Ignored)
			calls(b, t0, 20, policy.Failure)
		}, Open},
		{"cancels alone do not", plain, func(b *Breaker) { calls(b, t0, 1000, policy.Ignored) }, Closed},
		{"sheds alone do not", plain, func(b *Breaker) { calls(b, t0, 1000, policy.Overloaded) }, Closed},
		{"another share", Options{Failures: 0.9}, func(b *Breaker) { calls(b, t0, 4, policy.Success); calls(b, t0, 35, policy.Failure) }, Closed},
		{"another minimum", Options{MinCalls: 3}, func(b *Breaker) { calls(b, t0, 3, policy.Failure) }, Open},
		{"consecutive", Options{Consecutive: 3}, func(b *Breaker) { calls(b, t0, 50, policy.Success); calls(b, t0, 3, policy.Failure) }, Open},
		{"consecutive, interrupted", Options{Consecutive: 3}, func(b *Breaker) {
			calls(b, t0, 50, policy.Success)
			calls(b, t0, 2, policy.Failure)
			call(b, t0, policy.Success)
			calls(b, t0, 2, policy.Failure)
		}, Closed},
		{"the latest five, three of them failed", Options{LastCalls: 5, Failures: 0.6}, func(b *Breaker) {
			calls(b, at(-time.Hour), 3, policy.Failure) // age does not matter
			call(b, t0, policy.Success)
			call(b, t0, policy.Failure)
		}, Open},
		{"the sixth pushes the first out", Options{LastCalls: 5, Failures: 0.6}, func(b *Breaker) {
			calls(b, t0, 2, policy.Failure)
			calls(b, t0, 4, policy.Success)
			call(b, t0, policy.Failure)
		}, Closed},
		{"four of five calls are too few", Options{LastCalls: 5}, func(b *Breaker) { calls(b, t0, 4, policy.Failure) }, Closed},
		{"the latest calls, slow ones", Options{LastCalls: 10, Slow: time.Second, SlowCalls: 0.5}, func(b *Breaker) { slowCalls(b, 10) }, Open},
		{"slow calls are only counted", Options{Slow: time.Second}, func(b *Breaker) { slowCalls(b, 100) }, Closed},
		{"slow calls with a share", Options{Slow: time.Second, SlowCalls: 0.5}, func(b *Breaker) { slowCalls(b, 20) }, Open},
		{"slow calls below the share", Options{Slow: time.Second, SlowCalls: 0.5}, func(b *Breaker) {
			calls(b, t0, 20, policy.Success)
			slowCalls(b, 19)
		}, Closed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := must(t, tt.o)
			tt.run(b)
			wantState(t, b, t0, tt.want)
		})
	}
}

func slowCalls(b *Breaker, n int) {
	for range n {
		v := b.Admit(at(-time.Second), mid, nil)
		b.Done(t0, mid, v.Permit, policy.Success)
	}
}

// Unless it is told to let the time grow, a breaker is never open for longer than the first time: an outage does not outlast itself.
func TestOpenTimesStay(t *testing.T) {
	b := opened(t, plain)
	now := t0
	for range 10 {
		s := b.Snapshot(now)
		if d := s.Until.Sub(now); d != time.Second {
			t.Fatalf("opening %d: %v, want 1s", s.Openings, d)
		}
		now = s.Until
		if !call(b, now, policy.Failure) {
			t.Fatal("no probe after a second")
		}
	}
}

func TestOpenTimesGrow(t *testing.T) {
	o := plain
	o.OpenCap = 30 * time.Second
	b := opened(t, o)
	now := t0
	for _, seconds := range []int{1, 2, 4, 8, 16, 30, 30} {
		want := time.Duration(seconds) * time.Second
		if s := b.Snapshot(now); s.Until.Sub(now) != want {
			t.Fatalf("opening %d: %v, want %v", s.Openings, s.Until.Sub(now), want)
		}
		if v := b.Admit(now.Add(want-1), mid, nil); v.Decision != policy.Refuse || v.State != "open" || v.At != now.Add(want) || v.Reason == "" {
			t.Fatalf("a nanosecond too early: %+v", v)
		}
		now = now.Add(want)
		if !call(b, now, policy.Failure) {
			t.Fatalf("no probe after %v", want)
		}
	}
}

func TestJitterSpreadsAndStaysBelowTheCap(t *testing.T) {
	for _, tt := range []struct {
		rnd       steady
		first     time.Duration
		atCapMin  time.Duration
		atCapMost time.Duration
	}{
		{low, 800 * time.Millisecond, 19 * time.Second, 21 * time.Second},
		{mid, time.Second, 24 * time.Second, 26 * time.Second},
		{high, 1200 * time.Millisecond, 29 * time.Second, 30 * time.Second},
	} {
		b := must(t, Options{OpenCap: 30 * time.Second})
		for range 20 {
			b.Done(t0, tt.rnd, b.Admit(t0, tt.rnd, nil).Permit, policy.Failure)
		}
		d := b.Snapshot(t0).Until.Sub(t0)
		if diff := d - tt.first; diff < -time.Microsecond || diff > time.Microsecond {
			t.Errorf("first opening %v, want %v", d, tt.first)
		}
		now := t0
		for range 10 {
			now = b.Snapshot(now).Until
			b.Done(now, tt.rnd, b.Admit(now, tt.rnd, nil).Permit, policy.Failure)
		}
		if d := b.Snapshot(now).Until.Sub(now); d < tt.atCapMin || d > tt.atCapMost {
			t.Errorf("at the cap %v, want %v to %v", d, tt.atCapMin, tt.atCapMost)
		}
	}
}

func TestOpeningsInARowEndAfterAQuietWindow(t *testing.T) {
	for _, tt := range []struct {
		quiet time.Duration
		want  int
	}{{9 * time.Second, 2}, {10 * time.Second, 1}} {
		b := opened(t, plain)
		closed := at(time.Second)
		calls(b, closed, 3, policy.Success)
		wantState(t, b, closed, Closed)
		now := closed.Add(tt.quiet)
		calls(b, now, 20, policy.Failure)
		if got := b.Snapshot(now).Openings; got != tt.want {
			t.Errorf("fails again %v after closing: opening %d in a row, want %d", tt.quiet, got, tt.want)
		}
	}
}

func TestHalfOpen(t *testing.T) {
	b := opened(t, plain)
	now := at(time.Second)
	v := b.Admit(now, mid, nil)
	if v.Decision != policy.Probe {
		t.Fatalf("%+v, want a probe", v)
	}
	if w := b.Admit(now.Add(time.Millisecond), mid, nil); w.Decision != policy.Refuse || w.State != "half-open" || w.At != now.Add(time.Second) {
		t.Fatalf("beside a probe: %+v", w)
	}
	if w := b.Admit(now.Add(2*time.Second), mid, nil); w.Decision != policy.Refuse || w.At != now.Add(5*time.Second) {
		t.Fatalf("a second later and the probe still out: %+v, want back when its lease ends", w)
	}
	b.Done(now.Add(2*time.Second), mid, v.Permit, policy.Success)
	now = now.Add(2 * time.Second)
	if s := b.Snapshot(now); s.State != HalfOpen || s.Probes != 1 || s.ProbeOut {
		t.Fatalf("%+v, want one success", s)
	}
	for range 2 {
		if !call(b, now, policy.Success) {
			t.Fatal("after a success the next probe has to wait")
		}
	}
	wantState(t, b, now, Closed)
	if s := b.Snapshot(now); s.Calls != 0 {
		t.Errorf("%d calls in the window of a breaker that has just closed", s.Calls)
	}
}

func TestAFailedProbeOpens(t *testing.T) {
	b := opened(t, plain)
	now := at(time.Second)
	call(b, now, policy.Success)
	call(b, now, policy.Success)
	call(b, now, policy.Failure)
	if s := b.Snapshot(now); s.State != Open || s.Openings != 2 {
		t.Fatalf("%+v, want open for the second time", s)
	}
	now = now.Add(2 * time.Second)
	call(b, now, policy.Success)
	if s := b.Snapshot(now); s.Probes != 1 {
		t.Errorf("%d successes, want the count to begin again", s.Probes)
	}
}

func TestRamp(t *testing.T) {
	b := opened(t, Options{Jitter: -1})
	now := at(time.Second)
	calls(b, now, 3, policy.Success)
	wantState(t, b, now, Ramp)
	share := func(u float64) steady { return steady(u * (1 << 63) * 2) }
	for _, tt := range []struct {
		after time.Duration
		u     float64
		want  policy.Decision
	}{
		{0, 0.09, policy.Admit}, {0, 0.11, policy.Refuse},
		{500 * time.Millisecond, 0.54, policy.Admit}, {500 * time.Millisecond, 0.56, policy.Refuse},
		{999 * time.Millisecond, 0.99, policy.Admit}, {time.Second, 0.9999, policy.Admit},
	} {
		v := b.Admit(now.Add(tt.after), share(tt.u), nil)
		if v.Decision != tt.want {
			t.Errorf("after %v, chance %v: %v, want %v", tt.after, tt.u, v.Decision, tt.want)
		}
		if v.Decision == policy.Refuse && v.State != "ramp" {
			t.Errorf("refused in state %q", v.State)
		}
	}
	wantState(t, b, now.Add(time.Second), Closed)
	v := b.Admit(now, low, nil)
	b.Done(now.Add(2*time.Second), mid, v.Permit, policy.Failure)
	if s := b.Snapshot(now.Add(2 * time.Second)); s.Failed != 1 {
		t.Errorf("a call admitted in the ramp does not count after it: %+v", s)
	}
}

func TestFailuresDuringTheRampOpen(t *testing.T) {
	b := opened(t, Options{Jitter: -1})
	now := at(time.Second)
	calls(b, now, 3, policy.Success)
	for range 20 {
		b.Done(now, low, b.Admit(now, low, nil).Permit, policy.Failure)
	}
	if s := b.Snapshot(now); s.State != Open || s.Openings != 2 {
		t.Fatalf("%+v, want open for the second time", s)
	}
}

func TestPushback(t *testing.T) {
	b := opened(t, plain)
	b.Pushback(at(100*time.Millisecond), 5*time.Second)
	if got := b.Snapshot(at(time.Second)).Until; got != at(5100*time.Millisecond) {
		t.Errorf("open until %v, want 5.1s", got.Sub(t0))
	}
	b.Pushback(at(200*time.Millisecond), time.Hour)
	if got := b.Snapshot(at(time.Second)).Until; got != at(30*time.Second) {
		t.Errorf("open until %v, want the cap", got.Sub(t0))
	}
	b = must(t, plain)
	b.Pushback(t0, 5*time.Second)
	b.Pushback(t0, -time.Second)
	wantState(t, b, t0, Closed)
	calls(b, at(time.Second), 20, policy.Failure)
	if got := b.Snapshot(at(time.Second)).Until; got != at(5*time.Second) {
		t.Errorf("said while closed: open until %v, want 5s", got.Sub(t0))
	}
	b.Pushback(at(6*time.Second), 5*time.Second)
	wantState(t, b, at(6*time.Second), HalfOpen)
}

func TestByHand(t *testing.T) {
	b := must(t, plain)
	b.ForceOpen(t0)
	if v := b.Admit(at(time.Hour), mid, nil); v.Decision != policy.Refuse || v.State != "forced-open" || v.At != 0 {
		t.Errorf("forced open: %+v", v)
	}
	b.ForceClosed(t0)
	calls(b, t0, 100, policy.Failure)
	if s := b.Snapshot(t0); s.State != ForcedClosed || s.Failed != 100 {
		t.Errorf("forced closed: %+v, want 100 failures counted", s)
	}
	b.Disable(t0)
	calls(b, t0, 100, policy.Failure)
	if s := b.Snapshot(t0); s.State != Disabled || s.Calls != 0 {
		t.Errorf("disabled: %+v", s)
	}
	b.Reset(t0)
	calls(b, t0, 20, policy.Failure)
	wantState(t, b, t0, Open)
	b.Reset(t0)
	if s := b.Snapshot(t0); s.State != Closed || s.Calls != 0 || s.Openings != 0 {
		t.Errorf("reset: %+v", s)
	}
}

func TestHolds(t *testing.T) {
	b := must(t, plain)
	early := b.Admit(t0, mid, nil).Permit
	if !b.Holds(t0, early) {
		t.Error("closed: does not hold")
	}
	calls(b, t0, 20, policy.Failure)
	if b.Holds(t0, early) {
		t.Error("open: holds")
	}
	now := at(time.Second)
	probe := b.Admit(now, mid, nil).Permit
	if b.Holds(now, early) || !b.Holds(now, probe) {
		t.Error("half-open: want the probe to hold, and nobody else")
	}
	b.Done(now, mid, probe, policy.Success)
	calls(b, now, 2, policy.Success)
	if !b.Holds(now, early) {
		t.Error("closed again: does not hold")
	}
	b.ForceOpen(now)
	if b.Holds(now, early) {
		t.Error("forced open: holds")
	}
}

func TestEvents(t *testing.T) {
	b := must(t, Options{Jitter: -1})
	if ev := b.Events(t0, 0); len(ev) != 1 || ev[0] != (policy.Event{Seq: 1, To: "closed", Reason: "created"}) {
		t.Fatalf("at first: %+v", ev)
	}
	calls(b, t0, 20, policy.Failure)
	calls(b, at(90*time.Second), 3, policy.Success)
	want := []policy.Event{
		{Seq: 2, At: t0, From: "closed", To: "open", Reason: "too many calls failed", Until: at(time.Second), Refusing: true},
		{Seq: 3, At: at(time.Second), From: "open", To: "half-open", Reason: "its time is over", Refusing: true},
		{Seq: 4, At: at(90 * time.Second), From: "half-open", To: "ramp", Reason: "enough probes succeeded", Until: at(91 * time.Second)},
		{Seq: 5, At: at(91 * time.Second), From: "ramp", To: "closed", Reason: "all calls are let through again"},
	}
	got := b.Events(at(100*time.Second), 1) // nobody has called since, and yet the ramp is over
	if len(got) != len(want) {
		t.Fatalf("%+v, want %+v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("event %d: %+v, want %+v", i, got[i], want[i])
		}
	}
	if ev := b.Events(at(100*time.Second), 5); ev != nil {
		t.Errorf("nothing new, and yet %+v", ev)
	}
}

func TestWrongOptions(t *testing.T) {
	_, err := New(Options{Window: -1, Buckets: -2, MinCalls: -1, Failures: 1.5, Consecutive: -1, Slow: -1, SlowCalls: 2,
		Open: time.Minute, OpenCap: time.Second, PushbackCap: time.Millisecond, Jitter: 1, ProbeEvery: 10 * time.Second, ProbeLease: time.Second, Successes: -3})
	if err == nil {
		t.Fatal("no error")
	}
	for _, word := range []string{"breaker: ", "Window", "Buckets", "MinCalls", "Failures", "Consecutive", "Slow", "SlowCalls", "OpenCap", "PushbackCap", "Jitter", "ProbeLease", "Successes"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not name %s: %v", word, err)
		}
	}
	if _, err := New(Options{Window: time.Millisecond}); err == nil {
		t.Error("a window of 1ms in 10 buckets: no error")
	}
	for _, o := range []Options{{LastCalls: -1}, {LastCalls: maxLast + 1}, {LastCalls: 10, MinCalls: 11}} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), "LastCalls") {
			t.Errorf("%+v: %v, want an error that names LastCalls", o, err)
		}
	}
	if _, err := New(Options{SlowCalls: 0.5}); err == nil {
		t.Error("SlowCalls without Slow: no error")
	}
}

func TestNothingAllocates(t *testing.T) {
	for _, o := range []Options{{}, {LastCalls: 100}} {
		b := must(t, o)
		if n := testing.AllocsPerRun(1000, func() { call(b, t0, policy.Success) }); n != 0 {
			t.Errorf("%+v, closed: %v allocations", o, n)
		}
	}
	b := opened(t, Options{})
	if n := testing.AllocsPerRun(1000, func() { call(b, t0, policy.Success) }); n != 0 {
		t.Errorf("open: %v allocations", n)
	}
}
