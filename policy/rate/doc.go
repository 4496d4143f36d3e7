// Package rate bounds how many calls may begin in a time: one promise for all, or one for each caller.
//
// # Mental model
//
// Limit calls per Per leave a space of T = Per/Limit for each. The limiter keeps one number, the moment tat at which
// all that was let through so far would have been done at that pace. A call that arrives at a gets the nominal time
//
//	n = max(tat, a), and tat becomes n + T
//
// and may go at n − τ with τ = (Burst − 1) × T: that much ahead of its nominal time. If that moment has come it goes at
// once. If it comes within MaxWait the call holds a reservation and goes then. Else it is refused and is told when
// another try can succeed. This is the generic cell rate algorithm, and in all but its bookkeeping a token bucket
// that holds Burst tokens and gets one every T: between any two moments Δ apart at most Burst + Δ/T calls go.
//
// The TokenBucket (default) lets Burst calls go at once after a pause. The LeakyBucket is the same with Burst 1: calls leave
// T apart however long the pause was, and with MaxWait they queue for their turn, MaxWait/T of them at most.
//
// # What comes back
//
// A call that does not happen gives its leave back (Done with policy.Ignored): the wait was given up, or a
// later gate refused at the same moment. If it was the latest, tat goes back by T; else its nominal time is kept for the
// next call that cannot go at once, so that no other call's time moves and the bound above holds. Once the moment of a
// leave has passed it is used up, whatever the outcome, or a caller could have any rate by cancelling what it began.
//
// # Keys
//
// With Options.Key each key has its own bucket: a caller, a tenant, a method. Memory is fixed at construction: sets of seven
// places, as in a processor's cache. A new key takes the place of the one in its set that was idle longest. A key whose bucket is full
// loses nothing by that; one that is not starts afresh, which Snapshot.Forgotten counts: then Keys is too small. Keys are told
// apart by 64-bit hashes with a seed, so that no caller can aim at another's place.
//
// # Cost and correctness
//
// Without a wait Admit is one compare-and-swap and Done does nothing. A refusal writes nothing that calls which go must
// read. A bucket whose tat is further ahead than any promise can be was left behind by a clock that went back, and is brought
// back at the next refusal.
//
// Where processors meet in tat, without keys, and more than 16,000 calls a second and 1,024 at once may go, each takes a lease: 250 µs of
// nominal times, or as many as make up 1/256 of Burst if that is less. The bound above holds all the same. Nobody is refused or held back
// while any lease has a time left, but times that pass unused in one while later ones were used in another are lost: right after calls at
// a lower rate up to four leases fewer than Burst may go at once. A millisecond later all of it is there again.
//
// It is a gate per call and belongs in policy.Options.Rate, whose refusals are status.ResourceExhausted with retry-after.
//
// # Sources
//
// ITU-T I.371 (GCRA, the virtual scheduling form); J. Turner, "New directions in communications" (1986) for the leaky bucket. Turning
// cancelled reservations back without moving later ones is what golang.org/x/time/rate approximates by returning less.
package rate
