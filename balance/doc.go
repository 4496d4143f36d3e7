// Package balance chooses the node of each attempt, and stops choosing nodes that callers see fail.
//
// A Picker belongs to one client and one service. It is a policy.Nodes: Pick chooses, Done is told what became of it.
// Nothing in it reads a clock, starts a goroutine or sets a timer: what is due is done by the next Pick.
//
// Three questions are asked, one after the other:
//
//   - Who may serve? Nodes that match the Selector and the filter, that publish the method (or publish no methods at
//     all) and are not draining. If no node publishes the method, all are asked: a node may serve more than it publishes.
//   - Who is avoided? See below. The others are the pool.
//   - Who in the pool? The Strategy says; P2C with peak-EWMA unless told otherwise.
//
// # Who is avoided, and for how long
//
// Three things speak against a node. They differ in how sure they are, and so in how they end:
//
//   - It is down: a connection was refused, or a request could not leave, or the node said that it is draining. That
//     is a fact; one answer to a later attempt refutes it, and so does a connection that the client has again (Node.Up).
//     Until then a probe goes once a second, or the client itself looks once a second, if it says that it will (Knock).
//   - It is a suspect: calls are in flight and nothing has been heard from it for max(3 × p99, 100 ms), or an attempt
//     timed out with nothing heard since it began, or its connection broke. An answer lifts it; probes as above.
//   - It is ejected, which is a judgement: 5 failures in a row, a success rate below the fleet's mean − 1.9σ, or one
//     that is 30 points below that of the others together, which holds for two nodes as well. It ends after 5 s × the
//     number of ejections (at most 60 s, with jitter), or when two attempts succeed.
//
// Judgements can be wrong about everybody at once, so at most half of the nodes are ejected, and never one without
// which no good node would be left; so it is with broken connections, which one poisonous request can cause on every
// node it reaches. Refusal and silence are not capped: nothing is gained by trying again what cannot be reached. If
// fewer than half of the reachable nodes are in good standing, the ejected ones serve too (Snapshot.Panic); if no node
// is, all are tried. So a Picker with nodes always picks one.
//
// Nor is a node ejected for long for a request that fails wherever it goes: what a call has counted against its nodes is taken back at its end, if it failed on
// two or more and none answered it (Acquit); many such at once can have nodes ejected until then. That its connection broke, or that nothing was heard, is seen all the same.
//
// A probe is an ordinary first attempt of an ordinary call, while another node is there to repeat it on: of an
// idempotent one, but of any for a node that is down, where a failure costs nothing, and for a suspect if no idempotent
// one has come along for three seconds. It is not marked as a Probe in its Verdict, because that would forbid just
// this repetition. What ejection lasts for does not depend on probes.
//
// # What latency is charged
//
// An answer counts as it is. A failure counts as the fleet's p99 at least, and twice as much as the node's estimate
// was, or a node that fails fast would attract everybody. Cancelled attempts and hedge losers are lower bounds: they
// can only raise an estimate. An idle node drifts towards the fleet's median, where new nodes start.
package balance
