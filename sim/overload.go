package sim

import (
	"math/rand/v2"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/concurrency"
)

// before is how long before the trouble is looked at.
const before = 10 * time.Second

// recovery are the figures of scenarios in which a service has to come back.
func recovery() []Figure {
	const load, service = "calls", "store"
	return []Figure{
		{Name: "answered before", Of: func(r *Run) float64 { return r.OK(load, r.Before(before)) }, Scale: 100, Format: "%.0f %%"},
		{Name: "5–10 s after", Of: func(r *Run) float64 { return r.OK(load, r.After(5*time.Second, 5*time.Second)) }, Scale: 100, Format: "%.0f %%"},
		{Name: "attempts/s then", Of: func(r *Run) float64 {
			return r.Attempts(service, r.After(5*time.Second, 5*time.Second)) / 5
		}, Format: "%.0f"},
		{Name: "if it recovers, after", Of: func(r *Run) float64 { return r.Recovery(load) }, Format: "%.1f s"},
	}
}

// promise of scenarios in which a service has to come back.
const promised = "from 5 s after the trouble's end on, at least 95 % of the share that was answered before it"

func recovered(r *Run) bool { return r.Recovered("calls") }

// RetryStorm is scenario 1.
func RetryStorm() Scenario {
	// What recovers by itself does so late.
	later := func(rate float64, d time.Duration) func(*Scenario) {
		return func(sc *Scenario) {
			sc.Load[0].Rate, sc.Last = Steady(rate), sc.Trouble.Until+d+6*time.Second
			sc.Holds = func(r *Run) bool { return r.RecoveredAfter("calls", d) }
		}
	}
	return Scenario{
		Number: 1, Name: "retry-storm",
		Story:  "A service that can do 300 calls a second, one after the other, gets 280 and stands still for 10 s. All that it does after that is for callers who have given up, and their second attempts are twice its load.",
		Source: "Bronson et al., Metastable Failures in Distributed Systems, HotOS 2021",

		Services: []Service{{Name: "store", Cores: 1, Work: Every(time.Second / 300), Timeout: time.Second, Tries: 2}},
		Load:     []Load{{Name: "calls", To: "store", Rate: Steady(280)}},
		Faults:   []Fault{{At: 5 * time.Second, Do: Stall("store", 10*time.Second)}},
		Trouble:  Span{5 * time.Second, 15 * time.Second},
		Last:     28 * time.Second,
		Parts:    2,

		Figures: recovery(), Promise: promised, Holds: recovered,
		Rows: []Row{
			{Name: "none", With: Bare(), Expect: Never},
			{Name: "none, half the load, 150 s later", With: Bare(), Expect: Always, Vary: later(140, 150*time.Second)},
			{Name: "no retry", With: Bare(NoRetry), Expect: Never},
			{Name: "no retry, 150 s later", With: Bare(NoRetry), Expect: Always, Vary: later(280, 150*time.Second)},
			{Name: "backoff with jitter", With: Bare(Jitter), Expect: Never},
			{Name: "retry budget", With: Bare(Budget), Expect: Never},
			{Name: "throttle", With: Bare(Throttle), Expect: Never},
			{Name: "breaker", With: Bare(Breaker), Expect: Never},
			{Name: "deadline drop", With: Bare(DeadlineDrop), Expect: Never},
			{Name: "retry budget + deadline drop", With: Bare(Budget, DeadlineDrop), Expect: Always},
			{Name: "queue of 0.5 s", With: Bare(ShortQueue(500 * time.Millisecond)), Expect: Always},
			{Name: "LIFO", With: Bare(LIFO), Expect: Always},
			{Name: "Hull's server", With: Bare(Admission), Expect: Always},
			{Name: "Hull", With: Hull(), Expect: Always},
		},
	}
}

