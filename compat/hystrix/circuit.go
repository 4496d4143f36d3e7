package hystrix

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
)

// CircuitBreaker is what commands of one name share: whether they may run, how many at a time, and what came of them. GetCircuit
// makes it. It is safe for concurrent use; Name must not be changed.
type CircuitBreaker struct {
	Name string

	health   *health
	pool     *pool
	metrics  *metrics
	settings atomic.Pointer[Settings]
}

// circuits are all circuits, by name.
var circuits registry

type registry struct {
	mu     sync.Mutex // held while circuits are made and flushed
	byName sync.Map   // string to *CircuitBreaker
}

func (r *registry) find(name string) *CircuitBreaker {
	if v, ok := r.byName.Load(name); ok {
		return v.(*CircuitBreaker)
	}
	return nil
}

// GetCircuit returns the circuit of the commands of that name, and whether this call made it. The error is that of
// settings with which there can be no circuit.
func GetCircuit(name string) (*CircuitBreaker, bool, error) {
	if c := circuits.find(name); c != nil {
		return c, false, nil
	}
	circuits.mu.Lock()
	defer circuits.mu.Unlock()
	if c := circuits.find(name); c != nil {
		return c, false, nil
	}
	c := &CircuitBreaker{Name: name, health: newHealth()}

	// A collector's initializer may read or change settings.
	c.metrics = newMetrics(name)

	settings.mu.Lock()
	defer settings.mu.Unlock()
	s := settingsLocked(name)
	p, err := newPool(s.MaxConcurrentRequests)
	if err != nil {
		return nil, false, fmt.Errorf("hystrix: command %q: %w", name, err)
	}
	c.pool = p
	c.settings.Store(s)
	circuits.byName.Store(name, c)
	return c, true, nil
}

// Flush forgets all circuits and what they counted; settings stay. Commands that run end in the circuit that they began in.
func Flush() {
	circuits.mu.Lock()
	defer circuits.mu.Unlock()
	for name, v := range circuits.byName.Range {
		v.(*CircuitBreaker).metrics.reset()
		circuits.byName.Delete(name)
	}
}

func (circuit *CircuitBreaker) limits() limits {
	s := circuit.settings.Load()
	return limits{volume: s.RequestVolumeThreshold, percent: s.ErrorPercentThreshold, sleep: s.SleepWindow}
}

// IsOpen reports whether the circuit is open: its latest results were too bad, and no test has succeeded since.
func (circuit *CircuitBreaker) IsOpen() bool {
	open, what := circuit.health.isOpen(policy.Now(), circuit.limits())
	circuit.changed(what)
	return open
}

// AllowRequest reports whether a command may run. If the circuit is open it is true once per sleep window: who is told so has to run a
// command as a test, and to report what came of it with ReportEvent. Do and Go ask and report by themselves.
func (circuit *CircuitBreaker) AllowRequest() bool {
	_, ok := circuit.admit(policy.Now())
	return ok
}

func (circuit *CircuitBreaker) admit(now policy.Time) (permit, bool) {
	p, ok, what := circuit.health.admit(now, circuit.limits())
	if what != unchanged {
		circuit.changed(what)
	}
	return p, ok
}

// changed does what follows from a change of the circuit's state.
func (circuit *CircuitBreaker) changed(what change) {
	switch what {
	case opened:
		logf("hystrix-go: opening circuit %v", circuit.Name)
	case oneTest:
		logf("hystrix-go: allowing single test to possibly close circuit %v", circuit.Name)
	case closed:
		logf("hystrix-go: closing circuit %v", circuit.Name)
		circuit.metrics.reset()
	}
}

// ReportEvent counts a command that was run without Do and Go. The first event type is how it ended: "success", "failure", "rejected",
// "short-circuit", "timeout", "context_canceled" or "context_deadline_exceeded"; a second may be "fallback-success" or
// "fallback-failure". A success closes an open circuit if the command started after it opened.
//
// The error says that there is no event type, or that a collector could not take it in.
func (circuit *CircuitBreaker) ReportEvent(eventTypes []string, start time.Time, runDuration time.Duration) error {
	if len(eventTypes) == 0 {
		return errors.New("no event types sent for metrics")
	}
	e, fallback := eventNamed(eventTypes[0]), none
	if len(eventTypes) > 1 {
		fallback = eventNamed(eventTypes[1])
	}
	now := policy.Now()
	if e.counts() {
		circuit.changed(circuit.health.report(now, policy.At(start), !e.isError(), e == success))
	}
	return circuit.metrics.update(now, circuit.pool, e, fallback, now.Sub(policy.At(start)), runDuration)
}
