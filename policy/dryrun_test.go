package policy_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
)

// TestDryRunOfAttemptDrivers: each counts what it would have done, and the call is as if it were not there.
func TestDryRunOfAttemptDrivers(t *testing.T) {
	safe := policy.Call{Idempotent: true, SideEffectFree: true}
	tests := []struct {
		name    string
		o       policy.Options
		call    policy.Call
		answers []answer
		want    policy.Snapshot
	}{
		{"a failure that would be repeated", policy.Options{Retries: tries{3, 0}, RetryMode: policy.DryRun}, safe,
			[]answer{{ms, errUnavailable}}, policy.Snapshot{DryRetries: 1}},
		{"one that would not", policy.Options{Retries: tries{3, 0}, RetryMode: policy.DryRun}, policy.Call{},
			[]answer{{ms, errUnavailable}}, policy.Snapshot{}},
		{"one attempt is all there may be", policy.Options{Retries: tries{1, 0}, RetryMode: policy.DryRun}, safe,
			[]answer{{ms, errUnavailable}}, policy.Snapshot{}},
		{"no time left to repeat", policy.Options{Retries: tries{3, 50 * ms}, RetryMode: policy.DryRun},
			policy.Call{Idempotent: true, Deadline: policy.Time(time.Second + 40*ms)}, []answer{{ms, errUnavailable}}, policy.Snapshot{}},
		{"retries off", policy.Options{Retries: tries{3, 0}, RetryMode: policy.Off}, safe,
			[]answer{{ms, errUnavailable}}, policy.Snapshot{}},
		{"a slow call", policy.Options{Retries: tries{3, 0}, Hedging: delay(5 * ms), HedgeMode: policy.DryRun}, safe,
			[]answer{{9 * ms, nil}}, policy.Snapshot{DryHedges: 1}},
		{"a quick call", policy.Options{Retries: tries{3, 0}, Hedging: delay(5 * ms), HedgeMode: policy.DryRun}, safe,
			[]answer{{4 * ms, nil}}, policy.Snapshot{}},
		{"a slow call with side effects", policy.Options{Retries: tries{3, 0}, Hedging: delay(5 * ms), HedgeMode: policy.DryRun},
			policy.Call{Idempotent: true}, []answer{{9 * ms, nil}}, policy.Snapshot{}},
		{"a slow call that every node has", policy.Options{Nodes: &spares{places{nodes: []*place{{"only"}}}}, Retries: tries{3, 0}, Hedging: delay(5 * ms), HedgeMode: policy.DryRun}, safe,
			[]answer{{9 * ms, nil}}, policy.Snapshot{}},
		{"a slow call that another node could have", policy.Options{Nodes: &spares{places{nodes: []*place{{"one"}, {"two"}}}}, Retries: tries{3, 0}, Hedging: delay(5 * ms), HedgeMode: policy.DryRun}, safe,
			[]answer{{9 * ms, nil}}, policy.Snapshot{DryHedges: 1}},
		{"a slow call that is to have one attempt", policy.Options{Retries: tries{3, 0}, Hedging: delay(5 * ms), HedgeMode: policy.DryRun},
			policy.Call{Idempotent: true, SideEffectFree: true, Attempts: 1}, []answer{{9 * ms, nil}}, policy.Snapshot{}},
		{"hedging off", policy.Options{Retries: tries{3, 0}, Hedging: delay(5 * ms), HedgeMode: policy.Off}, safe,
			[]answer{{9 * ms, nil}}, policy.Snapshot{}},
		{"a long attempt", policy.Options{Timeouts: fixed(5 * ms), TimeoutMode: policy.DryRun}, safe,
			[]answer{{9 * ms, nil}}, policy.Snapshot{DryTimeouts: 1}},
		{"a short attempt", policy.Options{Timeouts: fixed(5 * ms), TimeoutMode: policy.DryRun}, safe,
			[]answer{{4 * ms, nil}}, policy.Snapshot{}},
		{"the caller's deadline would come first", policy.Options{Timeouts: fixed(20 * ms), TimeoutMode: policy.DryRun},
			policy.Call{Deadline: policy.Time(time.Second + 10*ms)}, []answer{{30 * ms, errTimeout}}, policy.Snapshot{}},
		{"timeouts off", policy.Options{Timeouts: fixed(5 * ms), TimeoutMode: policy.Off}, safe,
			[]answer{{9 * ms, nil}}, policy.Snapshot{}},
		{"all of them", policy.Options{Retries: tries{3, 0}, RetryMode: policy.DryRun, Hedging: delay(5 * ms), HedgeMode: policy.DryRun,
			Timeouts: fixed(6 * ms), TimeoutMode: policy.DryRun}, safe,
			[]answer{{9 * ms, errUnavailable}}, policy.Snapshot{DryRetries: 1, DryHedges: 1, DryTimeouts: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := mustNew(t, tt.o)
			w := newWorld(1)
			c := w.call(p, tt.call, script(tt.answers...))
			w.run()
			tt.want.Calls, tt.want.Attempts = 1, 1
			if got := p.Snapshot(); got != tt.want {
				t.Errorf("counted %+v, want %+v", got, tt.want)
			}
			if c.err != tt.answers[0].err { //nolint:errorlint // its identity is meant
				t.Errorf("error %v, want the only attempt's %v", c.err, tt.answers[0].err)
			}
		})
	}
}

// TestHedgesBesideRetriesInDryRun: retries that only count still say how many attempts there may be.
func TestHedgesBesideRetriesInDryRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustNew(t, policy.Options{Retries: tries{2, 0}, RetryMode: policy.DryRun, Hedging: delay(5 * ms)})
		var begun atomic.Int32
		_, err := policy.Do(t.Context(), p, func(ctx context.Context) (int, error) {
			if begun.Add(1) == 1 {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			return 1, nil
		}, policy.Call{Idempotent: true, SideEffectFree: true})
		synctest.Wait()
		if n := p.Snapshot(); err != nil || n.Hedges != 1 || n.DryRetries != 0 {
			t.Errorf("error %v, %+v; want one hedge that won", err, n)
		}
	})
}

func TestModesOfAttemptDriversAreChecked(t *testing.T) {
	if _, err := policy.New(policy.Options{RetryMode: 9}); err == nil {
		t.Error("a mode that does not exist was accepted")
	}
}