// CPUThrottle is scenario 2.
func CPUThrottle() Scenario {
	const scale = 40
	return Scenario{
		Number: 2, Name: "cpu-throttle",
		Story:  "A service with two and a half times the capacity that it needs loses 80 % of it for 10 s, while each call is tried five times. One fortieth of the original's size.",
		Source: "Huang et al., Metastable Failures in the Wild, OSDI 2022, figure 5",

		Services: []Service{{Name: "store", Cores: 10, Work: Every(10 * scale * time.Second / 15600), Timeout: 3 * time.Second, Tries: 5}},
		Load:     []Load{{Name: "calls", To: "store", Rate: Steady(6200. / scale)}},
		Faults:   []Fault{{At: 5 * time.Second, For: 10 * time.Second, Do: Slow("store", 5)}},
		Trouble:  Span{5 * time.Second, 15 * time.Second},
		Last:     28 * time.Second,
		Parts:    2,

		Figures: recovery(), Promise: promised, Holds: recovered,
		Rows: []Row{
			{Name: "none", With: Bare(), Expect: Never},
			{Name: "none, 70 % for 10 s", With: Bare(), Expect: Always, Vary: func(sc *Scenario) { sc.Faults[0].Do = Slow("store", 1/0.3) }},
			{Name: "none, two thirds of the load", With: Bare(), Expect: Always, Vary: func(sc *Scenario) { sc.Load[0].Rate = Steady(4200. / scale) }},
			{Name: "backoff with jitter", With: Bare(Jitter), Expect: Seldom},
			{Name: "1 retry", With: Bare(Tries(2)), Expect: Always},
			{Name: "retry budget", With: Bare(Budget), Expect: Always},
			{Name: "throttle", With: Bare(Throttle), Expect: Never},
			{Name: "breaker", With: Bare(Breaker), Expect: Never},
			{Name: "deadline drop", With: Bare(DeadlineDrop), Expect: Always},
			{Name: "queue of 0.5 s", With: Bare(ShortQueue(500 * time.Millisecond)), Expect: Always},
			{Name: "LIFO", With: Bare(LIFO), Expect: Always},
			{Name: "Hull's server", With: Bare(Admission), Expect: Always},
			{Name: "Hull", With: Hull(), Expect: Always},
		},
	}
}

// crowded is work that takes longer the more of it there is.
func crowded(_ rand.Source, busy int) time.Duration {
	return time.Second + time.Duration(busy)*10*time.Millisecond
}

// late is a backoff that spreads the repetitions of a spike over a minute.
func late(p *Protection) { p.change(backoff(20*time.Second, 40*time.Second)) }

// two gives the machine of the service two processors.
func two(sc *Scenario) { sc.Services[0].Processors = 2 }

// OpenLoopSpike is scenario 3.
func OpenLoopSpike() Scenario {
	return Scenario{
		Number: 3, Name: "open-loop-spike",
		Story:  "A service takes 1 s, and 10 ms more for each call that it has under way. It gets 40 calls a second, and twice as many for 5 s.",
		Source: "M. Brooker, Metastability and Distributed Systems, his simulator",

		Services: []Service{{Name: "store", Work: crowded, Network: 100 * time.Millisecond, Timeout: 3 * time.Second, Tries: 3}},
		Load:     []Load{{Name: "calls", To: "store", Rate: Steady(40).Then(30*time.Second, Steady(80)).Then(35*time.Second, Steady(40))}},
		Trouble:  Span{30 * time.Second, 35 * time.Second},
		Last:     75 * time.Second,

		Figures: append(recovery(), Figure{Name: "in the first 10 s of all", Of: func(r *Run) float64 {
			return r.OK("calls", Span{0, 10 * time.Second})
		}, Scale: 100, Format: "%.0f %%"}),
		Promise: promised, Holds: recovered,
		Rows: []Row{
			{Name: "none", With: Bare(), Expect: Rather},
			{Name: "backoff with jitter, 25 s later", With: Bare(late), Expect: Often, Vary: func(sc *Scenario) {
				sc.Holds = func(r *Run) bool { return r.RecoveredAfter("calls", 25*time.Second) }
			}},
			{Name: "no retry", With: Bare(NoRetry), Expect: Always},
			{Name: "retry budget", With: Bare(Budget), Expect: Rather},
			{Name: "throttle", With: Bare(Throttle), Expect: Rather},
			{Name: "breaker", With: Bare(Breaker), Expect: Rather},
			{Name: "limit of 150", With: Bare(Limit(150)), Expect: Always},
			{Name: "Hull's server", With: Bare(Admission), Expect: Often},
			{Name: "Hull's server, 2 processors", With: Bare(Admission), Expect: Often, Vary: two},
			{Name: "Hull", With: Hull(), Expect: Often},
			{Name: "Hull, 2 processors", With: Hull(), Expect: Often, Vary: two,
				Note: "The server begins with 40 places in place of 80, and with 64 at most before it has found out that more help; about 67 are needed."},
		},
	}
}

