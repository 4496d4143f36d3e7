package policy

import "time"

// Call is what policies know about a call before it runs. The executor owns it; policies must not keep it.
type Call struct {
	// Service is the discovery name, Method what gRPC calls pkg.Service/Method. Either may be empty around a plain function.
	Service, Method string
	// Deadline is when the answer is worth nothing any more; zero = no deadline.
	Deadline Time
	// Idempotent: running it twice does no more than running it once, so it may be repeated when its fate is unknown.
	Idempotent bool
	// SideEffectFree: running it does nothing at all, so two nodes may run it at the same time (hedging).
	SideEffectFree bool
	// Criticality decides who is shed first.
	Criticality Criticality
	// Attempts bounds how many attempts the call has, hedges included, below what the pipeline says; 0 = the pipeline alone says.
	Attempts uint8
	// PathAttempt is the highest attempt number on the way from the root to here; 0 and 1 mean that nobody above retries.
	// Above 1 this hop repeats only what was not sent.
	PathAttempt int
	// Hash keys balancers that keep calls together; 0 = no key.
	Hash uint64
}

// Left returns how much time the call has at now, and false if it has no deadline.
func (c *Call) Left(now Time) (time.Duration, bool) {
	if c.Deadline == 0 {
		return 0, false
	}
	return c.Deadline.Sub(now), true
}

// Criticality says how much a call matters. It is set where a request enters and inherited by all calls below.
type Criticality uint8

// The classes, most important last to be shed. The zero value is what unmarked calls get.
const (
	Critical Criticality = iota
	CriticalPlus
	SheddablePlus
	Sheddable
)

// String returns the name as it travels in headers: "critical", "critical-plus", "sheddable-plus", "sheddable".
func (c Criticality) String() string {
	switch c {
	case CriticalPlus:
		return "critical-plus"
	case SheddablePlus:
		return "sheddable-plus"
	case Sheddable:
		return "sheddable"
	}
	return "critical"
}

// Outcome is what a result counts for in the eyes of one gate.
type Outcome uint8

// The outcomes. Ignored gives the permit back and counts nothing.
const (
	Ignored Outcome = iota
	Success
	Failure
	TimedOut
	Overloaded
)

// String returns the outcome in lower case.
func (o Outcome) String() string {
	switch o {
	case Success:
		return "success"
	case Failure:
		return "failure"
	case TimedOut:
		return "timed-out"
	case Overloaded:
		return "overloaded"
	}
	return "ignored"
}
