// Package policy is the vocabulary of resilience, and the one place where a call's policies meet.
//
// # Protect a function
//
//	again, err := retry.New(retry.Options{})     // three attempts; what may have run is repeated only if it may run twice
//	brk, err := breaker.New(breaker.Options{})   // opens when half of 20 calls in 10 s have failed
//	lim, err := concurrency.New(concurrency.Options{Limit: 50})
//	p, err := policy.New(policy.Options{Key: "db", Retries: again, Breaker: policy.Slot{Gate: brk}, Concurrency: policy.Slot{Gate: lim}})
//	n, err := policy.Do(ctx, p, func(ctx context.Context) (int, error) { return count(ctx, db) })
//
// p is made once, the last line is each call. Do returns what the function does, or a *status.Error whose Refusal says which policy did
// not let the call go, why, and when to come back. Everything else on this page is for those who want more:
//
//   - To call: [New] and [Options] make a [Pipeline]; [Do] runs a function through it, [DoElse] and [DoAnswer] with a way out when it
//     fails ([Alternative], [Stale]), [Detach] one that ignores its context. [Call] says what may be repeated and how much it matters.
//   - To watch: [Pipeline.Snapshot] counts, an [Observer] is told the [Story] of each call, a [FallbackObserver] also who answered
//     instead, an [EventLogger] logs what changes.
//   - To write a policy of one's own: [Gate], or [Line] if calls can wait in it, answers with a [Verdict]; package policytest tests it.
//   - To build an adapter, as httppolicy and grpcpolicy are: [Pipeline.Drive] and [Pipeline.Open] make the attempts of a [Runner];
//     [Classify] and [Class] say what their results count for.
//   - To simulate: [Exec], events in, [Steps] out.
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