// OpenLoopRamp is scenario 4.
func OpenLoopRamp() Scenario {
	end := func(r *Run) Span { return Span{r.Scenario.Last - 8*time.Second, r.Scenario.Last} }
	return Scenario{
		Number: 4, Name: "open-loop-ramp",
		Story:  "The same service, whose load grows to 80 calls a second within 25 s and stays there. It can do 60 a second in time, if it has no more than 150 under way.",
		Source: "M. Brooker's simulator",

		Services: []Service{{Name: "store", Work: crowded, Network: 100 * time.Millisecond, Timeout: 3 * time.Second, Tries: 3}},
		Load:     []Load{{Name: "calls", To: "store", Rate: Ramp(40, 80, 5*time.Second, 30*time.Second)}},
		Trouble:  Span{5 * time.Second, 30 * time.Second},
		Last:     50 * time.Second,

		Figures: []Figure{
			{Name: "answered/s at the end", Of: func(r *Run) float64 { return r.Goodput("calls", end(r)) }, Format: "%.0f"},
			{Name: "of what is possible", Of: func(r *Run) float64 { return r.Goodput("calls", end(r)) / 60 }, Scale: 100, Format: "%.0f %%"},
			{Name: "attempts/s then", Of: func(r *Run) float64 { return r.Attempts("store", end(r)) / 8 }, Format: "%.0f"},
		},
		Promise: "at the end, at least half of what is possible",
		Holds:   func(r *Run) bool { return r.Goodput("calls", end(r)) >= 30 },
		Rows: []Row{
			{Name: "none", With: Bare(), Expect: Never},
			{Name: "backoff with jitter", With: Bare(late), Expect: Never},
			{Name: "no retry", With: Bare(NoRetry), Expect: Never},
			{Name: "retry budget", With: Bare(Budget), Expect: Never},
			{Name: "throttle", With: Bare(Throttle), Expect: Never},
			{Name: "breaker", With: Bare(Breaker), Expect: Never},
			{Name: "limit of 150", With: Bare(Limit(150)), Expect: Always},
			{Name: "Hull's server", With: Bare(Admission), Expect: Often},
			{Name: "Hull", With: Hull(), Expect: Often,
				Note: "Its calls have 9 s for all attempts, so that more of them come in time than with 3 s for each."},
			{Name: "Hull, 2 processors", With: Hull(), Expect: Often, Vary: two,
				Note: "The server begins with 40 places in place of 80."},
		},
	}
}

// DemandJump is scenario 12.
func DemandJump() Scenario {
	const cores, work = 8, 10 * time.Millisecond
	const capacity = float64(cores) / 0.010
	const jump, last = 4 * time.Second, 9 * time.Second
	load := func(capacity float64) Rate { return Steady(0.8*capacity).Then(jump, Steady(1.4*capacity)) }
	share := func(r *Run, s Span) float64 { return r.Goodput("calls", s) / (r.Scenario.Load[0].Rate(0) / 0.8) } // of the capacity
	worst := func(r *Run) float64 {
		least := 1e9
		for from := jump + 300*time.Millisecond; from+500*time.Millisecond <= last-time.Second; from += 250 * time.Millisecond {
			least = min(least, share(r, Span{from, from + 500*time.Millisecond}))
		}
		return least
	}
	mean := func(r *Run) float64 { return share(r, Span{jump + 300*time.Millisecond, last - time.Second}) }
	knee := concurrency.Options{Limit: 3 * cores, Queue: 1000}
	lifo, codel := knee, knee
	lifo.Order, codel.Order = concurrency.LIFO, concurrency.CoDel
	return Scenario{
		Number: 12, Name: "demand-jump",
		Story:  "The load of a service with 8 cores and 10 ms of work jumps from 0.8 to 1.4 times its capacity, and stays there.",
		Source: "Cho et al., Overload Control for µs-Scale RPCs with Breakwater, OSDI 2020 (0.5 to 1.6 s with DAGOR and SEDA)",

		Services: []Service{{Name: "store", Cores: cores, Work: Spread(work), Timeout: time.Second}},
		Load:     []Load{{Name: "calls", To: "store", Rate: load(capacity)}},
		Trouble:  Span{jump, last},
		Last:     last,
		Parts:    2,

		Figures: []Figure{
			{Name: "goodput, worst half second", Of: worst, Scale: 100, Format: "%.0f %%"},
			{Name: "on average", Of: mean, Scale: 100, Format: "%.0f %%"},
			{Name: "p99 of all", Of: func(r *Run) float64 { return r.Quantile("calls", 0.99, Span{jump, last}) }, Scale: 1000, Format: "%.0f ms"},
		},
		Promise: "from 0.3 s after the jump on, no half second with a goodput of less than 90 % of the capacity",
		Holds:   func(r *Run) bool { return worst(r) >= 0.9 },
		Rows: []Row{
			{Name: "none", With: Bare(), Expect: Never},
			{Name: "throttle", With: Bare(Throttle), Expect: Never},
			{Name: "breaker", With: Bare(Breaker), Expect: Never},
			{Name: "deadline drop", With: Bare(DeadlineDrop), Expect: Never},
			{Name: "limit of 24, endless line", With: Bare(Line(concurrency.Options{Limit: 3 * cores, MaxWait: time.Hour})), Expect: Never},
			{Name: "limit of 24, line of 100 ms", With: Bare(Line(knee)), Expect: Often},
			{Name: "limit of 24, LIFO", With: Bare(Line(lifo)), Expect: Often},
			{Name: "limit of 24, CoDel", With: Bare(Line(codel)), Expect: Often},
			{Name: "Hull's server", With: Bare(Admission), Expect: Either,
				Note: "It serves the capacity on average, but of the calls that begin in a single half second fewer. Its callers wait for 1 s, so it has no reason to take places away at once; the limit comes down from 20 for each core step by step, and at each step fewer are let in for a moment."},
			{Name: "Hull", With: Hull(), Expect: Often,
				Note: "Callers have learned to wait for 0.1 s, and with 20 places for each core the server would take 0.2 s. It sees that coming while places fill, and takes half of them away before the first answer is late."},
			{Name: "Hull, work of 20 ms", With: Hull(), Expect: Mostly, Vary: func(sc *Scenario) { sc.Services[0].Work, sc.Load[0].Rate = Spread(2*work), load(capacity/2) },
				Note: "As the real program below has it. Callers have learned to wait for 0.1 s here too, which is five times the work and not ten, so places are taken away later. Each half second is 200 calls: with a fixed limit of 24 it does not hold always either."},
		},
	}
}

