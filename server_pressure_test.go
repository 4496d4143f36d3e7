package hull_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// TestPressureRefusesSheddableCalls: a server whose machine is short of memory or processor refuses sheddable calls and serves critical ones, until it is not.
func TestPressureRefusesSheddableCalls(t *testing.T) {
	for name, short := range map[string]hull.Signals{"memory": {Memory: 0.92}, "processor": {Lag: 25 * time.Millisecond}, "quota": {Throttled: 0.6}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				var now atomic.Pointer[hull.Signals]
				now.Store(&hull.Signals{})
				w.Serve("plant", "a", hanging(nil, new(atomic.Int64)), hull.WithSignals(func() hull.Signals { return *now.Load() }))
				c := w.Client("caller", bare())
				refused := func(class policy.Criticality) (n int) {
					for range 100 { // two seconds, in which the signals are looked at ten times
						time.Sleep(20 * time.Millisecond)
						switch err := status.From(callPlant(t.Context(), c, "Work", hull.Criticality(class))); {
						case err == nil:
						case err.Kind == status.Shed && strings.Contains(err.Error(), "short of processor or memory"):
							n++
						default:
							t.Error(err)
						}
					}
					return n
				}
				for _, signals := range []hull.Signals{{}, short, {}} {
					now.Store(&signals)
					refused(policy.Sheddable) // it takes a while to be seen, or forgotten
					if n, some := refused(policy.Sheddable), signals != (hull.Signals{}); some && n < 20 || !some && n > 0 {
						t.Errorf("%+v: %d of 100 sheddable calls are refused", signals, n)
					}
					if n := refused(policy.Critical); n > 0 {
						t.Errorf("%+v: %d of 100 critical calls are refused", signals, n)
					}
				}
			})
		})
	}
}
