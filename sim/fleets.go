package sim

import (
	"math/rand/v2"
	"time"

	"github.com/hull-go/hull/spec"
)

// LoadRamp is scenario 9.
func LoadRamp() Scenario {
	const count, promise, mean = 15, 50., 80 * time.Millisecond
	const step = 16 * time.Second
	span := func(i int) Span {
		return Span{time.Duration(i)*step + step/4, time.Duration(i+1) * step}
	}
	total := promise * count
	p999 := func(i int) func(*Run) float64 {
		return func(r *Run) float64 { return r.Quantile("calls", 0.999, span(i)) }
	}
	missed := func(i int) func(*Run) float64 { return func(r *Run) float64 { return 1 - r.OK("calls", span(i)) } }
	return Scenario{
		Number: 9, Name: "load-ramp",
		Story: "15 clients and 15 servers of 4 cores and 80 ms. A server has what it was promised for certain, and 2.4 times that while its neighbours on the machine " +
			"are quiet, three quarters of the time. The load is 0.75, 1.03, 1.27 and 1.74 times what was promised, the deadline 5 s.",
		Source: "Wydrowski et al., Load is not what you should balance: Introducing Prequal, NSDI 2024, figure 6",

		Services: []Service{{Name: "store", Nodes: count, Cores: 4, Work: About(mean), Timeout: 5 * time.Second}},
		Load: []Load{{Name: "calls", To: "store", Clients: count,
			Rate: Steady(0.75*total).Then(step, Steady(1.03*total)).Then(2*step, Steady(1.27*total)).Then(3*step, Steady(1.74*total))}},
		Faults:  []Fault{{Do: Neighbours("store", 2.4, 0.25, 10*time.Second)}},
		Trouble: Span{0, 4 * step},
		Last:    4 * step,
		Parts:   5,

		Figures: []Figure{
			{Name: "p99.9 at 1.03", Of: p999(1), Scale: 1000, Format: "%.0f ms"},
			{Name: "at 1.27", Of: p999(2), Scale: 1000, Format: "%.0f ms"},
			{Name: "missed", Of: missed(2), Scale: 100, Format: "%.2f %%"},
			{Name: "at 1.74", Of: p999(3), Scale: 1000, Format: "%.0f ms"},
			{Name: "missed", Of: missed(3), Scale: 100, Format: "%.2f %%"},
		},
		Promise: "at 1.74 times the promise at most one call in a thousand fails",
		Holds:   func(r *Run) bool { return missed(3)(r) <= 0.001 },
		Rows: []Row{
			{Name: "weighted round robin", With: Bare(Balance("weighted")), Expect: Never},
			{Name: "least connections", With: Bare(Balance("least-connections")), Expect: Always},
			{Name: "prequal", With: Bare(Balance("prequal")), Expect: Always},
			{Name: "p2c", With: Bare(Balance("p2c")), Expect: Always},
			{Name: "Hull", With: Hull(), Expect: Always},
		},
	}
}

// GrayReplica is scenario 10.
func GrayReplica() Scenario {
	measured := Span{2 * time.Second, 6 * time.Second}
	p := func(q float64) func(*Run) float64 {
		return func(r *Run) float64 { return r.Quantile("calls", q, measured) }
	}
	return Scenario{
		Number: 10, Name: "gray-replica",
		Story:  "Ten nodes of 8 cores and 10 ms, at half load. One of them is ten times slower.",
		Source: "a model of our own",

		Services: []Service{{Name: "store", Nodes: 10, Cores: 8, Work: About(10 * time.Millisecond), Timeout: 20 * time.Second}},
		Load:     []Load{{Name: "calls", To: "store", Rate: Steady(4000), SideEffectFree: true}},
		Faults:   []Fault{{Do: Slow("store", 10, 3)}},
		Trouble:  measured,
		Last:     measured.Until,
		Parts:    4,

		Figures: []Figure{
			{Name: "p50", Of: p(0.5), Scale: 1000, Format: "%.0f ms"},
			{Name: "p99", Of: p(0.99), Scale: 1000, Format: "%.0f ms"},
			{Name: "p99.9", Of: p(0.999), Scale: 1000, Format: "%.0f ms"},
			{Name: "attempts for each call", Of: func(r *Run) float64 {
				all, _ := r.Calls("calls", measured)
				return r.Attempts("store", measured) / float64(all)
			}, Format: "%.3f"},
		},
		Promise: "p99 at most 65 ms, with at most 5 % more attempts than calls",
		Holds: func(r *Run) bool {
			all, _ := r.Calls("calls", measured)
			return p(0.99)(r) <= 0.065 && r.Attempts("store", measured) <= 1.05*float64(all)
		},
		Rows: []Row{
			{Name: "round robin", With: Bare(), Expect: Never},
			{Name: "round robin, ejection", With: Bare(Eject), Expect: Never},
			{Name: "round robin, hedged after 50 ms", With: Bare(Hedge(50*time.Millisecond, 0.05)), Expect: Never},
			{Name: "least connections", With: Bare(Balance("least-connections")), Expect: Either},
			{Name: "p2c", With: Bare(Balance("p2c")), Expect: Often},
			{Name: "p2c, hedged after 50 ms", With: Bare(Balance("p2c"), Hedge(50*time.Millisecond, 0.05)), Expect: Often},
			{Name: "Hull", With: Hull(), Expect: Often},
			{Name: "Hull, hedged", With: Hull(Hedge(0, 0.05)), Expect: Either,
				Note: "Hedges are 5 % of the calls and a burst of ten, and there are a few retries beside them: a little more than 5 % in all."},
		},
	}
}

