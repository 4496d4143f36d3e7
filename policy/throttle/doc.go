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
// Only a server's word counts: policy.Success means that it took the call on, whatever came of it then, policy.Overloaded
// that it did not. Timeouts and failures to connect say neither and count as nothing; they are the breaker's business. Calls
// under way count as nothing either: they are requests when they have come back, or a burst after a pause would throttle itself.
//
// It is a gate per attempt, not per call, and belongs in policy.Options.Throttle.
//
// # Source
//
// "Handling Overload" in Site Reliability Engineering (Google, 2016), chapter 21: formula, K = 2; its window is two minutes, here
// it is 30 s, because a long window remembers an overload long after it has passed. A minimum of calls and Max are Hull's.
package throttle
