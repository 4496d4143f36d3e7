package sim

import (
	"fmt"
	"time"

	"github.com/hull-go/hull/spec"
)

// RetryPolicyCurve is scenario 5.
func RetryPolicyCurve() Scenario {
	const phase = 60 * time.Second
	shares := []float64{0.01, 0.1, 0.5, 0.75}
	span := func(i int) Span { // what was saved up in better times is spent by then
		return Span{time.Duration(i+1)*phase - 20*time.Second, time.Duration(i+1) * phase}
	}
	load := func(r *Run, i int) float64 {
		all, _ := r.Calls("calls", span(i))
		return r.Attempts("store", span(i)) / float64(all)
	}
	sc := Scenario{
		Number: 5, Name: "retry-policy-curve",
		Story:  "Ten clients make ten calls a second each to a service that has room for more, and of which 1, 10, 50 and then 75 % fail, for a minute each. What is measured are the last 20 s of each minute.",
		Source: "M. Brooker, Fixing retries with token buckets and circuit breakers, 2022",

		Services: []Service{{Name: "store", Work: Every(time.Millisecond), Timeout: time.Second, Tries: 4}},
		Load:     []Load{{Name: "calls", To: "store", Rate: Steady(100), Clients: 10}},
		Last:     4 * phase,
		Parts:    2,

		Promise: "whatever fails, at most 1.15 attempts for each call, and of 10 % that fail at most 3 % are left",
		Holds: func(r *Run) bool {
			return load(r, 1) <= 1.15 && load(r, 2) <= 1.15 && load(r, 3) <= 1.15 && r.OK("calls", span(1)) >= 0.97
		},
		Rows: []Row{
			{Name: "no retry", With: Bare(NoRetry), Expect: Never},
			{Name: "3 retries", With: Bare(), Expect: Never},
			{Name: "3 retries, breaker", With: Bare(Breaker), Expect: Never},
			{Name: "3 retries, throttle", With: Bare(Throttle), Expect: Never},
			{Name: "3 retries from a budget", With: Bare(Budget), Expect: Always},
			{Name: "Hull", With: Hull(), Expect: Always,
				Note: "The breaker opens where half of the calls fail for good, and then refuses most of those that would succeed."},
		},
	}
	for i, s := range shares {
		sc.Faults = append(sc.Faults, Fault{At: time.Duration(i) * phase, Do: Fail("store", s)})
		sc.Figures = append(sc.Figures,
			Figure{Name: fmt.Sprintf("%.0f %% fail: answered", 100*s), Of: func(r *Run) float64 { return r.OK("calls", span(i)) }, Scale: 100, Format: "%.1f %%"},
			Figure{Name: "load", Of: func(r *Run) float64 { return load(r, i) }, Format: "%.2f ×"})
	}
	return sc
}

// LayeredRetry is scenario 6.
func LayeredRetry() Scenario {
	const last = 60 * time.Second
	amplified := func(r *Run) float64 {
		all, _ := r.Calls("calls", Span{0, last})
		return r.Attempts("store", Span{0, last + time.Minute}) / float64(all)
	}
	layer := func(name, below string) Service {
		return Service{Name: name, Work: Every(time.Millisecond), Calls: []string{below}, Timeout: time.Second, Tries: 4}
	}
	// What a full budget pays for at the start: 100 attempts beyond the first, in one layer.
	const burst = 100
	return Scenario{
		Number: 6, Name: "layered-retry",
		Story:  "Three layers, each of which tries what it calls four times, above a store that fails. How many requests reach the store for each call at the top?",
		Source: "Site Reliability Engineering, chapters 21 and 22",

		Services: []Service{layer("web", "orders"), layer("orders", "store"), {Name: "store", Work: Every(time.Millisecond), Timeout: time.Second, Tries: 4}},
		Load:     []Load{{Name: "calls", To: "web", Rate: Steady(40)}},
		Faults:   []Fault{{Do: Fail("store", 1)}},
		Last:     last,
		Parts:    5,

		Figures: []Figure{{Name: "requests at the store for each call", Of: amplified, Format: "%.2f"}},
		Promise: "at most 1.1 requests at the store for each call, and what one full budget pays for",
		Holds: func(r *Run) bool {
			all, _ := r.Calls("calls", Span{0, last})
			return amplified(r) <= 1.1+burst/float64(all)
		},
		Rows: []Row{
			{Name: "none", With: Bare(), Expect: Never},
			{Name: "backoff with jitter", With: Bare(Jitter), Expect: Never},
			{Name: "whose failure it was travels", With: Bare(Travel), Expect: Never},
			{Name: "breaker", With: Bare(Breaker), Expect: Always},
			{Name: "retry budget", With: Bare(Budget), Expect: Always},
			{Name: "Hull", With: Hull(), Expect: Always},
			{Name: "none, half of the requests fail", With: Bare(), Expect: Never, Vary: halfFails},
			{Name: "whose failure it was travels, half fail", With: Bare(Travel), Expect: Never, Vary: halfFails},
			{Name: "retry budget, half fail", With: Bare(Budget), Expect: Never, Vary: halfFails},
			{Name: "Hull, half fail", With: Hull(), Expect: Always, Vary: halfFails},
		},
	}
}

