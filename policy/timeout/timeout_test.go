package timeout

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

const (
	t0 = policy.Time(1_700_000_000 * time.Second)
	ms = time.Millisecond
)

func must(t testing.TB, o Options) *Timeouts {
	t.Helper()
	to, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// feed records n attempts at now and lets a step pass. It returns the time after the step.
func feed(to *Timeouts, now policy.Time, n int, cl policy.Class, took time.Duration) policy.Time {
	for range n {
		to.Done(now, policy.Ended{Class: cl, Took: took})
	}
	now = now.Add(time.Second)
	to.Fair(now, 0)
	return now
}

func around(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if got < want*92/100 || got > want*108/100 {
		t.Errorf("%s: %v, want about %v", what, got, want)
	}
}

func TestCold(t *testing.T) {
	to := must(t, Options{})
	for left, want := range map[time.Duration]time.Duration{0: time.Second, time.Second: 700 * ms, 3 * time.Second: time.Second, 6 * time.Second: 2 * time.Second, time.Hour: time.Minute} {
		if got := to.Attempt(t0, nil, left, false); got != want {
			t.Errorf("nobody has answered yet, %v left: %v, want %v", left, got, want)
		}
	}
	if got := must(t, Options{Cold: 200 * ms}).Attempt(t0, nil, 5*time.Second, false); got != 200*ms {
		t.Errorf("%v, want the 200ms that somebody wished", got)
	}
	to.Done(t0, policy.Ended{Class: policy.ClassUnavailable, Took: 10 * ms})
	if got := to.Attempt(t0, nil, 6*time.Second, false); got != time.Second {
		t.Errorf("one has answered: %v, want 1s", got)
	}
	to = must(t, Options{})
	now := feed(to, t0, 99, policy.ClassOK, 10*ms)
	if got := to.Attempt(now, nil, 5*time.Second, false); got != time.Second {
		t.Errorf("after 99 samples %v, want 1s still", got)
	}
	now = feed(to, now, 1, policy.ClassOK, 10*ms)
	if got := to.Attempt(now, nil, 5*time.Second, false); got != 100*ms {
		t.Errorf("after 100 fast ones %v, want the least", got)
	}
}

func TestLearns(t *testing.T) {
	to := must(t, Options{})
	now := feed(to, t0, 1000, policy.ClassOK, 200*ms)
	around(t, "twice the p99", to.Attempt(now, nil, 5*time.Second, false), 400*ms)
	now = feed(to, now, 1000, policy.ClassOK, 300*ms)
	around(t, "it rises at once", to.Attempt(now, nil, 5*time.Second, false), 600*ms)
}

func TestWhatAnAttemptGets(t *testing.T) {
	learned := func(t *testing.T, o Options) (*Timeouts, policy.Time) {
		to := must(t, o)
		now := feed(to, t0, 1000, policy.ClassOK, 200*ms) // p90 200 ms, timeout 400 ms
		return to, now
	}
	tests := []struct {
		name string
		o    Options
		left time.Duration
		last bool
		want time.Duration // 0 = what was learned
	}{
		{"plenty left", Options{}, 5 * time.Second, false, 0},
		{"no deadline", Options{}, 0, false, 0},
		{"70 % of what is left", Options{}, 500 * ms, false, 350 * ms},
		{"70 % would not be fair: all", Options{}, 250 * ms, false, 0},
		{"next to nothing left", Options{}, 1 * ms, false, 0},
		{"the last gets all", Options{}, 5 * time.Second, true, 5 * time.Second},
		{"the last, and its caller in haste", Options{}, 1 * ms, true, 0},
		{"the last without a deadline", Options{}, 0, true, 5 * time.Second},
		{"the last without a deadline, as set", Options{NoDeadline: time.Minute}, 0, true, time.Minute},
		{"fixed", Options{Fixed: 50 * ms}, 5 * time.Second, false, 50 * ms},
		{"fixed, the last", Options{Fixed: 50 * ms}, 5 * time.Second, true, 50 * ms},
		{"fixed, more than is left", Options{Fixed: time.Second}, 500 * ms, false, time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			to, now := learned(t, tt.o)
			want := tt.want
			if want == 0 {
				want = 400 * ms
			}
			around(t, "got", to.Attempt(now, nil, tt.left, tt.last), want)
		})
	}
}

