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
//
// What is told decides what is judged; Report.Judged says how often. Who watches processes from outside sees some things only in part: a negative pushback (6)
// is not in what a caller hears of its attempts, so that part is judged where the error is at hand, in policy and sim; that a budget paid (6) and that another node could
// have been chosen (7) follow from the ledger of a caller's calls; states (9, 10, 11) are read now and then, and those that come and go between two looks are missed;
// when a server heard of a cancellation (14) it alone knows, so of those only what is long past counts, while of deadlines everything does; capacity (12, 13) must be set by
// the handlers, so overload is judged on a service made for it.
package invariant
