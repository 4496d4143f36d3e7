// Package registry finds the nodes of services and announces one's own.
//
// # The mental model
//
// An engine (a directory on this machine, etcd, Consul, DNS …) sits behind a small [Driver]: it lists names, and it
// watches one service, handing over full snapshots or an error. Everything else lives once, in [Registry], and is the
// same for every engine.
//
//	r.Open("greeter")  →  *View    one shared watch per service; View.Snapshot is one atomic load
//	r.Register(node)   →  *Registration    announced, renewed, announced again after a loss, until closed
//
// A [Service] is an immutable snapshot. Callers read it without locks, and are told when a newer one is there.
//
// # A registry is a witness, not a judge
//
// Calls between living nodes never depend on the engine being up or right:
//
//   - An engine that fails or goes silent leaves the last good set in place, flagged Stale, for as long as it takes.
//     The Registry watches again after 100 ms, doubling to 2 s, with full jitter.
//   - A watch is replaced by a new one every ten minutes or so, which lists the service anew (Options.Relist): one that has
//     died without a word is not believed for ever.
//   - A program that starts while the engine is down goes on with what it saved to disk, for up to 24 h.
//   - Nodes that vanish are believed gone if it is proved (a [Departure]: deregistered, or the process was seen to
//     die), if they were draining, if callers cannot reach them either ([Registry.Report]), or if another node now has
//     their address. Without proof a few are believed, but not more than 15 % of a service within one TTL, and never
//     all. The disbelieved stay in the snapshot with Absent set, for a balancer to use last. They go as soon as a
//     caller fails to reach them, or after 60 s without a caller's success; they are back as soon as the engine lists
//     them again. So the state ends by itself after a true scale-down.
//
// In a fleet of three a single expired lease is a third of it. It is therefore disbelieved, which costs nothing: the
// balancer turns to the other two, and the first failed call or 60 s settle the matter. A crash that is proved, as
// fileregistry does by its lock, is believed at once in a fleet of any size.
//
// # What a driver can rely on
//
// Every node is validated on its way in and out; a bad entry is dropped and reported once, and disturbs no other. Nor is an
// entry taken that would have the program call itself in another's name, or ask a cloud's metadata service. The
// package registrytest holds the conformance suite that every driver passes.
package registry
