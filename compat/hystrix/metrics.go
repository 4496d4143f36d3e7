package hystrix

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	metricCollector "github.com/hull-go/hull/compat/hystrix/metric_collector"
	"github.com/hull-go/hull/policy"
)

// maxQueue is how many results may wait for a circuit's collectors.
const maxQueue = 2000

// metrics is told what came of the commands of one circuit. It counts that for the dashboard, and tells the circuit's collectors from a
// goroutine that lives as long as there is something to tell.
type metrics struct {
	name       string
	stats      atomic.Pointer[stats]
	collectors []metricCollector.MetricCollector

	mu      sync.Mutex
	queue   []told
	waiting int // results, in queue and in the goroutine's hands
	telling bool
}

// told is a result, or that what was told before is to be forgotten.
type told struct {
	result metricCollector.MetricResult
	reset  bool
}

func newMetrics(name string) *metrics {
	m := &metrics{name: name}
	m.stats.Store(newStats())
	// The first is the DefaultMetricCollector, which would count once more what stats counts.
	m.collectors = metricCollector.Registry.InitializeMetricCollectors(name)[1:]
	return m
}

// update counts a result. The error says that too many wait already.
func (m *metrics) update(now policy.Time, p *pool, e, fallback event, total, run time.Duration) error {
	m.stats.Load().add(now, e, fallback, total, run)
	if len(m.collectors) == 0 {
		return nil
	}
	r := metricCollector.MetricResult{Attempts: 1, TotalDuration: total, RunDuration: run}
	r.ConcurrencyInUse = float64(p.active()) / float64(p.max)
	switch e {
	case success:
		r.Successes = 1
	case failure:
		r.Failures = 1
	case rejected:
		r.Rejects = 1
	case shortCircuit:
		r.ShortCircuits = 1
	case timeout:
		r.Timeouts = 1
	case canceled:
		r.ContextCanceled = 1
	case deadlineExceeded:
		r.ContextDeadlineExceeded = 1
	default: // a name that only its caller knows
	}
	if e.isError() {
		r.Errors = 1
	}
	switch fallback {
	case fallbackSuccess:
		r.FallbackSuccesses = 1
	case fallbackFailure:
		r.FallbackFailures = 1
	default: // there was none
	}
	if !m.tell(told{result: r}) {
		return CircuitError{Message: fmt.Sprintf("metrics channel (%v) is at capacity", m.name)}
	}
	return nil
}

// reset makes all collectors forget.
func (m *metrics) reset() {
	m.stats.Store(newStats())
	if len(m.collectors) > 0 {
		m.tell(told{reset: true})
	}
}

// tell passes t on to the collectors, after what they are still to be told.
func (m *metrics) tell(t told) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !t.reset {
		if m.waiting >= maxQueue {
			return false
		}
		m.waiting++
	}
	m.queue = append(m.queue, t)
	if !m.telling {
		m.telling = true
		go m.work()
	}
	return true
}

// work tells the collectors what waits, and ends when there is nothing more.
func (m *metrics) work() {
	var batch []told
	for {
		m.mu.Lock()
		if len(m.queue) == 0 {
			m.telling = false
			m.mu.Unlock()
			return
		}
		batch, m.queue = m.queue, batch[:0]
		m.mu.Unlock()
		for i := range batch {
			for _, c := range m.collectors {
				m.inform(c, &batch[i])
			}
			if !batch[i].reset {
				m.mu.Lock()
				m.waiting--
				m.mu.Unlock()
			}
		}
	}
}

func (m *metrics) inform(c metricCollector.MetricCollector, t *told) {
	defer func() {
		if v := recover(); v != nil {
			logf("hystrix: a metric collector of circuit %v panicked: %v", m.name, v)
		}
	}()
	if t.reset {
		c.Reset()
		return
	}
	c.Update(t.result)
}
