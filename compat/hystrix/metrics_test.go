package hystrix

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	metricCollector "github.com/hull-go/hull/compat/hystrix/metric_collector"
)

// TestCollectors: what a collector is told of each kind of end, in order.
func TestCollectors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := circuit(t, t.Name(), CommandConfig{MaxConcurrentRequests: 4, SleepWindow: 100})
		own := collect(c)
		events := [][]string{{"success"}, {"failure", "fallback-success"}, {"rejected", "fallback-failure"}, {"timeout"}, {"short-circuit"},
			{"context_canceled"}, {"context_deadline_exceeded"}, {"mystery"}}
		for range 3 {
			c.pool.take(1)
		}
		for _, e := range events {
			if err := c.ReportEvent(e, time.Now().Add(-2*ms), ms); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		base := metricCollector.MetricResult{Attempts: 1, TotalDuration: 2 * ms, RunDuration: ms, ConcurrencyInUse: 0.75}
		want := make([]metricCollector.MetricResult, len(events))
		for i := range want {
			want[i] = base
		}
		want[0].Successes = 1
		want[1].Failures, want[1].Errors, want[1].FallbackSuccesses = 1, 1, 1
		want[2].Rejects, want[2].Errors, want[2].FallbackFailures = 1, 1, 1
		want[3].Timeouts, want[3].Errors = 1, 1
		want[4].ShortCircuits, want[4].Errors = 1, 1
		want[5].ContextCanceled = 1
		want[6].ContextDeadlineExceeded = 1
		if !slices.Equal(own.results, want) {
			t.Errorf("told\n%+v, want\n%+v", own.results, want)
		}
	})
}

// TestCollectorsForgetWhenTheCircuitCloses, before they are told of the success that closed it.
func TestCollectorsForgetWhenTheCircuitCloses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		own := collect(circuit(t, t.Name(), CommandConfig{RequestVolumeThreshold: 2, SleepWindow: 10}))
		times(t, 2, t.Name(), fail, errRun)
		times(t, 1, t.Name(), fail, ErrCircuitOpen)
		time.Sleep(11 * ms)
		times(t, 1, t.Name(), succeed, nil)
		synctest.Wait()
		if !slices.Equal(own.resets, []int{3}) || len(own.results) != 4 {
			t.Errorf("resets after %v of %d results", own.resets, len(own.results))
		}
	})
}

// TestSlowCollector: commands do not wait for it, it is called by one goroutine at a time, and what is too much is dropped.
func TestSlowCollector(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := logged(t)
		c := circuit(t, t.Name(), CommandConfig{})
		own := collect(c)
		own.onTell = func() { time.Sleep(ms) }
		start := time.Now()
		times(t, maxQueue, t.Name(), succeed, nil)
		err := c.ReportEvent([]string{"success"}, time.Now(), 0)
		if full := (CircuitError{}); !errors.As(err, &full) || full.Message != "metrics channel (TestSlowCollector) is at capacity" {
			t.Error(err)
		}
		times(t, 1, t.Name(), succeed, nil)
		l.want(t, "%v")
		if d := time.Since(start); d != 0 {
			t.Errorf("commands waited %v", d)
		}
		time.Sleep(maxQueue * ms)
		times(t, 1, t.Name(), succeed, nil)
		time.Sleep(2 * ms)
		synctest.Wait()
		if len(own.results) != maxQueue+1 || own.overlap {
			t.Errorf("told of %d results, overlapping %v", len(own.results), own.overlap)
		}
		if n := counted(c)[success]; n != maxQueue+3 {
			t.Errorf("%d are counted", n)
		}
	})
}

// TestCollectorThatPanics loses that result only.
func TestCollectorThatPanics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := logged(t)
		c := circuit(t, t.Name(), CommandConfig{})
		bad, good := collect(c), collect(c)
		bad.onTell = func() { panic("boom") }
		times(t, 2, t.Name(), succeed, nil)
		synctest.Wait()
		if len(bad.results) != 2 || len(good.results) != 2 {
			t.Errorf("told of %d and %d results", len(bad.results), len(good.results))
		}
		if n := len(l.all()); n != 2 {
			t.Errorf("%d lines of log", n)
		}
	})
}

// TestRegistry: circuits made after a registration have its collector.
func TestRegistry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var names []string
		own := &collector{}
		registering := true
		metricCollector.Registry.Register(func(name string) metricCollector.MetricCollector {
			if !registering { // it cannot be taken back
				return deaf{}
			}
			names = append(names, name)
			GetCircuitSettings()
			ConfigureCommand(name, CommandConfig{MaxConcurrentRequests: 3})
			return own
		})
		times(t, 1, t.Name(), succeed, nil)
		registering = false
		synctest.Wait()
		if c, _, _ := GetCircuit(t.Name()); !slices.Equal(names, []string{t.Name()}) || len(own.results) != 1 || c.pool.max != 3 {
			t.Errorf("made for %q, told of %d results", names, len(own.results))
		}
	})
}

// deaf is a collector that does nothing.
type deaf struct{}

func (deaf) Update(metricCollector.MetricResult) {}
func (deaf) Reset()                              {}
