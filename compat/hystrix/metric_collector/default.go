package metricCollector

import (
	"sync"

	"github.com/hull-go/hull/compat/hystrix/rolling"
)

// DefaultMetricCollector keeps rolling numbers of one circuit, which the dashboard's stream shows. The Registry makes it.
// It is safe for concurrent use. A Number or Timing that was read from it no longer moves after a Reset.
type DefaultMetricCollector struct {
	mutex *sync.RWMutex // guards the pointers, which Reset replaces
	numbers
}

type numbers struct {
	numRequests *rolling.Number
	errors      *rolling.Number

	successes               *rolling.Number
	failures                *rolling.Number
	rejects                 *rolling.Number
	shortCircuits           *rolling.Number
	timeouts                *rolling.Number
	contextCanceled         *rolling.Number
	contextDeadlineExceeded *rolling.Number

	fallbackSuccesses *rolling.Number
	fallbackFailures  *rolling.Number
	totalDuration     *rolling.Timing
	runDuration       *rolling.Timing
}

func newDefaultMetricCollector(string) MetricCollector {
	d := &DefaultMetricCollector{mutex: &sync.RWMutex{}}
	d.Reset()
	return d
}

func (d *DefaultMetricCollector) read() numbers {
	d.mutex.RLock()
	defer d.mutex.RUnlock()
	return d.numbers
}

// NumRequests returns the number of commands, however they ended.
func (d *DefaultMetricCollector) NumRequests() *rolling.Number { return d.read().numRequests }

// Errors returns the number of failures, timeouts, rejections and short-circuits.
func (d *DefaultMetricCollector) Errors() *rolling.Number { return d.read().errors }

// Successes returns the number of commands whose run function succeeded.
func (d *DefaultMetricCollector) Successes() *rolling.Number { return d.read().successes }

// Failures returns the number of commands whose run function returned an error or panicked.
func (d *DefaultMetricCollector) Failures() *rolling.Number { return d.read().failures }

// Rejects returns the number of commands that found all places taken.
func (d *DefaultMetricCollector) Rejects() *rolling.Number { return d.read().rejects }

// ShortCircuits returns the number of commands that found the circuit open.
func (d *DefaultMetricCollector) ShortCircuits() *rolling.Number { return d.read().shortCircuits }

// Timeouts returns the number of commands that took longer than the timeout.
func (d *DefaultMetricCollector) Timeouts() *rolling.Number { return d.read().timeouts }

// FallbackSuccesses returns the number of fallbacks that succeeded.
func (d *DefaultMetricCollector) FallbackSuccesses() *rolling.Number {
	return d.read().fallbackSuccesses
}

// FallbackFailures returns the number of fallbacks that failed.
func (d *DefaultMetricCollector) FallbackFailures() *rolling.Number {
	return d.read().fallbackFailures
}

// ContextCanceled returns the number of commands whose caller gave up.
func (d *DefaultMetricCollector) ContextCanceled() *rolling.Number { return d.read().contextCanceled }

// ContextDeadlineExceeded returns the number of commands whose caller's deadline passed.
func (d *DefaultMetricCollector) ContextDeadlineExceeded() *rolling.Number {
	return d.read().contextDeadlineExceeded
}

// TotalDuration returns the times from calls to their results, fallbacks included.
func (d *DefaultMetricCollector) TotalDuration() *rolling.Timing { return d.read().totalDuration }

// RunDuration returns the times that run functions took.
func (d *DefaultMetricCollector) RunDuration() *rolling.Timing { return d.read().runDuration }

// Update implements MetricCollector.
func (d *DefaultMetricCollector) Update(r MetricResult) {
	d.mutex.RLock()
	defer d.mutex.RUnlock()

	d.numRequests.Increment(r.Attempts)
	d.errors.Increment(r.Errors)
	d.successes.Increment(r.Successes)
	d.failures.Increment(r.Failures)
	d.rejects.Increment(r.Rejects)
	d.shortCircuits.Increment(r.ShortCircuits)
	d.timeouts.Increment(r.Timeouts)
	d.fallbackSuccesses.Increment(r.FallbackSuccesses)
	d.fallbackFailures.Increment(r.FallbackFailures)
	d.contextCanceled.Increment(r.ContextCanceled)
	d.contextDeadlineExceeded.Increment(r.ContextDeadlineExceeded)

	d.totalDuration.Add(r.TotalDuration)
	if r.RunDuration != 0 || r.Rejects+r.ShortCircuits == 0 {
		d.runDuration.Add(r.RunDuration)
	}
}

// Reset implements MetricCollector.
func (d *DefaultMetricCollector) Reset() {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.numbers = numbers{
		numRequests:             rolling.NewNumber(),
		errors:                  rolling.NewNumber(),
		successes:               rolling.NewNumber(),
		failures:                rolling.NewNumber(),
		rejects:                 rolling.NewNumber(),
		shortCircuits:           rolling.NewNumber(),
		timeouts:                rolling.NewNumber(),
		contextCanceled:         rolling.NewNumber(),
		contextDeadlineExceeded: rolling.NewNumber(),
		fallbackSuccesses:       rolling.NewNumber(),
		fallbackFailures:        rolling.NewNumber(),
		totalDuration:           rolling.NewTiming(),
		runDuration:             rolling.NewTiming(),
	}
}
