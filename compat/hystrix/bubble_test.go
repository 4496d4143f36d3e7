package hystrix

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	metricCollector "github.com/hull-go/hull/compat/hystrix/metric_collector"
	"github.com/hull-go/hull/policy"
)

const ms = time.Millisecond

var (
	errRun      = errors.New("run_error")
	errFallback = errors.New("fallback_error")
)

// bubble runs f in virtual time with no circuit left from before, and fails if f leaves a goroutine behind. Settings stay, so every test names
// its commands after itself.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		Flush()
		defer func() {
			Flush()
			time.Sleep(2 * time.Second) // for functions that their callers have given up, and slow collectors
		}()
		f(t)
	})
}

// circuit is the circuit of a command, with these settings.
func circuit(t *testing.T, name string, config CommandConfig) *CircuitBreaker {
	t.Helper()
	ConfigureCommand(name, config)
	c, created, err := GetCircuit(name)
	if err != nil || !created {
		t.Fatalf("GetCircuit(%q): created %v, error %v", name, created, err)
	}
	return c
}

// counted is what the circuit has counted, without what is zero.
func counted(c *CircuitBreaker) map[event]int64 {
	m := map[event]int64{}
	n := c.metrics.stats.Load().read(policy.Now())
	for e, v := range n {
		if v != 0 {
			m[event(e)] = v
		}
	}
	return m
}

func succeed() error                        { return nil }
func fail() error                           { return errRun }
func failC(context.Context) error           { return errRun }
func recoverFrom(error) error               { return nil }
func failToo(error) error                   { return errFallback }
func failTooC(context.Context, error) error { return errFallback }

// times runs a command n times and fails unless each has this result.
func times(t *testing.T, n int, name string, run runFunc, want error) {
	t.Helper()
	for i := range n {
		if err := Do(name, run, nil); !errors.Is(err, want) {
			t.Fatalf("command %d: %v, want %v", i, err, want)
		}
	}
}

// collector remembers what it is told.
type collector struct {
	results []metricCollector.MetricResult
	resets  []int // how many results there were by then
	busy    bool
	overlap bool
	onTell  func()
}

func (c *collector) Update(r metricCollector.MetricResult) {
	c.enter(func() { c.results = append(c.results, r) })
}

func (c *collector) Reset() { c.enter(func() { c.resets = append(c.resets, len(c.results)) }) }

func (c *collector) enter(f func()) {
	c.overlap = c.overlap || c.busy
	c.busy = true
	defer func() { c.busy = false }()
	f()
	if c.onTell != nil {
		c.onTell()
	}
}

// collect gives a circuit a collector, as the registry does for those made after a registration.
func collect(c *CircuitBreaker) *collector {
	own := &collector{}
	c.metrics.collectors = append(c.metrics.collectors, own)
	return own
}

// lines is a logger that remembers.
type lines chan string

func (l lines) Printf(format string, _ ...any) { l <- format }

// logged makes the package log to a list until the test ends.
func logged(t *testing.T) lines {
	l := make(lines, 100)
	SetLogger(l)
	t.Cleanup(func() { SetLogger(nil) })
	return l
}

func (l lines) all() (all []string) {
	for {
		select {
		case s := <-l:
			all = append(all, s)
		default:
			return all
		}
	}
}

func (l lines) want(t *testing.T, want ...string) {
	t.Helper()
	if got := l.all(); !slices.Equal(got, want) {
		t.Errorf("log %q, want %q", got, want)
	}
}
