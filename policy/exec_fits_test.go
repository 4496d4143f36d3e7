package policy_test

import (
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/policytest"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/policy/timeout"
	"github.com/hull-go/hull/status"
)

// slow are timeouts that know what an attempt takes at least.
type slow struct{ least time.Duration }

func (slow) Attempt(_ policy.Time, _ *policy.Call, left time.Duration, _ bool) time.Duration {
	return left
}
func (slow) Fair(policy.Time, time.Duration) bool { return true }
func (slow) Done(policy.Time, policy.Ended)       {}
func (s slow) Least(policy.Time) time.Duration    { return s.least }

// An attempt that could not end before the deadline is not begun, neither after another nor beside one, and costs nothing.
func TestNoAttemptThatCannotEndInTime(t *testing.T) {
	const least = 40 * ms
	for _, tt := range []struct {
		name     string
		deadline time.Duration
		wait     time.Duration
		hedge    bool
		serve    []answer
		attempts int
		stopped  string
	}{
		{name: "there is time", deadline: 100 * ms, wait: 20 * ms, serve: []answer{{30 * ms, errUnavailable}, {40 * ms, nil}}, attempts: 2},
		{name: "as long as it takes is not enough", deadline: 90 * ms, wait: 20 * ms, serve: []answer{{30 * ms, errUnavailable}}, attempts: 1,
			stopped: "the next attempt would take longer than is left"},
		{name: "the wait makes it late", deadline: 100 * ms, wait: 31 * ms, serve: []answer{{30 * ms, errUnavailable}}, attempts: 1,
			stopped: "the next attempt would take longer than is left"},
		{name: "what was not sent", deadline: 50 * ms, serve: []answer{{10 * ms, errRefusedConn}}, attempts: 1,
			stopped: "the next attempt would take longer than is left"},
		{name: "not even the wait", deadline: 50 * ms, wait: 50 * ms, serve: []answer{{10 * ms, errUnavailable}}, attempts: 1,
			stopped: "the deadline would pass before the next attempt"},
		{name: "without a deadline", wait: time.Hour, serve: []answer{{30 * ms, errUnavailable}, {40 * ms, nil}}, attempts: 2},
		{name: "the first one is always made", deadline: 30 * ms, serve: []answer{{20 * ms, nil}}, attempts: 1},
		{name: "a hedge has time", deadline: 75 * ms, hedge: true, serve: []answer{{70 * ms, nil}, {70 * ms, nil}}, attempts: 2},
		{name: "a hedge has none", deadline: 60 * ms, hedge: true, serve: []answer{{50 * ms, nil}}, attempts: 1},
		{name: "a hedge that a node has put off has none", deadline: 90 * ms, hedge: true, attempts: 2,
			serve: []answer{{80 * ms, nil}, {5 * ms, &status.Error{Code: status.Unavailable, Fate: status.Processed, Pushback: 30 * ms}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			purse := &purse{1000}
			o := policy.Options{Retries: tries{3, tt.wait}, Timeouts: slow{least}, Budget: purse}
			if tt.hedge {
				o.Hedging = delay(20 * ms)
			}
			w := newWorld(1)
			call := policy.Call{Idempotent: true, SideEffectFree: tt.hedge}
			if tt.deadline > 0 {
				call.Deadline = w.now.Add(tt.deadline)
			}
			c := w.call(mustNew(t, o), call, script(tt.serve...))
			w.run()
			var s policy.Story
			c.x.Story(w.now, &s)
			if len(c.starts) != tt.attempts || s.Stopped != tt.stopped {
				t.Errorf("%d attempts, stopped: %q; want %d, %q", len(c.starts), s.Stopped, tt.attempts, tt.stopped)
			}
			if want := 1000 - 10*(tt.attempts-1); purse.tokens < want {
				t.Errorf("%d tokens are left, want %d", purse.tokens, want)
			}
		})
	}
}

// A method takes 200 ms, also to fail: with less than that left none is made again.
func TestWhatAMethodTakesIsLearned(t *testing.T) {
	p := must(policy.New(policy.Options{Timeouts: must(timeout.New(timeout.Options{})), Retries: must(retry.New(retry.Options{Backoff: retry.Immediate}))}))
	w := policytest.NewWorld(1)
	var answer error
	attempts := 0
	service := policytest.ServiceFunc(func(w *policytest.World, r *policytest.Request) {
		attempts++
		w.After(200*ms, func() { r.Answer(answer) })
	})
	call := func(left time.Duration) {
		w.Call(p, policy.Call{Idempotent: true, Deadline: w.Now().Add(left)}, service, nil)
	}
	for range 150 {
		call(time.Second)
	}
	w.Run()
	answer = errUnavailable
	for _, tt := range []struct {
		left time.Duration
		want int
	}{{300 * ms, 1}, {370 * ms, 1}, {450 * ms, 2}, {550 * ms, 2}, {650 * ms, 3}} {
		attempts = 0
		call(tt.left)
		w.Run()
		if attempts != tt.want {
			t.Errorf("with %v: %d attempts, want %d", tt.left, attempts, tt.want)
		}
	}
}
