package chaos_test

import (
	"testing"
	"time"

	"github.com/hull-go/hull/internal/invariant"
)

// TestNobodyWaits stops nodes under calls that are in a hurry or given up: no handler starts that its server knows to be for nobody.
func TestNobodyWaits(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"native", "grpc", "http"} {
		t.Run(protocol, func(t *testing.T) {
			w := newWorld(t)
			w.serve(3, nodeConfig{})
			conf := callerConfig{Rate: 1000, Count: size(0, int64(100_000)), Hurry: 300, Cancel: 300, Once: 100, Ms: 30}
			if protocol != "native" {
				conf.Protocol = protocol
			}
			c := w.caller(conf)
			freeze := func(n int) {
				w.nodes[n%3].Freeze()
				pass(700 * time.Millisecond)
				w.nodes[n%3].Thaw()
				pass(300 * time.Millisecond)
			}
			var s *summary
			if *full {
				s = c.ended(freeze)
			} else {
				for n := range 4 {
					freeze(n)
				}
				s = c.finish()
			}
			t.Logf("%d calls, %d of them in a hurry or given up in vain, %d others failed: %v", s.Offered, s.Impatient, s.Failed, s.Errors)
			w.judge(invariant.New(invariant.Options{Burst: 2000}))
		})
	}
}
