// Package invariant checks what was observed of calls, nodes and policies against the fifteen invariants that Hull promises to keep
// whatever fails. Tests, soak runs and the demo tell a [Checker] what they see, as it happens and in any order, and ask at the end what
// was broken. It believes nobody: what a call says of itself is compared with what the servers saw of it.
//
//	 1  every call ends exactly once
//	 2  no call outlives its deadline by more than 50 ms and what the process stood still
//	 3  what is not idempotent runs once at most, and not at all if it is said not to have been sent
//	 4  a key starts once among nodes that share a store, but for declared reruns
//	 5  attempts at a service are at most 1.1 times the root calls, and the declared burst
//	 6  nothing is tried again after a downstream failure, a negative pushback, or without budget
//	 7  no node is tried twice while another may be
//	 8  permits, places and calls in flight are back at zero in the end; abandoned ones are within their cap
//	 9  no more nodes are ejected than the cap allows, never all, and failing open is said
//	10  a breaker opens from failures of the service, not from sheds, cancellations and refusals alone
//	11  every open, ejected or disbelieving state ends when its cause has
//	12  overload leaves goodput at 90 % of capacity, and at 80 % load nearly nothing is shed
//	13  a class is shed beyond its reserve only while the lower ones are at theirs
//	14  no handler starts when its server knows that nobody waits
//	15  discovery never loses a live node, and no call reaches the wrong instance
package invariant
