package hystrix

// event is how a command, or its fallback, ended.
type event uint8

const (
	none event = iota // no fallback, or something that ReportEvent does not know
	success
	failure
	rejected
	shortCircuit
	timeout
	canceled
	deadlineExceeded
	fallbackSuccess
	fallbackFailure
	numEvents
)

// eventNamed returns the event that ReportEvent knows by that name.
func eventNamed(name string) event {
	switch name {
	case "success":
		return success
	case "failure":
		return failure
	case "rejected":
		return rejected
	case "short-circuit":
		return shortCircuit
	case "timeout":
		return timeout
	case "context_canceled":
		return canceled
	case "context_deadline_exceeded":
		return deadlineExceeded
	case "fallback-success":
		return fallbackSuccess
	case "fallback-failure":
		return fallbackFailure
	}
	return none
}

// isError reports whether the event counts as an error.
func (e event) isError() bool {
	return e == failure || e == rejected || e == shortCircuit || e == timeout
}

// counts reports whether the event says anything about the dependency. A caller that gives up does not.
func (e event) counts() bool { return e != canceled && e != deadlineExceeded }
