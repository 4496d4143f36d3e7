// Package sim plays outages in virtual time, with Hull's own policies as those who decide, and says which protection helps against what.
//
// # Mental model
//
// A Scenario is services, calls that arrive, what goes wrong, and ways of protection that are compared. A run of it is a heap of events
// (package policytest) in which everything that Hull decides is decided by Hull's own code: whole calls by policy.Exec, with pipelines,
// breakers, budgets, timeouts and pickers that package spec makes from a document, and servers by policy/admission. What is modelled is
// what those act on: nodes with cores, threads and queues, work that takes its time, networks, faults, and what a registry says. A second of a thousand calls
// takes some milliseconds, and the same seed gives the same run.
//
// Load is open loop: calls arrive at a rate, whatever becomes of them. A call that has not ended in time has failed.
//
// # A scenario of one's own
//
// Describe it, and measure it over many seeds: what happens near a threshold differs from seed to seed.
//
//	sc := sim.Scenario{
//		Services: []sim.Service{{Name: "store", Cores: 1, Work: sim.Every(10 * time.Millisecond), Tries: 3}},
//		Load:     []sim.Load{{Name: "calls", To: "store", Rate: sim.Steady(80)}},
//		Faults:   []sim.Fault{{At: 5 * time.Second, For: 5 * time.Second, Do: sim.Slow("store", 4)}},
//		Trouble:  sim.Span{From: 5 * time.Second, Until: 10 * time.Second},
//		Last:     25 * time.Second,
//		Holds:    func(r *sim.Run) bool { return r.Recovered("calls") },
//		Rows:     []sim.Row{{Name: "none", With: sim.Bare()}, {Name: "Hull", With: sim.Hull()}},
//	}
//	results, err := sc.Measure(ctx, 20, 2)
//
// A Row names a Protection. Bare is a program that was written without a thought, Hull one that uses Hull with nothing configured; both
// take Cures. Client makes a Cure of anything that a document can say:
//
//	sim.Hull(sim.Client(func(d *spec.Service) { d.Breaker.Mode = spec.Off }))
//
// Figures are what is measured beside whether it holds. A Run has what they are made of: the share of calls that ended well, quantiles,
// attempts, work that was wasted.
//
// # The scenarios
//
// Scenarios returns the twenty that docs/scenarios.md shows the results of. Each is a function of its own that can be read as the description
// of an experiment. "hull simulate" plays them.
package sim
