package breaker

import "github.com/hull-go/hull/policy"

// State is the state of a breaker.
type State uint8

// The states. The last three are entered by hand only.
const (
	// Closed: calls go and are counted.
	Closed State = iota
	// Open: calls are refused.
	Open
	// HalfOpen: one probe at a time goes, the others are refused.
	HalfOpen
	// Ramp: closed again, but only a growing share of the calls goes.
	Ramp
	// ForcedOpen: calls are refused until Reset.
	ForcedOpen
	// ForcedClosed: calls go and are counted, but nothing opens the breaker until Reset.
	ForcedClosed
	// Disabled: calls go and nothing is counted until Reset.
	Disabled
)

var stateNames = [...]string{"closed", "open", "half-open", "ramp", "forced-open", "forced-closed", "disabled"}

// String returns the state in lower case: "closed", "open", "half-open", "ramp", "forced-open", "forced-closed" or "disabled".
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "invalid"
}

// refuses reports whether calls are refused in the state, probes apart.
func (s State) refuses() bool { return s == Open || s == HalfOpen || s == ForcedOpen }

// Snapshot is a reading of a breaker, for people and metrics.
type Snapshot struct {
	// State is the state at the time of the reading, Since when it began.
	State State
	Since policy.Time
	// Until is when the state ends by itself or, half-open, when the next probe may go; 0 = it does not or not known.
	Until policy.Time
	// Calls, Failed and Slow are counted in the window of the present generation. Slow ones are among Calls.
	Calls, Failed, Slow int64
	// Openings is how many times in a row it opened; Probes how many probes have succeeded since it is half-open.
	Openings, Probes int
	// ProbeOut reports whether a probe is under way.
	ProbeOut bool
	// Refused is how many calls were refused since the breaker was made.
	Refused int64
	// Seq is the number of the latest event.
	Seq uint64
}
