package policy_test

import (
	"errors"
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
