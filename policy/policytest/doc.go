// Package policytest is for testing policies: one's own, and those of Hull.
//
// # Mental model
//
// Policies are told the time and the randomness, and so is a whole call (policy.Exec). Whoever turns them may therefore
// invent both. World does: it is a heap of events, in which thousands of calls go through pipelines to a modelled service and an
// hour of an outage takes a second. The same seed gives the same outage.
//
//	w := policytest.NewWorld(seed)
//	server := policytest.NewServer(policytest.ServerOptions{Work: policytest.Every(3 * time.Millisecond)})
//	w.Arrive(func() float64 { return 280 }, func() { w.Call(pipeline, policy.Call{Idempotent: true}, server, count) })
//	w.At(5*time.Second, func() { server.Stall(w, 10*time.Second) })
//	w.Until(time.Minute)
//
// Load arrives open loop, at a rate, whatever becomes of it: load that waits for answers hides overload. A Server goes on
// working for callers that are gone, unless it is told not to, because that is what keeps an overload alive after its cause
// has ended.
//
// # A gate of one's own
//
// TestGate and TestLine are what a policy.Gate or policy.Line has to pass to be used in a pipeline: functions that
// panic, end their goroutine or never return, callers that give up at any moment, results that arrive when the gate is in
// another state, clocks that jump, many goroutines at once. Whatever happens, permits come back exactly once, nobody who waits is
// forgotten, and the gate gets out of every state that it got into; if it is a policy.EventSource or a policy.Pushbacker it is a good one. What a gate is for cannot be known here: that it refuses
// when it should is for its own tests to say. Caps declares what differs from gate to gate: how many places there are, how
// long recovery takes, whether old results count. A gate that does not do what it declares fails.
//
// Run it with the race detector too.
package policytest