// PriorityShed is scenario 13.
func PriorityShed() Scenario {
	const cores = 4
	const capacity = float64(cores) / 0.010
	const spike, last = 4 * time.Second, 9 * time.Second
	during := Span{spike, last}
	answered := func(load string) func(*Run) float64 { return func(r *Run) float64 { return r.OK(load, during) } }
	line := concurrency.Options{Limit: 3 * cores, Queue: 1000, Order: concurrency.CoDel}
	flat := line
	flat.Flat = true
	return Scenario{
		Number: 13, Name: "priority-shed",
		Story:  "Calls of users take half of a service's capacity, prefetching a fifth of it. Then there is twelve times as much prefetching.",
		Source: "Netflix, Enhancing resilience with service-level prioritized load shedding, 2024",

		Services: []Service{{Name: "store", Cores: cores, Work: Spread(10 * time.Millisecond), Timeout: time.Second}},
		Load: []Load{
			{Name: "users", To: "store", Rate: Steady(0.5 * capacity), Criticality: policy.Critical},
			{Name: "prefetch", To: "store", Rate: Steady(0.2*capacity).Then(spike, Steady(12*0.2*capacity)), Criticality: policy.Sheddable},
		},
		Trouble: during,
		Last:    last,
		Parts:   2,

		Figures: []Figure{
			{Name: "users", Of: answered("users"), Scale: 100, Format: "%.1f %%"},
			{Name: "prefetch", Of: answered("prefetch"), Scale: 100, Format: "%.0f %%"},
			{Name: "users' p99", Of: func(r *Run) float64 { return r.Quantile("users", 0.99, during) }, Scale: 1000, Format: "%.0f ms"},
		},
		Promise: "at least 99 % of the users' calls during the spike, and 1 % of the prefetching, are answered",
		Holds:   func(r *Run) bool { return answered("users")(r) >= 0.99 && answered("prefetch")(r) >= 0.01 },
		Rows: []Row{
			{Name: "none", With: Bare(), Expect: Never},
			{Name: "throttle", With: Bare(Throttle), Expect: Never},
			{Name: "breaker", With: Bare(Breaker), Expect: Never},
			{Name: "deadline drop", With: Bare(DeadlineDrop), Expect: Never},
			{Name: "limit of 12, one class", With: Bare(Line(flat)), Expect: Never},
			{Name: "limit of 12, by criticality", With: Bare(Line(line)), Expect: Often},
			{Name: "Hull's server", With: Bare(Admission), Expect: Often},
			{Name: "Hull", With: Hull(), Expect: Often},
			{Name: "Hull, one caller for both", With: Hull(), Expect: Often, Vary: func(sc *Scenario) { sc.Load[1].By = "users" }},
			{Name: "Hull, work of 20 ms, two methods", With: Hull(), Expect: Often, Vary: func(sc *Scenario) {
				sc.Services[0].Cores, sc.Services[0].Methods = 2*cores, []Method{{Name: "get", Work: Spread(20 * time.Millisecond)}, {Name: "ping"}}
				for i := range sc.Load {
					sc.Load[i].To = "store/get"
				}
				sc.Load[1].By = "users"
				sc.Load[1].Rate = Steady(0.2*capacity).Then(spike+100*time.Millisecond, Steady(12*0.2*capacity))
			}, Note: "As the real program below has it: one caller for both, and a server with a reserve for each method. The spike comes midway between two of the moments in which that is determined."},
		},
	}
}
