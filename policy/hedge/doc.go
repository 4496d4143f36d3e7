// Package hedge says when a call that has no answer yet gets a second attempt on another node.
//
// # Mental model
//
// Most slow answers are slow because of the node, not because of the request. So when an attempt has taken longer than most do,
// another one is started beside it, and the first good answer wins. "The Tail at Scale" (Dean and Barroso, CACM 2013) measured
// p99.9 from 1800 to 74 ms for 2 % more calls.
//
// The delay is the p95 of the attempts of the last 10 s, so that by definition one in twenty is hedged; nothing is hedged before
// MinSamples are known. Attempts that were cut off or that lost are counted as "at least so long" (package quantile): without
// them, hedging would hide slowness from its own delay. If so many have no end that the p95 is unknown, the latest known one
// stands.
//
// A delay that was right a moment ago is wrong when everything becomes slow at once; then every call would be hedged, when the
// service can least bear it. So there is an account: each call that may be hedged pays in Extra, each extra attempt takes 1
// out, and while there is less than 1 nothing is hedged. At most Burst can be saved. Attempts under way at that moment may overdraw
// it; what is overdrawn has to be earned before the next hedge. The retry budget of the pipeline is asked besides.
//
// Hedging is for methods that are declared free of side effects, which the executor sees to: two nodes run them at the same
// time. A failure that may be tried again starts the hedge at once, without its delay. With package balance there is no hedge where
// every node that may be reached has the call already, and so none at all where a service has only one node.
//
// Further attempts are seen when the executor asks for the delay after them, so retries count as extra attempts too. It does not
// ask after the last attempt that the retry policy allows; let that have one attempt more than there are Hedges.
package hedge
