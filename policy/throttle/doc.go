// Package throttle holds calls back that the service would refuse anyway.
//
// # Mental model
//
// A server that is over its capacity refuses calls, but refusing costs too: with enough callers a server does nothing else.
// So each client looks at what it was told in the last Window. With requests the calls that wanted to go and accepts those that the service
// took on, each further call is refused on this side with the probability
//
//	p = max(0, (requests − K × accepts) / (requests + 1)), at most Max
//
// As long as the service accepts at least one in K, p is 0. When it accepts less, clients send about K times what it
// accepts; K = 2 lets them notice quickly when there is room again. Refusals on this side count as requests, which is what
// makes p grow towards balance. Max keeps a tenth of the calls going whatever happened, so that recovery is always seen.
//
// What is over is forgiven sooner than the window forgets it: when the service has taken on more than 20 calls in a row, its earlier refusals, and those on
// this side, weigh less with each one more, and after 100 nothing. A new refusal halves that count. Where one in ten is refused, or more, it stays
// below 20, so in lasting overload nothing is forgiven.
//
// Only a server's word counts: policy.Success means that it took the call on, whatever came of it then, policy.Overloaded
// that it did not. Timeouts and failures to connect say neither and count as nothing; they are the breaker's business. Calls
// under way count as nothing either: they are requests when they have come back, or a burst after a pause would throttle itself.
//
// Each criticality is counted for itself. A server that is short of room refuses the least important calls first, so what it says of these must
// not hold back others, which it would take; and if it refuses important calls it refuses the others too, so no class is held back less than a
// more important one.
//
// It is a gate per attempt, not per call, and belongs in policy.Options.Throttle.
//
// # Source
//
// "Handling Overload" in Site Reliability Engineering (Google, 2016), chapter 21: formula, K = 2; its window is two minutes, here
// it is 30 s, because a long window remembers an overload long after it has passed. Separate statistics for each criticality are the book's too;
// a minimum of calls, Max, and the order of the classes are Hull's.
package throttle
