package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/concurrency"
)

// doorman waits for a place in a line and keeps the verdict.
type doorman struct{ said []policy.Verdict }

func (d *doorman) Granted(_ uint32, v policy.Verdict) { d.said = append(d.said, v) }

// TestStoryNamesPolicies is that a story says which policy had the call wait, for how long, and which one refused or tested it.
func TestStoryNamesPolicies(t *testing.T) {
	refuse := policy.Verdict{Decision: policy.Refuse, State: "shut", Reason: "it is shut"}
	full, err := concurrency.New(concurrency.Options{Limit: 1, Queue: 4, MaxWait: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	type step = func(x *policy.Exec, at policy.Time, w *doorman) policy.Steps
	fails := func(x *policy.Exec, at policy.Time, _ *doorman) policy.Steps {
		return x.Result(at, rnd(), 0, errUnavailable)
	}
	wakes := func(x *policy.Exec, at policy.Time, _ *doorman) policy.Steps { return x.Wake(at, rnd()) }
	for _, tt := range []struct {
		name  string
		opt   policy.Options
		steps map[time.Duration]step // at whole milliseconds
		want  []string
		by    string
		errs  int
	}{
		{"a rate limit, and a pause", policy.Options{Rate: policy.Slot{Gate: &gate{verdicts: []policy.Verdict{{Decision: policy.Wait, At: 10 * policy.Time(ms)}}}},
			Retries: tries{2, 20 * ms}}, map[time.Duration]step{10 * ms: wakes, 11 * ms: fails, 31 * ms: wakes,
			32 * ms: func(x *policy.Exec, at policy.Time, _ *doorman) policy.Steps {
				return x.Result(at, rnd(), 1, errUnavailable)
			}},
			[]string{"rate -1 wait 0s+9ms", "retry 1 wait 10ms+20ms"}, "retry", 2},
		{"a probe that fails", policy.Options{Retries: tries{2, 0}, Breaker: policy.Slot{Name: "fuse", Gate: &gate{verdicts: []policy.Verdict{{Decision: policy.Probe}}}}},
			map[time.Duration]step{2 * ms: fails}, []string{"fuse -1 probe 0s+0s"}, "fuse", 1},
		{"a breaker that is open", policy.Options{Breaker: policy.Slot{Gate: &gate{verdicts: []policy.Verdict{refuse}}}}, nil, []string{"breaker -1 refuse 0s+0s it is shut"}, "", 0},
		{"a throttle in dry-run", policy.Options{Retries: tries{2, 0}, Throttle: policy.Slot{Mode: policy.DryRun, Gate: &gate{verdicts: []policy.Verdict{refuse}}}},
			map[time.Duration]step{2 * ms: func(x *policy.Exec, at policy.Time, _ *doorman) policy.Steps { return x.Result(at, rnd(), 0, nil) }},
			[]string{"throttle 0 dry-run refuse 0s+0s it is shut"}, "", 0},
		{"a throttle after a failure", policy.Options{Retries: tries{3, 0}, Throttle: policy.Slot{Gate: &gate{verdicts: []policy.Verdict{{}, refuse}}}},
			map[time.Duration]step{2 * ms: fails}, []string{"throttle 1 refuse 1ms+0s it is shut"}, "throttle", 1},
		{"a budget that is empty", policy.Options{Retries: tries{3, 0}, Budget: &purse{}}, map[time.Duration]step{2 * ms: fails}, nil, "budget", 1},
		{"a line", policy.Options{Concurrency: policy.Slot{Gate: full}}, map[time.Duration]step{
			5 * ms: func(x *policy.Exec, at policy.Time, w *doorman) policy.Steps {
				full.Done(at, rnd(), policy.Permit{Start: at}, policy.Success)
				waiting, v, ok := full.Next(at, rnd())
				if !ok {
					t.Fatal("nobody is next")
				}
				return x.Granted(at, rnd(), waiting.Tag, v)
			},
			6 * ms: func(x *policy.Exec, at policy.Time, _ *doorman) policy.Steps { return x.Result(at, rnd(), 0, nil) },
		}, []string{"concurrency 0 park 0s+4ms all places are taken"}, "", 0},
		{"a caller that leaves the line", policy.Options{Concurrency: policy.Slot{Gate: full}}, map[time.Duration]step{
			4 * ms: func(x *policy.Exec, at policy.Time, _ *doorman) policy.Steps {
				return x.Cancel(at, rnd(), fmt.Errorf("enough"))
			},
		}, []string{"concurrency 0 park 0s+3ms all places are taken"}, "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := policy.Time(ms)
			if tt.opt.Concurrency.Gate != nil {
				full.Admit(start, rnd(), &policy.Call{}) // by another
			}
			var x policy.Exec
			w, now := &doorman{}, start
			s := x.Begin(start, rnd(), mustNew(t, tt.opt), policy.Call{Idempotent: true}, w, false)
			for d := time.Duration(0); !s.Done && d < 50*ms; d += ms {
				if f := tt.steps[d]; f != nil {
					now = policy.Time(d)
					s = f(&x, now, w)
				}
			}
			if !s.Done {
				t.Fatal("the call does not end")
			}
			var story policy.Story
			x.Story(now, &story)
			var got []string
			for _, v := range story.Verdicts {
				text := fmt.Sprintf("%s %d ", v.Policy, v.Attempt)
				if v.DryRun {
					text += "dry-run "
				}
				text += fmt.Sprintf("%s %v+%v %s", v.Decision, v.At.Sub(start), v.Took, v.Reason)
				got = append(got, text[:len(text)-len(" ")*b2i(v.Reason == "")])
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("verdicts %q, want %q", got, tt.want)
			}
			if story.StoppedBy != tt.by || (tt.by != "") != (story.Stopped != "") {
				t.Errorf("stopped by %q (%s), want %q", story.StoppedBy, story.Stopped, tt.by)
			}
			errs := 0
			for _, a := range story.Attempts {
				if a.Err != nil {
					errs++
				}
			}
			if errs != tt.errs {
				t.Errorf("%d attempts tell their error, want %d", errs, tt.errs)
			}
			if x.Idle() {
				if x.Reset(); !x.Fresh() {
					t.Error("something is left after Reset")
				}
			}
		})
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func rnd() rand.Source { return rand.NewPCG(1, 2) }

// TestVerdictsAreBounded is that a call which meets many refusals in dry-run does not collect them without end.
func TestVerdictsAreBounded(t *testing.T) {
	var x policy.Exec
	var many []policy.Verdict
	for range 100 {
		many = append(many, policy.Verdict{Decision: policy.Refuse})
	}
	dry := func() policy.Slot { return policy.Slot{Mode: policy.DryRun, Gate: &gate{verdicts: slices.Clone(many)}} }
	s := x.Begin(1, rnd(), mustNew(t, policy.Options{Retries: tries{8, ms}, Throttle: dry(), Concurrency: dry()}), policy.Call{Idempotent: true}, nil, false)
	for now := policy.Time(ms); !s.Done; now += policy.Time(ms) {
		switch {
		case s.Start != 0:
			for k := range policy.MaxAttempts {
				if s.Start.Has(k) {
					s = x.Result(now, rnd(), k, errUnavailable)
					break
				}
			}
		default:
			s = x.Wake(now, rnd())
		}
	}
	var story policy.Story
	if x.Story(0, &story); len(story.Verdicts) == 0 || len(story.Verdicts) > policy.MaxVerdicts {
		t.Errorf("%d verdicts", len(story.Verdicts))
	}
}

// TestSharedCounters is that pipelines which stand for one method count together, and others by themselves.
func TestSharedCounters(t *testing.T) {
	var n policy.Counters
	a, b, own := mustNew(t, policy.Options{Counters: &n}), mustNew(t, policy.Options{Counters: &n}), mustNew(t, policy.Options{})
	for _, p := range []*policy.Pipeline{a, b, own} {
		if _, err := p.Drive(t.Context(), policy.Call{}, mute{}); err != nil {
			t.Fatal(err)
		}
	}
	if a.Snapshot().Calls != 2 || b.Snapshot() != n.Snapshot() || own.Snapshot().Calls != 1 {
		t.Errorf("%+v, %+v, %+v", a.Snapshot(), n.Snapshot(), own.Snapshot())
	}
}
