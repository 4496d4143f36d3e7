package hystrix

import (
	"math"
	"time"

	"github.com/hull-go/hull/compat/hystrix/rolling"
	"github.com/hull-go/hull/policy"
)

// commandEvent is what Hystrix's dashboards and Turbine know as HystrixCommand. All fields are there because they add up those of several
// processes, and fail on one that is missing.
type commandEvent struct {
	Type           string `json:"type"`
	Name           string `json:"name"`
	Group          string `json:"group"`
	CurrentTime    int64  `json:"currentTime"` // milliseconds since the Unix epoch
	ReportingHosts uint32 `json:"reportingHosts"`

	RequestCount         uint32 `json:"requestCount"`
	ErrorCount           uint32 `json:"errorCount"`
	ErrorPercentage      uint32 `json:"errorPercentage"`
	IsCircuitBreakerOpen bool   `json:"isCircuitBreakerOpen"`

	// Of the last ten seconds.
	CollapsedRequests  uint32 `json:"rollingCountCollapsedRequests"`
	ExceptionsThrown   uint32 `json:"rollingCountExceptionsThrown"`
	Failure            uint32 `json:"rollingCountFailure"`
	FallbackFailure    uint32 `json:"rollingCountFallbackFailure"`
	FallbackRejection  uint32 `json:"rollingCountFallbackRejection"`
	FallbackSuccess    uint32 `json:"rollingCountFallbackSuccess"`
	ResponsesFromCache uint32 `json:"rollingCountResponsesFromCache"`
	SemaphoreRejected  uint32 `json:"rollingCountSemaphoreRejected"`
	ShortCircuited     uint32 `json:"rollingCountShortCircuited"`
	Success            uint32 `json:"rollingCountSuccess"`
	ThreadPoolRejected uint32 `json:"rollingCountThreadPoolRejected"`
	Timeout            uint32 `json:"rollingCountTimeout"`

	CurrentConcurrentExecutionCount uint32 `json:"currentConcurrentExecutionCount"`

	// Of the last minute, in milliseconds.
	LatencyExecuteMean uint32  `json:"latencyExecute_mean"`
	LatencyExecute     latency `json:"latencyExecute"`
	LatencyTotalMean   uint32  `json:"latencyTotal_mean"`
	LatencyTotal       latency `json:"latencyTotal"`

	RequestVolumeThreshold         uint32 `json:"propertyValue_circuitBreakerRequestVolumeThreshold"`
	SleepWindow                    uint32 `json:"propertyValue_circuitBreakerSleepWindowInMilliseconds"`
	ErrorThresholdPercentage       uint32 `json:"propertyValue_circuitBreakerErrorThresholdPercentage"`
	ForceOpen                      bool   `json:"propertyValue_circuitBreakerForceOpen"`
	ForceClosed                    bool   `json:"propertyValue_circuitBreakerForceClosed"`
	Enabled                        bool   `json:"propertyValue_circuitBreakerEnabled"`
	IsolationStrategy              string `json:"propertyValue_executionIsolationStrategy"`
	ThreadTimeout                  uint32 `json:"propertyValue_executionIsolationThreadTimeoutInMilliseconds"`
	ThreadInterruptOnTimeout       bool   `json:"propertyValue_executionIsolationThreadInterruptOnTimeout"`
	ThreadPoolKeyOverride          string `json:"propertyValue_executionIsolationThreadPoolKeyOverride"`
	SemaphoreMaxConcurrent         uint32 `json:"propertyValue_executionIsolationSemaphoreMaxConcurrentRequests"`
	FallbackSemaphoreMaxConcurrent uint32 `json:"propertyValue_fallbackIsolationSemaphoreMaxConcurrentRequests"`
	RollingStatisticalWindow       uint32 `json:"propertyValue_metricsRollingStatisticalWindowInMilliseconds"`
	RequestCacheEnabled            bool   `json:"propertyValue_requestCacheEnabled"`
	RequestLogEnabled              bool   `json:"propertyValue_requestLogEnabled"`
}

// latency is percentiles in milliseconds.
type latency struct {
	P0   uint32 `json:"0"`
	P25  uint32 `json:"25"`
	P50  uint32 `json:"50"`
	P75  uint32 `json:"75"`
	P90  uint32 `json:"90"`
	P95  uint32 `json:"95"`
	P99  uint32 `json:"99"`
	P995 uint32 `json:"99.5"`
	P100 uint32 `json:"100"`
}

