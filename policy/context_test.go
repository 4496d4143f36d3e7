package policy_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
)

// TestCauseOfAnAttemptsEnd: context.Cause says why an attempt's context has ended, whether somebody waits for its end or
// looks now and then.
func TestCauseOfAnAttemptsEnd(t *testing.T) {
	errEnough := errors.New("enough")
	for _, tc := range []struct {
		name      string
		own       time.Duration // the attempt's
		calls     func(context.Context) (context.Context, context.CancelFunc)
		err, want error
	}{
		{"its own time", 20 * ms, context.WithCancel, context.DeadlineExceeded, policy.ErrAttemptTimeout},
		{"the caller's time", 0, func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeoutCause(ctx, 20*ms, errEnough)
		}, context.DeadlineExceeded, errEnough},
		{"the caller's time, though it has its own", 30 * ms, func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeoutCause(ctx, 20*ms, errEnough)
		}, context.DeadlineExceeded, errEnough},
		{"the caller is gone", 30 * ms, func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(ctx)
			stop := time.AfterFunc(20*ms, func() { cancel(errEnough) }).Stop
			return ctx, func() { stop() }
		}, context.Canceled, errEnough},
	} {
		for _, waits := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				o := policy.Options{}
				if tc.own > 0 {
					o.Timeouts = fixed(tc.own)
				}
				p := mustNew(t, o)
				ctx, cancel := tc.calls(t.Context())
				defer cancel()
				_, _ = policy.Do(ctx, p, func(ctx context.Context) (int, error) {
					if waits {
						<-ctx.Done()
					} else {
						time.Sleep(25 * ms)
					}
					if err := ctx.Err(); !errors.Is(err, tc.err) {
						t.Errorf("%s, waits %v: Err is %v, want %v", tc.name, waits, err, tc.err)
					}
					if err := context.Cause(ctx); !errors.Is(err, tc.want) {
						t.Errorf("%s, waits %v: Cause is %v, want %v", tc.name, waits, err, tc.want)
					}
					child, cancel := context.WithCancel(ctx)
					defer cancel()
					if err := child.Err(); !errors.Is(err, tc.err) {
						t.Errorf("%s, waits %v: Err of a child is %v, want %v", tc.name, waits, err, tc.err)
					}
					if err := context.Cause(child); !errors.Is(err, tc.want) {
						t.Errorf("%s, waits %v: Cause of a child is %v, want %v", tc.name, waits, err, tc.want)
					}
					return 0, nil
				})
			})
		}
	}
}
