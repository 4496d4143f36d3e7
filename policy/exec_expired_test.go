package policy_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// A server that is reached late, because this machine or that one stood still, says that the time of an attempt was up before a handler
// ran. It knows nothing of the call's own, which may have much left.
func TestExpiredAttemptIsNoExpiredCall(t *testing.T) {
	for name, tt := range map[string]struct {
		left time.Duration // of the call
		runs int
	}{
		"the call has time":               {time.Second, 2},
		"the attempt had all of the time": {10 * ms, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := mustNew(t, policy.Options{Retries: tries{2, 0}, Timeouts: fixed(20 * ms)})
				ctx, cancel := context.WithTimeout(t.Context(), tt.left)
				defer cancel()
				runs := 0
				_, err := policy.Do(ctx, p, func(context.Context) (int, error) {
					runs++
					return 0, &status.Error{Code: status.DeadlineExceeded, Kind: status.Expired, Fate: status.NotSent}
				})
				if err == nil || runs != tt.runs {
					t.Errorf("it ran %d times, want %d; error %v", runs, tt.runs, err)
				}
			})
		})
	}
}