// FanOutHedge is scenario 11.
func FanOutHedge() Scenario {
	const fan = 100
	measured := Span{5 * time.Second, 35 * time.Second}
	tail := func(rnd rand.Source, _ int) time.Duration {
		r := rand.New(rnd)
		d := time.Duration(1+4*r.Float64()) * time.Millisecond
		if r.Float64() < 0.0004 { // somewhere something else goes on
			d += time.Duration(r.ExpFloat64() * float64(400*time.Millisecond))
		}
		return d
	}
	p := func(q float64) func(*Run) float64 {
		return func(r *Run) float64 { return r.Quantile("requests", q, measured) }
	}
	more := func(r *Run) float64 {
		all, _ := r.Calls("requests", measured)
		return r.Attempts("store", measured)/float64(all*fan) - 1
	}
	return Scenario{
		Number: 11, Name: "fan-out-hedge",
		Story:  "A request reads 100 keys from 20 servers that answer within 5 ms, but for one answer in 2500 that takes 0.4 s on average. A tenth of the original's size, with a tail so much heavier.",
		Source: "Dean and Barroso, The Tail at Scale, CACM 2013 (p99.9 from 1800 to 74 ms for 2 % more calls)",

		Services: []Service{{Name: "store", Nodes: 20, Work: tail, Timeout: 10 * time.Second}},
		Load:     []Load{{Name: "requests", To: "store", Rate: Steady(8), Fan: fan, SideEffectFree: true}},
		Trouble:  measured,
		Last:     measured.Until,
		Parts:    4,

		Figures: []Figure{
			{Name: "p50", Of: p(0.5), Scale: 1000, Format: "%.0f ms"},
			{Name: "p99", Of: p(0.99), Scale: 1000, Format: "%.0f ms"},
			{Name: "p99.9", Of: p(0.999), Scale: 1000, Format: "%.0f ms"},
			{Name: "more attempts", Of: more, Scale: 100, Format: "%.1f %%"},
		},
		Promise: "p99 at most 100 ms, with at most 6 % more attempts",
		Holds:   func(r *Run) bool { return p(0.99)(r) <= 0.1 && more(r) <= 0.06 },
		Rows: []Row{
			{Name: "none", With: Bare(), Expect: Never},
			{Name: "p2c", With: Bare(Balance("p2c")), Expect: Never},
			{Name: "hedged after 10 ms", With: Bare(Hedge(10*time.Millisecond, 0.05)), Expect: Often},
			{Name: "Hull", With: Hull(), Expect: Never,
				Note: "By contract: hedging doubles what some calls cause, so it is off unless a document asks for it. The learned timeout and one retry do what they can; the next row is what the scenario is about."},
			{Name: "Hull with hedging declared", With: Hull(Hedge(0, 0.05)), Expect: Often,
				Note: "The document says hedge: {mode: on}, and that these methods have no side effects."},
		},
	}
}

