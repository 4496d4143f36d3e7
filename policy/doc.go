// Package policy is the vocabulary of resilience, and the one place where a call's policies meet.
//
// # Protect a function
//
//	again, err := retry.New(retry.Options{})       // three attempts
//	brk, err := breaker.New(breaker.Options{})     // opens at half of 20 calls in 10 s
//	p, err := policy.New(policy.Options{Key: "db", Retries: again, Breaker: policy.Slot{Name: "breaker", Gate: brk}})
//	v, err := policy.Do(ctx, p, func(ctx context.Context) (int, error) { return query(ctx) })
//
// The policies themselves are packages below this one: breaker, retry, hedge, timeout, concurrency, rate, throttle. Each is a small
// state machine that is given the time and the randomness, starts nothing and waits for nothing.
//
// # The order
//
// A Pipeline asks its policies in one order, which is part of its meaning and cannot be changed:
//
//	call      ┌ rate limit → own gates → breaker ──────────────────────────────┐
//	attempt   │   ┌ throttle → node → concurrency → timeout → fn ┐             │
//	          │   └──────── retry and hedge drive this ──────────┘             │
//	          └────────────────────────────────────────────────────────────────┘
//
// The rate limit comes first because it is the caller's own promise. The breaker is outside of the retries: it counts calls, not
// attempts, or two bad nodes out of four would open it; it is asked again before each further attempt, so that a call does
// not go on through a breaker that has opened. The throttle is asked before a node is chosen, because what it knows is
// about the service; the concurrency limit after, so that a waiting attempt holds a place in one line only. Every attempt
// after the first is paid for from the budget. A call that a half-open breaker let through as a probe is neither retried nor
// hedged.
//
// # One call is a state machine too
//
// Exec takes events (begin, wake, verdict, result, cancel) and gives steps (start attempt k, wake me at t, cancel, release,
// done). Every decision and every record of a call is made there. Three executors turn it: Do and its kin with contexts
// and timers, the RPC client, and event heaps in tests and simulations. They differ in how they wait; none decides.
//
// # What a result counts for
//
// Classify sorts errors into classes, and the table behind Class.Counts says, once for all policies, what a class counts
// for: whether the breaker sees a failure, whether it is the node's fault, who may be retried and what that costs. Each
// attempt is recorded once, by those who keep statistics of nodes and latencies, and each call once, by the breaker.
//
// # What can be seen
//
// What one call came to is told to an Observer, when it has ended. What state a policy is in is read, never pushed: its Snapshot
// says what it is now, its Events what changed, beginning with the initial state (EventSource). An EventLogger makes a line of
// each change.
package policy
