// Package pool keeps connections to nodes, above every transport.
//
// # Mental model
//
// A Pool has one Node per address. A node holds up to Options.PerNode connections, each of which carries many calls, and
// hands out the one with the fewest calls in flight, without a lock. The first Get dials and waits; everybody who comes
// meanwhile waits for the same dial, each no longer than its own deadline, and the dial goes on when a waiter leaves.
// Further connections are dialled in the background when the present ones have calls in flight. A connection that the
// peer drains, or that is lost, is replaced at once; one that nobody has used for Options.IdleTime is closed.
//
// A node whose dial failed while it has no other connection is down: Get fails at once, naming the cause and the next try. The pool tries
// again by itself, after Backoff × 1.6ⁿ ± 20 %, at most MaxBackoff apart while somebody asks for the node and at most
// IdleBackoff otherwise, so that Options.OnState tells of its return without a call being risked. A connection that is lost within a
// second, twice in a row, counts as a failed dial: a peer that hangs up on everybody is not dialled in a circle.
// One that has answered within MaxBackoff (see Node.Answered) is dialled again after a tenth of Backoff, growing to all of it, for which calls wait.
//
// Every error has fate NotSent. What failed by a dial has kind Dial (or Handshake) and code Unavailable; the waiter's own
// deadline is DeadlineExceeded of kind Timeout, its own context's end Canceled; a node that was forgotten is Draining.
package pool