// ShardedBreaker is scenario 14.
func ShardedBreaker() Scenario {
	const nodes = 10
	down := Span{5 * time.Second, 15 * time.Second}
	failed := func(from, until time.Duration) func(*Run) float64 {
		return func(r *Run) float64 { return 1 - r.OK("calls", Span{down.From + from, down.From + until}) }
	}
	nervous := Client(func(d *spec.Service) { d.Breaker.Mode, d.Breaker.Failures = spec.On, 0.05 })
	return Scenario{
		Number: 14, Name: "sharded-breaker",
		Story:  "The keys of a service lie on ten nodes, but any node can answer for another, more slowly. One of them fails everything for 10 s. There are no retries.",
		Source: "M. Brooker, Fixing retries with token buckets and circuit breakers, 2022",

		Services: []Service{{Name: "store", Nodes: nodes, Work: About(5 * time.Millisecond), Timeout: time.Second}},
		Load:     []Load{{Name: "calls", To: "store", Rate: Steady(500), Keys: 10_000, Once: true}},
		Faults:   []Fault{{At: down.From, For: down.Until - down.From, Do: Fail("store", 1, 3)}},
		Trouble:  down,
		Last:     20 * time.Second,
		Parts:    2,

		Figures: []Figure{
			{Name: "failed in the first second", Of: failed(0, time.Second), Scale: 100, Format: "%.1f %%"},
			{Name: "after that", Of: failed(time.Second, 10*time.Second), Scale: 100, Format: "%.1f %%"},
			{Name: "in the 3 s after", Of: failed(10*time.Second, 13*time.Second), Scale: 100, Format: "%.1f %%"},
		},
		Promise: "never more than the tenth that is down, and a second later less than 1 %",
		Holds: func(r *Run) bool {
			return failed(0, time.Second)(r) <= 0.15 && failed(time.Second, 10*time.Second)(r) < 0.01
		},
		Rows: []Row{
			{Name: "none", With: Bare(Balance("consistent-hash")), Expect: Never},
			{Name: "breaker of the service, at 5 %", With: Bare(Balance("consistent-hash"), nervous), Expect: Never},
			{Name: "breaker of the service, at 50 %", With: Bare(Balance("consistent-hash"), Breaker), Expect: Never},
			{Name: "ejection of the node", With: Bare(Balance("consistent-hash"), Eject), Expect: Always},
			{Name: "Hull", With: Hull(Balance("consistent-hash")), Expect: Always},
		},
	}
}

// RegistryBlackout is scenario 16.
func RegistryBlackout() Scenario {
	const begin, hour = time.Minute, time.Hour
	out := Span{begin, begin + hour}
	empty := out.Until + time.Minute
	during := Span{begin, begin + hour}
	after := Span{empty, empty + time.Minute}
	failed := func(r *Run, s Span) float64 { _, n := r.Calls("calls", s); return float64(n) }
	return Scenario{
		Number: 16, Name: "registry-blackout",
		Story:  "The registry is silent for an hour. When it is back it says once, for a minute, that there is nobody. Those who doubt it decide by the code that programs have.",
		Source: "Eureka's self-preservation; Envoy's discovery",

		Services: []Service{{Name: "store", Nodes: 5, Work: About(5 * time.Millisecond), Timeout: time.Second, Tries: 2}},
		Load:     []Load{{Name: "calls", To: "store", Rate: Steady(2)}},
		Faults: []Fault{
			{At: out.From, For: out.Until - out.From, Do: Silence},
			{At: empty, For: time.Minute, Do: Emptied},
		},
		Trouble: out,
		Last:    empty + 3*time.Minute,
		Parts:   4,

		Figures: []Figure{
			{Name: "failed in the hour", Of: func(r *Run) float64 { return failed(r, during) }, Format: "%.0f"},
			{Name: "failed in the empty minute", Of: func(r *Run) float64 { return failed(r, after) }, Format: "%.0f"},
			{Name: "afterwards", Of: func(r *Run) float64 { return failed(r, Span{after.Until, r.Scenario.Last}) }, Format: "%.0f"},
		},
		Promise: "no call fails",
		Holds:   func(r *Run) bool { return failed(r, Span{0, r.Scenario.Last}) == 0 },
		Rows: []Row{
			{Name: "none", With: Bare(), Expect: Never},
			{Name: "retries", With: Bare(Tries(5)), Expect: Never},
			{Name: "keep what is known", With: Bare(Stale), Expect: Never},
			{Name: "doubt an empty answer", With: Bare(Disbelief), Expect: Never},
			{Name: "both", With: Bare(Stale, Disbelief), Expect: Always},
			{Name: "Hull", With: Hull(), Expect: Always},
		},
	}
}