// One caller with deadlines of 1 ms must not have a healthy fleet ejected; a node that hangs is charged by everybody else.
func TestFair(t *testing.T) {
	to := must(t, Options{})
	if to.Fair(t0, 99*ms) || !to.Fair(t0, 100*ms) {
		t.Error("cold: want 100 ms to be fair and less not")
	}
	now := feed(to, t0, 1000, policy.ClassOK, 20*ms)
	if to.Fair(now, 18*ms) || !to.Fair(now, 22*ms) {
		t.Error("want the p90 of 20 ms to be fair and less not")
	}
	// All hang now: nobody knows the p90, and the last known one stands.
	for range 20 {
		now = feed(to, now, 500, policy.ClassDeadlineLate, 2*time.Second)
	}
	if s := to.Snapshot(now); s.Known || to.Fair(now, 18*ms) || !to.Fair(now, 22*ms) {
		t.Errorf("while all hang: %+v", s)
	}
	to = must(t, Options{})
	now = feed(to, t0, 1000, policy.ClassOK, 900*ms)
	if to.Fair(now, 500*ms) || !to.Fair(now, time.Second) {
		t.Error("a slow service: want its p90 of 900 ms")
	}
	to = must(t, Options{Fixed: 30 * ms})
	if to.Fair(t0, 29*ms) || !to.Fair(t0, 30*ms) {
		t.Error("fixed: want the timeout itself to be fair")
	}
}

func TestFallsSlowly(t *testing.T) {
	to := must(t, Options{})
	now := feed(to, t0, 1000, policy.ClassOK, time.Second)
	before := to.Attempt(now, nil, 0, false)
	for range 60 {
		now = feed(to, now, 1000, policy.ClassOK, ms)
		after := to.Attempt(now, nil, 0, false)
		if float64(after) < 0.899*float64(before) {
			t.Fatalf("fell from %v to %v in one step", before, after)
		}
		before = after
	}
	if before != 100*ms {
		t.Errorf("after a minute %v, want 100ms", before)
	}
}

// A service that becomes 40 times slower is followed by doubling, though at first none of its answers comes in time.
func TestDoublesWhileTheQuantileIsUnknown(t *testing.T) {
	to := must(t, Options{})
	now := feed(to, t0, 1000, policy.ClassOK, 20*ms)
	for want := 200 * ms; want <= 800*ms; want *= 2 {
		now = feed(to, now, 500, policy.ClassTimeout, to.Attempt(now, nil, 0, false))
		around(t, "after a step", to.Attempt(now, nil, 0, false), want)
	}
	now = feed(to, now, 500, policy.ClassTimeout, 800*ms)
	around(t, "without a sign that it helps", to.Attempt(now, nil, 0, false), 800*ms)
	for range 500 {
		to.Done(now, policy.Ended{Class: policy.ClassOK, Took: 900 * ms}) // last attempts, which had more time
	}
	now = feed(to, now, 500, policy.ClassTimeout, 800*ms)
	around(t, "with a sign", to.Attempt(now, nil, 0, false), 1600*ms)
	for range 12 {
		now = feed(to, now, 500, policy.ClassOK, 800*ms)
	}
	around(t, "found", to.Attempt(now, nil, 0, false), 1600*ms)
}

func TestWhatIsNoSample(t *testing.T) {
	to := must(t, Options{})
	now := t0
	for _, cl := range []policy.Class{policy.ClassUnsent, policy.ClassRefused, policy.ClassShed, policy.ClassDraining, policy.ClassQuota,
		policy.ClassHandshake, policy.ClassReset, policy.ClassExpired, policy.ClassOverloaded, policy.ClassNoMethod, policy.ClassProtocol} {
		now = feed(to, now, 1000, cl, 3*time.Second)
	}
	if s := to.Snapshot(now); s.Samples != 0 || !s.Cold || s.Timeout != time.Second {
		t.Errorf("%+v, want nothing learned", s)
	}
}

// Cancelled calls, lost hedges and callers in haste are lower bounds: they neither raise nor lower the timeout.
func TestLowerBoundsDoNotMoveIt(t *testing.T) {
	to := must(t, Options{})
	now := t0
	for range 20 {
		for range 300 {
			to.Done(now, policy.Ended{Class: policy.ClassCancelled, Took: 2 * ms})
			to.Done(now, policy.Ended{Class: policy.ClassLoser, Took: 5 * ms})
			to.Done(now, policy.Ended{Class: policy.ClassDeadlineSoon, Took: ms})
			to.Done(now, policy.Ended{Class: policy.ClassTimeout, Took: ms}) // cut by a caller with little left
		}
		now = feed(to, now, 1000, policy.ClassOK, 200*ms)
	}
	around(t, "timeout", to.Attempt(now, nil, 0, false), 400*ms)
}

func TestForgetsWithoutCalls(t *testing.T) {
	to := must(t, Options{})
	now := t0
	for range 3 {
		now = feed(to, now, 3, policy.ClassTimeout, to.Attempt(now, nil, 0, false))
	}
	around(t, "raised by few", to.Attempt(now, nil, 0, false), 8*time.Second)
	for range 60 {
		now = feed(to, now, 1, policy.ClassOK, 10*ms)
	}
	around(t, "a minute later", to.Attempt(now, nil, 0, false), time.Second)
}

