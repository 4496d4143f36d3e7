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

// Transition is a change of state.
type Transition struct {
	// Seq numbers a breaker's transitions from 1. The first is its creation, at time 0.
	Seq uint64
	// At is when it happened. For what happens by itself it is the moment it was due, which may lie before it was noticed.
	At policy.Time
	// From and To are the states.
	From, To State
	// Reason is one constant sentence in lower case.
	Reason string
}

// kept is how many transitions are remembered. It is a power of two.
const kept = 64

// log remembers the latest transitions. The breaker's mutex guards it.
type log struct {
	seq  uint64
	ring [kept]Transition
}

func (l *log) add(at policy.Time, from, to State, reason string) {
	l.seq++
	l.ring[l.seq%kept] = Transition{Seq: l.seq, At: at, From: from, To: to, Reason: reason}
}

func (l *log) since(seq uint64) []Transition {
	if l.seq > kept {
		seq = max(seq, l.seq-kept)
	}
	if seq >= l.seq {
		return nil
	}
	out := make([]Transition, 0, l.seq-seq)
	for i := seq + 1; i <= l.seq; i++ {
		out = append(out, l.ring[i%kept])
	}
	return out
}

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
	// Seq is the number of the latest Transition.
	Seq uint64
}