// poolEvent is what they know as HystrixThreadPool.
type poolEvent struct {
	Type           string `json:"type"`
	Name           string `json:"name"`
	ReportingHosts uint32 `json:"reportingHosts"`

	CurrentActiveCount        uint32 `json:"currentActiveCount"`
	CurrentCompletedTaskCount uint32 `json:"currentCompletedTaskCount"`
	CurrentCorePoolSize       uint32 `json:"currentCorePoolSize"`
	CurrentLargestPoolSize    uint32 `json:"currentLargestPoolSize"`
	CurrentMaximumPoolSize    uint32 `json:"currentMaximumPoolSize"`
	CurrentPoolSize           uint32 `json:"currentPoolSize"`
	CurrentQueueSize          uint32 `json:"currentQueueSize"`
	CurrentTaskCount          uint32 `json:"currentTaskCount"`

	MaxActiveThreads uint32 `json:"rollingMaxActiveThreads"`
	ThreadsExecuted  uint32 `json:"rollingCountThreadsExecuted"`

	RollingStatisticalWindow    uint32 `json:"propertyValue_metricsRollingStatisticalWindowInMilliseconds"`
	QueueSizeRejectionThreshold uint32 `json:"propertyValue_queueSizeRejectionThreshold"`
}

// statisticalWindow is the length of what is counted, in milliseconds.
const statisticalWindow = 10_000

func (circuit *CircuitBreaker) commandEvent(at policy.Time) commandEvent {
	s, stats := circuit.settings.Load(), circuit.metrics.stats.Load()
	n := stats.read(at)
	open, what := circuit.health.isOpen(at, circuit.limits())
	circuit.changed(what)
	return commandEvent{
		Type:           "HystrixCommand",
		Name:           circuit.Name,
		Group:          circuit.Name,
		CurrentTime:    int64(at) / int64(time.Millisecond),
		ReportingHosts: 1,

		RequestCount: count(n.requests()),
		ErrorCount:   count(n.errors()),
		// While the circuit is open that is mostly what it refuses itself, which is what dashboards of Hystrix show then.
		ErrorPercentage:      uint32(percentage(n.errors(), n.telling())),
		IsCircuitBreakerOpen: open,

		Failure:            count(n[failure]),
		FallbackFailure:    count(n[fallbackFailure]),
		FallbackSuccess:    count(n[fallbackSuccess]),
		ShortCircuited:     count(n[shortCircuit]),
		Success:            count(n[success]),
		ThreadPoolRejected: count(n[rejected]),
		Timeout:            count(n[timeout]),

		CurrentConcurrentExecutionCount: uint32(circuit.pool.active()),

		LatencyExecuteMean: stats.run.Mean(),
		LatencyExecute:     latencyOf(stats.run),
		LatencyTotalMean:   stats.total.Mean(),
		LatencyTotal:       latencyOf(stats.total),

		RequestVolumeThreshold:   uint32(min(s.RequestVolumeThreshold, math.MaxUint32)),
		SleepWindow:              inMilliseconds(s.SleepWindow),
		ErrorThresholdPercentage: count(int64(s.ErrorPercentThreshold)),
		Enabled:                  true,
		IsolationStrategy:        "THREAD",
		ThreadTimeout:            inMilliseconds(s.Timeout),
		ThreadInterruptOnTimeout: true,
		RollingStatisticalWindow: statisticalWindow,
	}
}

func (circuit *CircuitBreaker) poolEvent(at policy.Time) poolEvent {
	p := circuit.pool
	size := uint32(p.max)
	return poolEvent{
		Type:           "HystrixThreadPool",
		Name:           circuit.Name,
		ReportingHosts: 1,

		CurrentActiveCount:     uint32(p.active()),
		CurrentCorePoolSize:    size,
		CurrentLargestPoolSize: size,
		CurrentMaximumPoolSize: size,
		CurrentPoolSize:        size,

		MaxActiveThreads: p.busiest.most(at),
		ThreadsExecuted:  count(p.ran(at)),

		RollingStatisticalWindow: statisticalWindow,
	}
}

func latencyOf(t *rolling.Timing) latency {
	return latency{
		P0: t.Percentile(0), P25: t.Percentile(25), P50: t.Percentile(50), P75: t.Percentile(75), P90: t.Percentile(90),
		P95: t.Percentile(95), P99: t.Percentile(99), P995: t.Percentile(99.5), P100: t.Percentile(100),
	}
}

// count converts to what the events carry.
func count(v int64) uint32 { return uint32(min(max(v, 0), math.MaxUint32)) }

func inMilliseconds(d time.Duration) uint32 { return count(d.Milliseconds()) }