// The first few attempts of a service that takes longer than Cold say so at once, and that is not forgotten while there are none.
func TestFewTeach(t *testing.T) {
	to := must(t, Options{})
	now := t0
	for _, took := range []time.Duration{400 * ms, 1100 * ms, 1600 * ms, 700 * ms} {
		to.Done(now, policy.Ended{Class: policy.ClassOK, Took: took})
		now = now.Add(ms)
		want := max(time.Second, 2*min(took, 1600*ms))
		if took == 700*ms {
			want = 2 * 1600 * ms
		}
		around(t, "after one of "+took.String(), to.Attempt(now, nil, 0, false), want)
	}
	for range 60 {
		now = feed(to, now, 0, policy.ClassOK, 0)
	}
	around(t, "after a minute in which there was none", to.Attempt(now, nil, 0, false), 2*1600*ms)
	for range 60 {
		now = feed(to, now, 1, policy.ClassOK, 10*ms)
	}
	around(t, "after a minute of quick ones", to.Attempt(now, nil, 0, false), time.Second)
}

// Calls are rare, and one of them has taken half a minute: it is not long before those that follow it are not waited for as long.
func TestOneOutlierAmongFew(t *testing.T) {
	for _, every := range []time.Duration{3 * time.Second, 15 * time.Second, 50 * time.Second} {
		to := must(t, Options{})
		now := t0
		call := func(took time.Duration) (d time.Duration) {
			d = to.Attempt(now, nil, 0, false)
			to.Done(now.Add(took), policy.Ended{Class: policy.ClassOK, Took: took})
			now = now.Add(max(every, took+ms))
			return d
		}
		call(1500 * ms)
		around(t, "before it", call(30*time.Second), 3*time.Second)
		if d := call(1500 * ms); d < 50*time.Second {
			t.Errorf("right after it: %v, want a minute: there is nothing else to go by", d)
		}
		for range max(time.Minute/every, 4) {
			call(1500 * ms)
		}
		around(t, "a minute later, with a call every "+every.String(), call(1500*ms), 3*time.Second)
		around(t, "and then", call(1500*ms), 3*time.Second)
	}
}

// An attempt in a hundred has ended well within what one takes at least, whatever failed sooner, and nobody knows while that is rarer.
func TestLeast(t *testing.T) {
	type some struct {
		n    int
		cl   policy.Class
		took time.Duration
	}
	for _, tt := range []struct {
		name string
		of   []some
		want time.Duration
	}{
		{"nothing is known", nil, 0},
		{"too little is", []some{{9, policy.ClassOK, 200 * ms}}, 0},
		{"ten have ended", []some{{10, policy.ClassOK, 200 * ms}}, 190 * ms},
		{"one in a hundred is quick", []some{{198, policy.ClassOK, 200 * ms}, {2, policy.ClassCaller, 40 * ms}}, 38 * ms},
		{"fewer are", []some{{199, policy.ClassOK, 200 * ms}, {1, policy.ClassOK, 40 * ms}}, 190 * ms},
		{"failures are quick", []some{{60, policy.ClassOK, 200 * ms}, {20, policy.ClassUnavailable, ms}, {20, policy.ClassInternal, ms}, {20, policy.ClassDownstream, ms}}, 190 * ms},
		{"most hang", []some{{15, policy.ClassOK, 200 * ms}, {85, policy.ClassTimeout, time.Second}}, 190 * ms},
		{"nearly all do", []some{{15, policy.ClassOK, 200 * ms}, {1585, policy.ClassTimeout, time.Second}}, 0},
		{"nobody was there", []some{{15, policy.ClassUnsent, ms}, {15, policy.ClassShed, ms}}, 0},
	} {
		for _, o := range []Options{{}, {Fixed: time.Second}} {
			to := must(t, o)
			for _, s := range tt.of {
				for range s.n {
					to.Done(t0, policy.Ended{Class: s.cl, Took: s.took})
				}
			}
			if got := to.Least(t0); got < tt.want*92/100 || got > tt.want { // never more: what is left may be just enough
				t.Errorf("%s: %v, want about %v", tt.name, got, tt.want)
			}
			if got := to.Least(t0.Add(time.Minute)); got != 0 {
				t.Errorf("%s, a minute ago: %v, want 0", tt.name, got)
			}
		}
	}
}