func halfFails(sc *Scenario) { sc.Faults[0].Do = Fail("store", 0.5) }

// BimodalDeadline is scenario 7.
func BimodalDeadline() Scenario {
	const threads, rate = 100, 100.
	during := Span{250 * time.Second, 290 * time.Second}
	return Scenario{
		Number: 7, Name: "bimodal-deadline",
		Story:  "A server has 100 threads, refuses who finds none, and gets 100 calls a second of 100 ms. One call in twenty hangs, with a deadline of 100 s. A tenth of the original's size.",
		Source: "Site Reliability Engineering, chapter 22",

		Services: []Service{{Name: "store", Threads: threads, Refuses: true, Work: Every(100 * time.Millisecond), Timeout: 100 * time.Second}},
		Load: []Load{
			{Name: "calls", To: "store", Rate: Steady(0.95 * rate)},
			{Name: "hanging", To: "store", Rate: Steady(0.05 * rate), Lost: 1},
		},
		Trouble: during,
		Last:    during.Until,
		Parts:   2,

		Figures: []Figure{
			{Name: "of the others answered", Of: func(r *Run) float64 { return r.OK("calls", during) }, Scale: 100, Format: "%.1f %%"},
			{Name: "their p99", Of: func(r *Run) float64 { return r.Quantile("calls", 0.99, during) }, Scale: 1000, Format: "%.0f ms"},
		},
		Promise: "of the calls that do not hang at least 99 % are answered",
		Holds:   func(r *Run) bool { return r.OK("calls", during) >= 0.99 },
		Rows: []Row{
			{Name: "none", With: Bare(), Expect: Never},
			{Name: "breaker", With: Bare(Breaker), Expect: Either},
			{Name: "deadline of 1 s", With: Bare(Timeout(time.Second)), Expect: Always},
			{Name: "learned timeout", With: Bare(Learned), Expect: Always},
			{Name: "25 threads at most for each caller", With: Bare(callerLimit(25)), Expect: Always},
			{Name: "Hull's server", With: Bare(Admission), Expect: Never},
			{Name: "Hull", With: Hull(), Expect: Always},
			{Name: "Hull, one caller for both", With: Hull(), Expect: Often, Vary: func(sc *Scenario) { sc.Load[1].By = "calls" }},
		},
	}
}

// callerLimit bounds what each caller has under way.
func callerLimit(n int) Cure {
	return Client(func(d *spec.Service) { d.Concurrency.Mode, d.Concurrency.Limit = spec.On, n })
}