// RollingRestart is scenario 17.
func RollingRestart() Scenario {
	const begin, every, nodes = 5 * time.Second, 4 * time.Second, 5
	failed := func(r *Run) float64 { _, n := r.Calls("calls", Span{0, r.Scenario.Last}); return float64(n) }
	return Scenario{
		Number: 17, Name: "rolling-restart",
		Story:  "Five nodes are restarted one after the other, every 4 s, while 1000 calls a second arrive that must not be made twice. A process is away for 1 s.",
		Source: "the order in which a server leaves",

		Services: []Service{{Name: "store", Nodes: nodes, Work: About(10 * time.Millisecond), Timeout: time.Second, Tries: 3}},
		Load:     []Load{{Name: "calls", To: "store", Rate: Steady(1000), Once: true}},
		Faults:   []Fault{{At: begin, Do: Restart("store", every)}},
		Trouble:  Span{begin, begin + nodes*every},
		Last:     begin + nodes*every + 3*time.Second,
		Parts:    4,

		Figures: []Figure{
			{Name: "failed", Of: failed, Format: "%.0f"},
			{Name: "of", Of: func(r *Run) float64 { n, _ := r.Calls("calls", Span{0, r.Scenario.Last}); return float64(n) }, Format: "%.0f"},
		},
		Promise: "no call fails",
		Holds:   func(r *Run) bool { return failed(r) == 0 },
		Rows: []Row{
			{Name: "no retry", With: Bare(NoRetry), Expect: Never},
			{Name: "retries of what was not sent", With: Bare(), Expect: Never},
			{Name: "the same, ejection", With: Bare(Eject), Expect: Never},
			{Name: "nodes that leave finish first, no retry", With: Bare(Drain, NoRetry), Expect: Always},
			{Name: "nodes that leave finish first, retries", With: Bare(Drain), Expect: Always},
			{Name: "Hull", With: Hull(), Expect: Always},
		},
	}
}

// HalfDead is scenario 18.
func HalfDead() Scenario {
	const begin = 5 * time.Second
	first, later := Span{begin, begin + time.Second}, Span{begin + time.Second, begin + 15*time.Second}
	during := Span{begin, begin + 15*time.Second}
	p := func(q float64) func(*Run) float64 {
		return func(r *Run) float64 { return r.Quantile("calls", q, during) }
	}
	lost := func(s Span) func(*Run) float64 {
		return func(r *Run) float64 { return r.Attempts("store", s, 0, 1, 2) / (s.Until - s.From).Seconds() }
	}
	return Scenario{
		Number: 18, Name: "half-dead",
		Story:  "Of seven nodes one stands still (SIGSTOP), one is gone (kill -9), and what a third one answers is lost. The registry says nothing. 700 calls a second, which may be made twice, of 3 s.",
		Source: "Huang et al., Gray Failure: The Achilles' Heel of Cloud-Scale Systems, HotOS 2017",

		Services: []Service{{Name: "store", Nodes: 7, Cores: 8, Work: About(10 * time.Millisecond), Timeout: time.Second, Tries: 3}},
		Load:     []Load{{Name: "calls", To: "store", Rate: Steady(700)}},
		Faults: []Fault{
			{At: begin, For: 15 * time.Second, Do: Stop("store", 0)},
			{At: begin, For: 15 * time.Second, Do: Kill("store", 1)},
			{At: begin, For: 15 * time.Second, Do: Mute("store", 2)},
		},
		Trouble: during,
		Last:    begin + 20*time.Second,
		Parts:   2,

		Figures: []Figure{
			{Name: "failed", Of: func(r *Run) float64 { return 1 - r.OK("calls", during) }, Scale: 100, Format: "%.2f %%"},
			{Name: "p99", Of: p(0.99), Scale: 1000, Format: "%.0f ms"},
			{Name: "p99.9", Of: p(0.999), Scale: 1000, Format: "%.0f ms"},
			{Name: "attempts/s at the three, first second", Of: lost(first), Format: "%.0f"},
			{Name: "after that", Of: lost(later), Format: "%.1f"},
		},
		Promise: "no call fails, and after a second the three get no more than 5 attempts a second",
		Holds:   func(r *Run) bool { _, n := r.Calls("calls", during); return n == 0 && lost(later)(r) <= 5 },
		Rows: []Row{
			{Name: "none", With: Bare(NoRetry), Expect: Never},
			{Name: "retries", With: Bare(), Expect: Never},
			{Name: "breaker", With: Bare(Breaker), Expect: Never},
			{Name: "p2c, retries", With: Bare(Balance("p2c")), Expect: Never},
			{Name: "ejection, no retry", With: Bare(Eject, NoRetry), Expect: Never},
			{Name: "ejection, retries", With: Bare(Eject), Expect: Often},
			{Name: "Hull", With: Hull(), Expect: Often},
		},
	}
}
