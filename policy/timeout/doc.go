// Package timeout says how long an attempt may take, and learns it.
//
// # Mental model
//
// A caller's deadline says when the answer is worth nothing any more. An attempt's timeout says when waiting for this node is
// worth less than trying another, and that is known from how long attempts take:
//
//	T = 2 × p99 of all attempts of the last 10 s, at least Min
//
// Until MinSamples attempts are known, T is Cold, or 2 × the slowest of the few that are, if that is more; what these have taught is kept while there are
// none, and where calls are rarer than windows the latest ones teach it. Once per step, a tenth of the window, T is set anew: it rises at once, and falls by at most
// Fall, or if nobody has called for longer by as much as in that time, and in a window at most.
//
// As long as nobody has answered at all, an attempt gets a third of what is left, if that is more than Cold: a service that never answers within Cold would
// otherwise be asked for everything twice, by a caller who could have known that from the first answer. Who has set Cold gets that.
//
// While nothing was learned, T does not wait for a step: it rises as soon as half of the attempts have taken half of it, and doubles as soon as four attempts, and half of
// those since the last step, were cut off. And an attempt that follows one that timed out gets at least twice as long as that had, or 70 % of what is left, also
// when more is known (policy.Growing).
//
// All attempts means: also those that T itself cut off. They enter as longer than anything. If only the finished ones counted, a
// service that becomes slower would seem to get faster, because only its fastest answers come in time, and T would follow them down to
// the floor. If so many were cut off within a step that the p99 lies among them, nobody knows it, and T doubles, until it is
// found. It does not go beyond 8 times the last timeout that was known to be right, or the p90 if none was, unless attempts that were given more (the last
// ones of their calls) do end then: when one node in fifty hangs, waiting longer for it helps nobody. Attempts that were given up for the caller's reasons (cancelled, a lost hedge, a deadline sooner than T) enter as "at least
// so long": see package quantile. Attempts that never reached a handler (refused connections, sheds) are no sample.
//
// # What an attempt gets
//
//	another attempt can follow       min(T, 70 % of what is left), so that a node that hangs does not eat the call
//	… and that would be no fair try  all that is left: cutting it short would blame the node for the caller's haste
//	no other attempt can follow      all that is left, and T at least
//	… and so many are cut off        5 s (NoDeadline) or twice what the attempt before had; that alone once longer ones have not helped
//	the same without a deadline      NoDeadline, or T if that is more
//	Fixed is set                     Fixed
//
// None of this helps an attempt that no answer comes in time for: less is left than one attempt in a hundred has needed to end well (policy.Expecting). It is not made.
//
// The last attempt of a call, and so the only one of a call that must not be repeated, gains nothing from being cut off before its
// deadline. What it gets is never less than T, so that Fair, not the caller's deadline, decides whom a failure is charged to.
//
// But where one call in twenty hangs, of callers who have 100 s, its attempts of 100 s take the service's places from all others. So while the p99 is not known
// because too many are cut off, the last attempt of a call that has timed out before is bounded too (policy.Exploring). Four at a time, if they have equally
// much left, get all of it nevertheless; once one of those ends well the others get twice as long as it took.
//
// # What is fair
//
// When a caller's deadline passes, is it the node that was slow or the caller that was impatient? It is the node's failure if the
// attempt ran for at least min(T, p90). Otherwise one caller with deadlines of 1 ms could have a healthy fleet ejected.
// While the p90 is not known (too few samples, or too many that have no end) the last known one stands, at first Min.
//
// # Sources
//
// The clamp of a multiple of a high quantile with censored samples was found by simulation: fed with successes only, T collapses to
// the floor within a minute. The 70 % leave room for a second node. See also "Timeouts, retries, and backoff with jitter"
// (Amazon Builders' Library).
package timeout