// CacheWipe is scenario 8.
func CacheWipe() Scenario {
	const keys, once, rate, capacity = 60, 0.08, 300., 30.
	refill := time.Duration(keys / (capacity - once*rate) * float64(time.Second))
	wiped := 15 * time.Second
	return Scenario{
		Number: 8, Name: "cache-wipe",
		Story: fmt.Sprintf("A cache answers 92 %% of 300 calls a second, a store that can do 30 a second the others. The cache loses its 60 hottest keys. "+
			"To fetch them again takes the store %.0f s, beside what it does anyway. A tenth of the original's size.", refill.Seconds()),
		Source: "Huang et al., OSDI 2022, section 5.3",

		Services: []Service{
			{Name: "front", Work: Every(time.Millisecond), Calls: []string{"store"}, Cache: &Cache{Keys: keys, Once: once}, Timeout: 2 * time.Second},
			{Name: "store", Cores: 1, Work: Every(time.Second / capacity), Timeout: time.Second, Tries: 2},
		},
		Load:    []Load{{Name: "calls", To: "front", Rate: Steady(rate)}},
		Faults:  []Fault{{At: wiped, Do: Forget("front")}},
		Trouble: Span{wiped, wiped},
		Last:    wiped + refill + 10*time.Second,
		Parts:   2,
		Figures: []Figure{
			{Name: "answered before", Of: func(r *Run) float64 { return r.OK("calls", r.Before(5*time.Second)) }, Scale: 100, Format: "%.0f %%"},
			{Name: "after the time it takes", Of: func(r *Run) float64 { return r.OK("calls", r.After(refill, 5*time.Second)) }, Scale: 100, Format: "%.0f %%"},
			{Name: "if it recovers, after", Of: func(r *Run) float64 { return r.Recovery("calls") }, Format: "%.1f s"},
		},
		Promise: "when the time has passed that the store needs to fetch the keys, at least 95 % of the share that was answered before",
		Holds:   func(r *Run) bool { return r.RecoveredAfter("calls", refill) },
		Rows: []Row{
			{Name: "none", With: Bare(), Expect: Never},
			{Name: "no retry", With: Bare(NoRetry), Expect: Never},
			{Name: "single flight", With: Bare(SingleFlight), Expect: Never},
			{Name: "fill in background", With: Bare(FillInBackground), Expect: Rather},
			{Name: "deadline drop", With: Bare(DeadlineDrop), Expect: Never},
			{Name: "retry budget", With: Bare(Budget), Expect: Never},
			{Name: "breaker", With: Bare(Breaker), Expect: Never},
			{Name: "Hull's server", With: Bare(Admission), Expect: Always},
			{Name: "Hull", With: Hull(), Expect: Always},
			{Name: "Hull + single flight, fill in background", With: Hull(SingleFlight, FillInBackground), Expect: Always},
		},
	}
}

// TimeoutMismatch is scenario 15.
func TimeoutMismatch() Scenario {
	const last = 30 * time.Second
	return Scenario{
		Number: 15, Name: "timeout-mismatch",
		Story:  "A page gives its reviews 3 s and one retry. These give their ratings 10 s, and ratings take 7 s.",
		Source: "Istio's Bookinfo",

		Services: []Service{
			{Name: "reviews", Calls: []string{"ratings"}, Timeout: 3 * time.Second, Tries: 2},
			{Name: "ratings", Work: Every(7 * time.Second), Timeout: 10 * time.Second},
		},
		Load: []Load{{Name: "calls", To: "reviews", Rate: Steady(20)}},
		Last: last,

		Figures: []Figure{
			{Name: "ratings asked for each page", Of: func(r *Run) float64 {
				all, _ := r.Calls("calls", Span{0, last})
				return r.Attempts("ratings", Span{0, last + time.Minute}) / float64(all)
			}, Format: "%.2f"},
			{Name: "calls under way in the reviews after their pages' end", Of: func(r *Run) float64 { return r.Overtime("reviews") }, Scale: 100, Format: "%.0f %%"},
			{Name: "a page waits", Of: func(r *Run) float64 { return r.Quantile("calls", 0.5, Span{0, last}) }, Format: "%.1f s"},
		},
		Promise: "no call is under way whose page has got its answer",
		Holds:   func(r *Run) bool { return r.Overtime("reviews") < 0.001 },
		Rows: []Row{
			{Name: "none", With: Bare(), Expect: Never},
			{Name: "breaker", With: Bare(Breaker), Expect: Never},
			{Name: "no retry", With: Bare(NoRetry), Expect: Never},
			{Name: "remaining time travels", With: Bare(Travel), Expect: Always},
			{Name: "Hull", With: Hull(), Expect: Always},
		},
	}
}

