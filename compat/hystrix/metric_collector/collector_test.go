package metricCollector

import (
	"testing"
	"time"

	"github.com/hull-go/hull/compat/hystrix/rolling"
)

func TestDefaultMetricCollector(t *testing.T) {
	d := Registry.InitializeMetricCollectors("x")[0].(*DefaultMetricCollector)
	r := MetricResult{Attempts: 1, Errors: 2, Successes: 3, Failures: 4, Rejects: 5, ShortCircuits: 6, Timeouts: 7, FallbackSuccesses: 8,
		FallbackFailures: 9, ContextCanceled: 10, ContextDeadlineExceeded: 11, TotalDuration: 12 * time.Millisecond, RunDuration: 13 * time.Millisecond}
	d.Update(r)
	check := func(factor float64) {
		t.Helper()
		for i, n := range []*rolling.Number{d.NumRequests(), d.Errors(), d.Successes(), d.Failures(), d.Rejects(), d.ShortCircuits(), d.Timeouts(),
			d.FallbackSuccesses(), d.FallbackFailures(), d.ContextCanceled(), d.ContextDeadlineExceeded()} {
			if got, want := n.Sum(time.Now()), factor*float64(i+1); got != want {
				t.Errorf("number %d is %v, want %v", i, got, want)
			}
		}
		if total, run := d.TotalDuration().Mean(), d.RunDuration().Mean(); total != uint32(12*factor) || run != uint32(13*factor) {
			t.Errorf("took %d ms, ran %d ms", total, run)
		}
	}
	check(1)
	d.Reset()
	check(0)
}

// TestDidNotRun: what was refused is not counted as having run for 0 ms.
func TestDidNotRun(t *testing.T) {
	d := Registry.InitializeMetricCollectors("x")[0].(*DefaultMetricCollector)
	d.Update(MetricResult{Attempts: 1, Errors: 1, Rejects: 1})
	d.Update(MetricResult{Attempts: 1, Errors: 1, ShortCircuits: 1})
	d.Update(MetricResult{Attempts: 1, Successes: 1, RunDuration: time.Second})
	if n := len(d.RunDuration().SortedDurations()); n != 1 || d.NumRequests().Sum(time.Now()) != 3 {
		t.Errorf("%d have run", n)
	}
}

func TestRegistry(t *testing.T) {
	own := metricCollectorRegistry{lock: Registry.lock, registry: Registry.registry}
	var got []string
	own.Register(func(name string) MetricCollector {
		got = append(got, name)
		own.Register(newDefaultMetricCollector) // an initializer may register
		return nil
	})
	if n := len(own.InitializeMetricCollectors("a")); n != 2 || len(got) != 1 || got[0] != "a" {
		t.Errorf("%d collectors, called with %q", n, got)
	}
	if n := len(own.InitializeMetricCollectors("b")); n != 3 {
		t.Errorf("%d collectors after another was registered", n)
	}
}
