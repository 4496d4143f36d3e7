package policy_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/policytest"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/policy/timeout"
)

// An attempt that follows one that timed out gets twice as long, unless it is fixed how long an attempt may take.
func TestLongerAfterATimeout(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    timeout.Options
		want []time.Duration
	}{
		{"learned", timeout.Options{Cold: 200 * time.Millisecond}, []time.Duration{200 * time.Millisecond, 400 * time.Millisecond, 9 * time.Second}},
		{"fixed", timeout.Options{Fixed: 200 * time.Millisecond}, []time.Duration{200 * time.Millisecond, 200 * time.Millisecond, 200 * time.Millisecond}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			timeouts, err := timeout.New(tt.o)
			if err != nil {
				t.Fatal(err)
			}
			retries, err := retry.New(retry.Options{Attempts: 3, Backoff: retry.Immediate})
			if err != nil {
				t.Fatal(err)
			}
			p, err := policy.New(policy.Options{Key: "longer", Timeouts: timeouts, Retries: retries})
			if err != nil {
				t.Fatal(err)
			}
			w := policytest.NewWorld(1)
			var got []time.Duration
			service := policytest.ServiceFunc(func(w *policytest.World, r *policytest.Request) {
				got = append(got, r.Attempt.Deadline.Sub(w.Now()))
				if len(got) == len(tt.want) {
					r.Answer(errors.New("that is all"))
				}
			})
			w.Call(p, policy.Call{Idempotent: true, Deadline: w.Now().Add(10 * time.Second)}, service, nil)
			w.Run()
			if len(got) != len(tt.want) {
				t.Fatalf("attempts had %v, want %v", got, tt.want)
			}
			for i := range got {
				if got[i] != tt.want[i] && (i < 2 || tt.o.Fixed > 0 || got[i] < tt.want[i]) {
					t.Errorf("attempt %d had %v, want %v", i+1, got[i], tt.want[i])
				}
			}
		})
	}
}

// satisfied gives what is left to the last attempt of a call, or as much as is enough after one that timed out.
type satisfied struct{ enough time.Duration }

func (satisfied) Attempt(_ policy.Time, _ *policy.Call, left time.Duration, last bool) time.Duration {
	if last {
		return left
	}
	return time.Second
}
func (satisfied) Fair(policy.Time, time.Duration) bool { return true }
func (satisfied) Done(policy.Time, policy.Ended)       {}
func (p satisfied) Enough(_ policy.Time, d, left time.Duration) time.Duration {
	if d != time.Second || left <= 0 {
		panic("not what the attempt before had")
	}
	return p.enough
}

// What timeouts say is enough bounds the last attempt of a call of which another timed out, and no other.
func TestEnoughAfterATimeout(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name       string
		enough     time.Duration
		idempotent bool
		fails      error // nil = attempts hang
		want       []time.Duration
	}{
		{"bounded", 3 * s, true, nil, []time.Duration{s, s, 3 * s}},
		{"no bound", 0, true, nil, []time.Duration{s, s, 98 * s}},
		{"more than is left", time.Hour, true, nil, []time.Duration{s, s, 98 * s}},
		{"the only one", 3 * s, false, nil, []time.Duration{100 * s}},
		{"others failed otherwise", 3 * s, true, errUnavailable, []time.Duration{s, s, 100 * s}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := must(policy.New(policy.Options{Timeouts: satisfied{tt.enough}, Retries: must(retry.New(retry.Options{Attempts: 3, Backoff: retry.Immediate}))}))
			w := policytest.NewWorld(1)
			var got []time.Duration
			w.Call(p, policy.Call{Idempotent: tt.idempotent, Deadline: w.Now().Add(100 * s)}, policytest.ServiceFunc(func(w *policytest.World, r *policytest.Request) {
				got = append(got, r.Attempt.Deadline.Sub(w.Now()))
				if tt.fails != nil {
					r.Answer(tt.fails)
				}
			}), nil)
			w.Run()
			if !slices.Equal(got, tt.want) {
				t.Errorf("attempts had %v, want %v", got, tt.want)
			}
		})
	}
}
