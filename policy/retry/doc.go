// Package retry decides whether a failed attempt is followed by another, and how many extra attempts there may be.
//
// # Mental model
//
// Three questions are asked after a failure, and each "no" has its sentence. Is it safe? That follows from facts: what failed
// (policy.Class), what is proved about it (status.Fate) and what the method was declared to be. Is it wanted? The server may
// have said to stay away, and a caller above may be repeating already. Can it be afforded? That is Budget's business, asked
// by the executor, which also sees to the deadline and to going to another node.
//
// What was proved not to have been processed may be repeated whatever it does. All else needs a method that is declared
// idempotent: repeating what may have happened has paid people twice (istio #50506). Some failures are never repeated,
// whatever their fate: a refusal on this side, an answer that would be the same again, a call whose caller is gone or that has
// been repeated already by the node nearest to the failure.
//
// # How long to wait
//
// Nothing if the request was not sent: another node is not the one that failed. Otherwise full jitter: a draw between 0 and
// min(Cap, Base × 2ⁿ⁻¹) before the n-th repetition ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015;
// Base and Cap are Envoy's, 25 and 250 ms). A server's pushback is a floor; the draw is added to it, so that callers
// that were sent away together do not come back together.
//
// # The budget
//
// Retries help while few calls fail, and make an outage worse when many do. The budget is a bucket of tokens that is earned
// by successes only: +1 for a first attempt's success, −10 for a retry or hedge, −20 after a timeout, which cost the other side
// more. In the long run that is at most 10 % more attempts than calls, and none at all while nothing succeeds. There is no
// trickle: Finagle's ten retries per second give a client of one call per second eleven times its load.
//
// Capacity is what must be there at once: when one connection dies, all calls in flight on it fail together. So it is
// 10 tokens × max(100, 2 × the peak in flight to one node within 10 s), which Peak is told. When the peak changes, the tokens change in
// proportion: a full budget stays full and an empty one empty, so that a peak that comes and goes makes no tokens.
//
// Calls that are sheddable find no more than the upper half of the tokens: refused in masses by an overloaded service they would leave
// nothing for those whose attempts are lost beside them.
//
// AWS SDKs (500 tokens, 5 per retry, 10 after a timeout, 1 back) and gRPC's retry throttling are the models.
package retry