// Titanic is scenario 19.
func Titanic() Scenario {
	const slow, last = 10 * time.Second, 30 * time.Second
	during := Span{slow + 5*time.Second, last}
	layer := func(name, below string) Service {
		return Service{Name: name, Threads: 50, Work: Spread(2 * time.Millisecond), Calls: []string{below}, Timeout: 5 * time.Second}
	}
	answered := func(load string) func(*Run) float64 { return func(r *Run) float64 { return r.OK(load, during) } }
	return Scenario{
		Number: 19, Name: "titanic",
		Story: "Five services, one below the other, with 50 threads each. At the top are two pages: the cart needs all five, the news need nobody. " +
			"The lowest has 4 cores and becomes 20 times as slow.",
		Source: "the lab's own story",

		Services: []Service{
			{Name: "web", Threads: 50, Timeout: 5 * time.Second, Methods: []Method{
				{Name: "cart", Work: Spread(2 * time.Millisecond), Calls: []string{"orders"}, Poorer: true},
				{Name: "news", Work: Spread(2 * time.Millisecond)},
			}},
			layer("orders", "prices"), layer("prices", "stock"), layer("stock", "disk"),
			{Name: "disk", Cores: 4, Work: Spread(20 * time.Millisecond), Timeout: 5 * time.Second},
		},
		Load: []Load{
			{Name: "cart", To: "web/cart", Rate: Steady(100)},
			{Name: "news", To: "web/news", Rate: Steady(100)},
		},
		Faults:  []Fault{{At: slow, Do: Slow("disk", 20)}},
		Trouble: Span{slow, last},
		Last:    last,

		Figures: []Figure{
			{Name: "news", Of: answered("news"), Scale: 100, Format: "%.1f %%"},
			{Name: "news' p99", Of: func(r *Run) float64 { return r.Quantile("news", 0.99, during) }, Scale: 1000, Format: "%.0f ms"},
			{Name: "carts", Of: answered("cart"), Scale: 100, Format: "%.0f %%"},
			{Name: "of all carts, poorer", Of: func(r *Run) float64 {
				all, _ := r.Calls("cart", Span{0, last})
				return r.Poorer("web") / float64(all)
			}, Scale: 100, Format: "%.0f %%"},
		},
		Promise: "at least 99 % of the news are answered, and 99 % of those within 100 ms",
		Holds:   func(r *Run) bool { return answered("news")(r) >= 0.99 && r.Quantile("news", 0.99, during) <= 0.1 },
		Rows: []Row{
			{Name: "none", With: Bare(), Expect: Never},
			{Name: "fallback", With: Bare(Fallback), Expect: Never},
			{Name: "remaining time travels", With: Bare(Travel), Expect: Never},
			{Name: "timeout of 1 s", With: Bare(Timeout(time.Second)), Expect: Never},
			{Name: "breaker + fallback", With: Bare(Breaker, Fallback), Expect: Never},
			{Name: "Hull's servers", With: Bare(Admission), Expect: Often,
				Note: "The servers see that carts take longer the more of them there are, and take places away before the news have none."},
			{Name: "Hull", With: Hull(), Expect: Often,
				Note: "Hardly a cart is served, though the lowest service could do ten a second: it now needs 0.4 s for each, and callers give an attempt what they have learned while it was fast. What saves the news is that nobody waits for longer."},
			{Name: "Hull + fallback", With: Hull(Fallback), Expect: Often},
		},
	}
}

// BreakersInSeries is scenario 20.
func BreakersInSeries() Scenario {
	const from, until = 10 * time.Second, 70 * time.Second
	layer := func(name, below string) Service {
		return Service{Name: name, Work: Every(time.Millisecond), Calls: []string{below}, Timeout: time.Second, Tries: 2}
	}
	return Scenario{
		Number: 20, Name: "breakers-in-series",
		Story:  "Three layers above a store that fails for a minute. Each has a breaker, and a breaker takes another one that is open below it for a failure.",
		Source: "a model of our own",

		Services: []Service{layer("web", "orders"), layer("orders", "stock"), layer("stock", "store"), {Name: "store", Work: Every(time.Millisecond), Timeout: time.Second, Tries: 2}},
		Load:     []Load{{Name: "calls", To: "web", Rate: Steady(100)}},
		Faults:   []Fault{{At: from, For: until - from, Do: Fail("store", 1)}},
		Trouble:  Span{from, until},
		Last:     until + 60*time.Second,
		Parts:    2,

		Figures: recovery(), Promise: promised, Holds: recovered,
		Rows: []Row{
			{Name: "none", With: Bare(), Expect: Always},
			{Name: "breaker", With: Bare(Breaker), Expect: Always},
			{Name: "breaker, open for 30 s at most", With: Bare(Breaker, openCap(30*time.Second)), Expect: Rather},
			{Name: "Hull", With: Hull(), Expect: Always},
			{Name: "Hull, open for 30 s at most", With: Hull(openCap(30 * time.Second)), Expect: Never},
			{Name: "Hull, one layer", With: Hull(), Expect: Always, Vary: func(sc *Scenario) { sc.Load[0].To = "store" }},
		},
	}
}

// openCap lets the time for which breakers stay open grow.
func openCap(d time.Duration) Cure {
	return Client(func(s *spec.Service) { s.Breaker.OpenCap = spec.Duration(d) })
}