// One call in twenty hangs, and its callers have time: what is known is how long the others take, and to wait for ever is left to an attempt now and then.
func TestEnough(t *testing.T) {
	to := must(t, Options{})
	now := t0
	const left = 90 * time.Second
	if got := to.Enough(now, time.Second, left); got != 0 {
		t.Errorf("nothing is known: %v, want no bound", got)
	}
	hang := func(seconds int) {
		for range seconds {
			for range 5 {
				to.Done(now, policy.Ended{Class: policy.ClassTimeout, Took: to.Attempt(now, nil, left, false)})
			}
			now = feed(to, now, 95, policy.ClassOK, 100*ms)
		}
	}
	hang(20)
	d := to.Attempt(now, nil, left, false)
	if d > 2*time.Second {
		t.Errorf("the timeout is %v, with a p90 of 100ms", d)
	}
	all := 0
	for range left / time.Second {
		hang(1)
		for range 10 {
			if got := to.Enough(now, 2*d, left); got == 0 {
				all++
			} else if got != 2*d {
				t.Fatalf("%v, want %v or no bound", got, 2*d)
			}
		}
	}
	if all != explorers {
		t.Errorf("within %v %d attempts were not bounded, want %d", left, all, explorers)
	}
	if got := to.Enough(now, 2*d, 2*d); got != 0 {
		t.Errorf("%v, want no bound for the little that is left", got)
	}
	if got := to.Enough(now, d, 0); got != 0 {
		t.Errorf("%v without a deadline, want 0", got)
	}
	// One of them comes to an end after all.
	hang(1)
	to.Enough(now, d, left) // the one that finds out
	to.Done(now, policy.Ended{Class: policy.ClassOK, Took: 20 * time.Second})
	if got := to.Enough(now, d, left); got != 40*time.Second {
		t.Errorf("one has ended after 20s: %v, want 40s", got)
	}
	// They hang no longer.
	for range 12 {
		now = feed(to, now, 100, policy.ClassOK, 100*ms)
	}
	if got := to.Enough(now, d, left); got != 0 {
		t.Errorf("all end: %v, want no bound", got)
	}
}

func TestWrongOptions(t *testing.T) {
	_, err := New(Options{Fixed: -1, Min: time.Minute, Max: time.Second, NoDeadline: -1, Factor: 0.5, Quantile: 1, Share: 1.5, Fall: -1,
		Window: -1, MinSamples: -1})
	if err == nil {
		t.Fatal("no error")
	}
	for _, word := range []string{"timeout: ", "Fixed", "Max", "Cold", "NoDeadline", "Factor", "Quantile", "Share", "Fall", "Window", "MinSamples"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not name %s: %v", word, err)
		}
	}
}

func TestParallel(t *testing.T) {
	to := must(t, Options{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			now := t0
			for i := range 5000 {
				now = now.Add(5 * ms)
				d := to.Attempt(now, nil, time.Second, i%2 == 0)
				cl := policy.ClassOK
				if i%50 == 0 {
					cl = policy.ClassTimeout
				}
				to.Done(now, policy.Ended{Class: cl, Took: d / 2})
				to.Fair(now, d)
				if i%100 == 0 {
					to.Snapshot(now)
				}
			}
		})
	}
	wg.Wait()
	if s := to.Snapshot(t0.Add(26 * time.Second)); s.Timeout < 100*ms || s.Samples == 0 {
		t.Errorf("%+v", s)
	}
}

func TestNothingAllocates(t *testing.T) {
	to := must(t, Options{})
	now := t0
	if n := testing.AllocsPerRun(1000, func() {
		now = now.Add(time.Second)
		to.Attempt(now, nil, time.Second, false)
		to.Done(now, policy.Ended{Took: ms})
		to.Done(now, policy.Ended{Class: policy.ClassUnavailable, Took: ms})
		to.Fair(now, ms)
		to.Least(now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A service that is slower than Cold is found out by a handful of attempts, not by a second of them.
func TestColdDoublesAfterAHandful(t *testing.T) {
	to, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	now := policy.Time(time.Hour)
	want := time.Second
	for range 3 {
		now = now.Add(time.Millisecond)
		for i := range 4 {
			if d := to.Attempt(now, &policy.Call{}, 0, false); d != want {
				t.Fatalf("after %d were cut off at %v: %v", i, want, d)
			}
			to.Done(now, policy.Ended{Class: policy.ClassTimeout, Took: want})
		}
		want *= 2
		if d := to.Attempt(now, &policy.Call{}, 0, false); d != want {
			t.Fatalf("after a handful: %v, want %v", d, want)
		}
	}
}

// One node of three that hangs is no reason for the others to wait for longer, at least not before the next step.
func TestColdDoesNotHurryForAFew(t *testing.T) {
	to, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	now := policy.Time(time.Hour)
	to.Attempt(now, &policy.Call{}, 0, false)
	for range 10 {
		to.Done(now, policy.Ended{Class: policy.ClassOK, Took: time.Millisecond})
		to.Done(now, policy.Ended{Class: policy.ClassOK, Took: time.Millisecond})
		to.Done(now, policy.Ended{Class: policy.ClassTimeout, Took: time.Second})
	}
	if d := to.Attempt(now, &policy.Call{}, 0, false); d != time.Second {
		t.Errorf("the timeout is %v", d)
	}
}
