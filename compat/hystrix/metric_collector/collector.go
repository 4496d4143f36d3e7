package metricCollector

import (
	"sync"
	"time"
)

// Registry has the initializers of the collectors that each new circuit gets. The DefaultMetricCollector's is the first.
var Registry = metricCollectorRegistry{
	lock:     &sync.RWMutex{},
	registry: []func(name string) MetricCollector{newDefaultMetricCollector},
}

type metricCollectorRegistry struct {
	lock     *sync.RWMutex
	registry []func(name string) MetricCollector
}

// InitializeMetricCollectors makes a collector for the circuit of that name with each initializer, in the order of their registration.
func (m *metricCollectorRegistry) InitializeMetricCollectors(name string) []MetricCollector {
	m.lock.RLock()
	initializers := m.registry[:len(m.registry):len(m.registry)]
	m.lock.RUnlock()

	collectors := make([]MetricCollector, len(initializers))
	for i, initialize := range initializers {
		collectors[i] = initialize(name)
	}
	return collectors
}

// Register adds an initializer. Circuits that exist already do not get its collector.
func (m *metricCollectorRegistry) Register(initMetricCollector func(string) MetricCollector) {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.registry = append(m.registry, initMetricCollector)
}

// MetricResult is what one command came to: each count is 0 or 1.
type MetricResult struct {
	// Attempts is 1. Errors is 1 if it counts as an error: a failure, timeout, rejection or short-circuit.
	Attempts float64
	Errors   float64
	// One of these seven says how it ended.
	Successes               float64
	Failures                float64
	Rejects                 float64
	ShortCircuits           float64
	Timeouts                float64
	FallbackSuccesses       float64 // beside one of the others, as are FallbackFailures
	FallbackFailures        float64
	ContextCanceled         float64
	ContextDeadlineExceeded float64
	// TotalDuration is the time from the call to its result, fallback included; RunDuration that of the run function alone, 0 if it
	// did not run.
	TotalDuration time.Duration
	RunDuration   time.Duration
	// ConcurrencyInUse is the share of the circuit's places taken when the command had ended, from 0 to 1.
	ConcurrencyInUse float64
}

// MetricCollector takes in what the commands of one circuit come to. A circuit never calls it from two goroutines at once.
type MetricCollector interface {
	// Update counts one command.
	Update(MetricResult)
	// Reset forgets everything: the circuit has closed, or all circuits are flushed.
	Reset()
}
