package policy

import (
	"math/rand/v2"
	"time"
)

// Gate decides whether a call or an attempt may go. It is all that a policy of one's own has to implement.
//
// A gate starts no goroutine, reads no clock, and calls nobody while it holds a lock: the time and the source of
// randomness are arguments, so that the same gate runs in production, in tests with a fake clock and in a simulation.
// Implementations are safe for concurrent use. rnd is the caller's own and need not be locked.
type Gate interface {
	// Admit asks for leave to go at now. Each Admit, Probe or Wait verdict is followed by exactly one Done with its permit.
	Admit(now Time, rnd rand.Source, c *Call) Verdict
	// Done gives the permit back and says what came of it. Results of permits of an older generation are harmless.
	Done(now Time, rnd rand.Source, p Permit, o Outcome)
}

// Line is a Gate in which calls can wait for a place. When Admit says Park, the executor joins; when a permit comes
// back, the executor asks Next until it has no more and tells each waiter, outside of any lock.
type Line interface {
	Gate
	// Join puts the waiter into the line, or admits or refuses at once if things have changed since Admit said Park.
	// The ticket is meaningful only with a Park verdict, whose At is the moment the wait ends in vain.
	Join(now Time, rnd rand.Source, c *Call, w Waiting) (Ticket, Verdict)
	// Leave takes a waiter out. False means that it is no longer there: its verdict has been handed out and arrives
	// through its Waiter.
	Leave(now Time, t Ticket) bool
	// Next takes the next waiter whose wait is over out of the line, with its verdict: Admit or Refuse.
	Next(now Time, rnd rand.Source) (Waiting, Verdict, bool)
}

// Revoker is a Gate whose leave can lapse while a call is under way. It is asked before each further attempt: a call
// that was admitted before a breaker opened does not go on retrying through it.
type Revoker interface {
	// Holds reports whether the permit would still be given at now.
	Holds(now Time, p Permit) bool
}

// Pushbacker is a Gate that wants to know when the other side asked callers to stay away, as with Retry-After.
type Pushbacker interface {
	// Pushback says that a call's final result came with the advice not to come back for d, which is positive. It is called
	// before that result's Done.
	Pushback(now Time, d time.Duration)
}

// Waiting is who waits in a Line: the executor to tell, and the executor's own mark.
type Waiting struct {
	Waiter Waiter
	Tag    uint32
}

// Waiter is the executor's side of a wait.
type Waiter interface {
	// Granted brings the verdict of a wait: Admit or Refuse. It is called once, without locks held, and must not block.
	Granted(tag uint32, v Verdict)
}

// Ticket names a place in a Line.
type Ticket uint64

// Permit is leave to go, given once and settled once. Gates fill it as they need; the executor only keeps it.
type Permit struct {
	// Start is when the permit was given.
	Start Time
	// Gen tells apart permits that were given under different states of the gate.
	Gen uint32
	// Slot is the gate's own: which probe, which shard.
	Slot uint32
}

// Decision is the kind of a Verdict.
type Decision uint8

// The decisions. The zero value admits.
const (
	// Admit: go now.
	Admit Decision = iota
	// Probe: go now, as the test of a recovering dependency, which is neither retried nor hedged.
	Probe
	// Refuse: do not go. State, Reason and At (when to come back) explain it.
	Refuse
	// Wait: go at At; the permit is already held.
	Wait
	// Park: join the line.
	Park
)

// String returns "admit", "probe", "refuse", "wait" or "park".
func (d Decision) String() string {
	if d > Park {
		return "invalid"
	}
	return [...]string{"admit", "probe", "refuse", "wait", "park"}[d]
}

// Admits reports whether d lets a call go now.
func (d Decision) Admits() bool { return d <= Probe }

// Permits reports whether a permit comes with d, to be settled by one Done.
func (d Decision) Permits() bool { return d.Admits() || d == Wait }

// Verdict is a gate's answer. The zero value admits with a zero permit.
type Verdict struct {
	Decision Decision
	Permit   Permit
	// At: for Wait when to go, for Park when the wait is given up, for Refuse the earliest time another try can succeed (0 = not known).
	At Time
	// State is the gate's state in one word and Reason one sentence, for refusals. Constants, so that refusing costs nothing.
	State, Reason string
}

// Mode is how far a gate's word counts.
type Mode uint8

// The modes. The zero value is On: a gate that is in the pipeline works.
const (
	On Mode = iota
	// DryRun asks and counts, but does not act.
	DryRun
	// Off does not ask.
	Off
)

// String returns "on", "dry-run" or "off".
func (m Mode) String() string {
	switch m {
	case DryRun:
		return "dry-run"
	case Off:
		return "off"
	}
	return "on"
}
