package policy

import (
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/internal/stripe"
)

// Observer is told what calls came to. Executors call it outside of every lock, on the caller's goroutine; it must not
// block. The story is valid only during the call.
type Observer interface {
	// Call is called once per call, when it has ended.
	Call(now Time, c *Call, s *Story)
}

// FallbackObserver is an Observer that also wants to hear what becomes of calls after they have failed.
type FallbackObserver interface {
	Observer
	// Fallback is called once for each call that failed and was answered otherwise, after its Call: from is the alternative's name, ""
	// if it came from DoElse, and why the error of the call, with those of alternatives that failed before. It is called as Call is.
	Fallback(now Time, from string, why error)
}

// Selective is an Observer that wants to hear of some calls only, and is spared the stories of the others. Wants is asked about each call when it
// has ended, where Observers are told.
type Selective interface {
	Observer
	// Wants reports whether to tell of the call.
	Wants(now Time, c *Call, class Class, took time.Duration) bool
}

// curious is an Observer that wants to hear of all calls.
type curious struct{ Observer }

// Wants implements Selective.
func (curious) Wants(Time, *Call, Class, time.Duration) bool { return true }

// Story is what happened to one call.
type Story struct {
	// Class is the call's final class, Err its error or nil.
	Class Class
	Err   error
	// Took is the time from beginning to end.
	Took time.Duration
	// Attempts are those that began, in that order.
	Attempts []AttemptStory
	// Stopped says in one sentence why no further attempt was made after a failure, or ""; StoppedBy names the policy that said so, by its
	// slot: "retry", "budget", "breaker"; "" if it was none.
	Stopped, StoppedBy string
	// Verdicts are what policies said of the call beyond a plain yes, in the order of time: MaxVerdicts at most.
	Verdicts []VerdictStory
}

// MaxVerdicts is how many verdicts a Story tells. Only calls with many attempts that all have to wait have more.
const MaxVerdicts = 24

// VerdictStory is one policy's word: that the call, or an attempt, had to wait, went as a probe, or was refused.
type VerdictStory struct {
	// Policy is the slot's name: "rate", "breaker", "throttle", "balancer", "concurrency", "retry" for the pause before another attempt,
	// "budget" for a hedge that it did not pay for, or that of a gate of one's own.
	Policy string
	// Attempt numbers the attempt that it was about, from 0; −1 = the whole call.
	Attempt int
	// Decision is Wait or Park for a wait, Probe, or Refuse. In DryRun it is what would have been.
	Decision Decision
	DryRun   bool
	// At is when it was said, Took how long was waited because of it.
	At   Time
	Took time.Duration
	// State and Reason are the policy's, for refusals.
	State, Reason string
}

// forget lets go of what others own; the room is kept.
func (s *Story) forget() {
	s.Err = nil
	clear(s.Attempts)
	s.Attempts = s.Attempts[:0]
}

// AttemptStory is what happened to one attempt.
type AttemptStory struct {
	// Node is where it went, nil around a plain function.
	Node Node
	// Start is when it began; Took how long it ran so far. Class is valid if it has ended.
	Start Time
	Took  time.Duration
	Ended bool
	Class Class
	// Err is its error, nil if it succeeded or runs on.
	Err error
	// Hedge: it was started beside another one.
	Hedge bool
}

// Counters count what pipelines do. The zero value counts from 0. They must not be copied.
type Counters struct {
	// A call whose first attempt began at once is counted once, in straight; any other in calls when it begins, and in waited
	// when its first attempt does.
	straight stripe.Counter

	calls, waited, refused, dryRefused, retries, hedges, budgetEmpty, abandoned atomic.Int64

	dryRetries, dryHedges, dryTimeouts, dryFallbacks, fallbacks atomic.Int64
}

// Snapshot is a reading of Counters.
type Snapshot struct {
	// Calls that began, and how many of them a policy refused.
	Calls, Refused int64
	// DryRefused counts what policies in dry-run would have refused.
	DryRefused int64
	// Attempts that were started; Retries and Hedges are those among them that were not first.
	Attempts, Retries, Hedges int64
	// BudgetEmpty counts attempts not made because the budget could not pay.
	BudgetEmpty int64
	// Abandoned is how many attempts are running now though their call has ended.
	Abandoned int64
	// DryRetries counts failed attempts that retries in dry-run would have repeated, DryHedges calls that hedging in dry-run would
	// have begun another attempt of, DryTimeouts attempts that timeouts in dry-run would have ended.
	DryRetries, DryHedges, DryTimeouts int64
	// Fallbacks counts calls that failed and were answered by an alternative, DryFallbacks those that a fallback in dry-run would have
	// tried to answer.
	Fallbacks, DryFallbacks int64
}

// Snapshot reads the pipeline's counters, in which others may count as well, see Options.Counters.
func (p *Pipeline) Snapshot() Snapshot { return p.n.Snapshot() }

// Snapshot reads the counters. Each is exact; together they may be a few calls apart.
func (n *Counters) Snapshot() Snapshot {
	straight, retries, hedges := n.straight.Load(), n.retries.Load(), n.hedges.Load()
	return Snapshot{straight + n.calls.Load(), n.refused.Load(), n.dryRefused.Load(), straight + n.waited.Load() + retries + hedges, retries, hedges,
		n.budgetEmpty.Load(), n.abandoned.Load(), n.dryRetries.Load(), n.dryHedges.Load(), n.dryTimeouts.Load(),
		n.fallbacks.Load(), n.dryFallbacks.Load()}
}

// FellBack counts a call of Drive that had failed and that its caller answered otherwise, or with DryRun would have tried to. DoElse and
// DoAnswer do so by themselves.
func (p *Pipeline) FellBack(m Mode) {
	switch m {
	case On:
		p.n.fallbacks.Add(1)
	case DryRun:
		p.n.dryFallbacks.Add(1)
	case Off:
	}
}
