package scenarios_test

import (
	"fmt"
	"time"
)

func layeredRetry(all bool) scenario {
	last := size(all, 10*time.Second, 30*time.Second)
	amplified := func(r *run) float64 { return float64(r.seen["store"].Started) / float64(len(r.calls)) }
	// What a full budget pays for at the start: 100 attempts beyond the first, in one layer.
	const burst = 100
	layer := func(name, below string) service {
		return service{Name: name, model: model{Work: time.Millisecond}, Below: below, Timeout: time.Second, Tries: 4}
	}
	half := func(sc *scenario) {
		sc.do = func(w *world) { w.tell("store", trouble{Fail: 0.5}) }
	}
	return scenario{
		number: 6, name: "layered-retry", quick: true,
		story:    "A caller and two services, one process each, that try what they call four times, above a store that fails. How many requests reach the store for each call at the top?",
		promise:  "at most 1.1 requests at the store for each call, and what one full budget pays for",
		services: []service{layer("web", "orders"), layer("orders", "store"), {Name: "store", model: model{Work: time.Millisecond}, Timeout: time.Second, Tries: 4}},
		loads:    []load{{Name: "calls", To: "web", Rate: steady(20)}},
		do:       func(w *world) { w.tell("store", trouble{Fail: 1}) },
		last:     last,
		figures:  []figure{{name: "requests at the store for each call", of: amplified, format: "%.2f"}},
		holds:    func(r *run) bool { return amplified(r) <= 1.1+burst/float64(len(r.calls)) },
		roughly:  func(r *run) bool { return amplified(r) <= 1.3+burst/float64(len(r.calls)) },
		rows: []row{
			{name: "none", with: bare(), want: breaks},
			{name: "whose failure it was travels", with: bare(travel), want: breaks},
			{name: "retry budget", with: bare(budget)},
			{name: "Hull", with: hullWith(), want: holds},
			{name: "none, half of the requests fail", with: bare(), vary: half},
			{name: "whose failure it was travels, half fail", with: bare(travel), vary: half},
			{name: "Hull, half fail", with: hullWith(), want: holds, vary: half},
		},
	}
}

func bimodalDeadline(bool) scenario {
	during := span{30 * time.Second, 45 * time.Second}
	return scenario{
		number: 7, name: "bimodal-deadline",
		story: "A process has 100 threads, refuses who finds none, and gets 100 calls a second of 100 ms. One call in twenty hangs, with a deadline of 100 s. A tenth of the original's size; looked at " +
			"when the threads have been taken, after 30 s.",
		promise:  "of the calls that do not hang at least 99 % are answered",
		services: []service{{Name: "store", model: model{Threads: 100, Work: 100 * time.Millisecond}, Timeout: 100 * time.Second}},
		loads:    []load{{Name: "calls", To: "store", Rate: steady(95)}, {Name: "hanging", To: "store", Rate: steady(5), Hang: 1}},
		trouble:  during, last: during.until, settle: 5 * time.Second,
		figures: []figure{
			{name: "of the others answered", of: func(r *run) float64 { return r.ok("calls", during) }, scale: 100, format: "%.1f %%"},
			{name: "their p99", of: func(r *run) float64 { return r.quantile("calls", 0.99, during) }, scale: 1000, format: "%.0f ms"},
		},
		holds:   func(r *run) bool { return r.ok("calls", during) >= 0.99 },
		roughly: func(r *run) bool { return r.ok("calls", during) >= 0.9 },
		rows: []row{
			{name: "none", with: bare(), want: breaks},
			{name: "deadline of 1 s", with: bare(timeout(time.Second)), want: holds},
			{name: "Hull's server", with: bare(admission)},
			{name: "Hull", with: hullWith(), want: holds},
			{name: "Hull, with the 5 s that calls have if nobody says", with: hullWith(), vary: func(sc *scenario) { sc.services[0].Timeout = 5 * time.Second }},
		},
	}
}

func cacheWipe(bool) scenario {
	const keys, fresh, rate, capacity = 60, 0.08, 300., 30.
	refill := time.Duration(keys / (capacity - fresh*rate) * float64(time.Second))
	wiped := 8 * time.Second
	later := func(r *run) float64 { return r.ok("calls", r.after(refill, 5*time.Second)) }
	patient := timeout(10 * time.Second)
	return scenario{
		number: 8, name: "cache-wipe",
		story: fmt.Sprintf("A process with a cache answers 92 %% of 300 calls a second, one with a store that can do 30 a second the others. The cache loses its 60 keys. "+
			"To fetch them again takes the store %.0f s, beside what it does anyway. A call has 2 s, an attempt at the store 1 s, twice. A tenth of the original's size.", refill.Seconds()),
		promise: "when the time has passed that the store needs to fetch the keys, at least 95 % of the share that was answered before",
		services: []service{
			{Name: "front", model: model{Work: time.Millisecond, Keys: keys}, Below: "store", Timeout: 2 * time.Second},
			{Name: "store", model: model{Cores: 1, Work: time.Second / 30}, Timeout: time.Second, Tries: 2},
		},
		loads:   []load{{Name: "calls", To: "front", Rate: steady(rate), Keys: keys, Fresh: fresh}},
		trouble: span{wiped, wiped}, last: wiped + refill + 6*time.Second, settle: 3 * time.Second,
		do: func(w *world) {
			w.at(wiped)
			w.tell("front", trouble{Forget: true})
		},
		figures: []figure{
			{name: "answered before", of: func(r *run) float64 { return r.ok("calls", r.before()) }, scale: 100, format: "%.0f %%"},
			{name: "after the time it takes", of: later, scale: 100, format: "%.0f %%"},
			{name: "if it recovers, after", of: func(r *run) float64 { return r.recovery("calls") }, format: "%.1f s"},
		},
		holds:   func(r *run) bool { return r.recovered("calls", 0.95, refill, 5*time.Second) },
		roughly: func(r *run) bool { return r.recovered("calls", 0.8, refill, 5*time.Second) },
		rows: []row{
			{name: "none", with: bare(), want: breaks},
			{name: "single flight", with: bare(flight)},
			{name: "fill in background, waiting 10 s", with: bare(fill, patient)},
			{name: "Hull's server", with: bare(admission)},
			{name: "Hull", with: hullWith(), want: holds},
			{name: "Hull + single flight, fill in background", with: hullWith(flight, fill), want: holds},
		},
	}
}

func timeoutMismatch(all bool) scenario {
	last := size(all, 8*time.Second, 20*time.Second)
	over := func(r *run) float64 { return r.seen["reviews"].Over.Seconds() / r.seen["reviews"].Ran.Seconds() }
	return scenario{
		number: 15, name: "timeout-mismatch", quick: true,
		story: "A page gives its reviews 3 s and one retry. These give their ratings 10 s, and ratings take 7 s; they stop when nobody waits for them. " +
			"Three processes; 20 pages a second.",
		promise: "reviews do next to nothing for pages that have given up",
		services: []service{
			{Name: "reviews", Below: "ratings", model: model{Heeds: true}, Timeout: 3 * time.Second, Tries: 2},
			{Name: "ratings", model: model{Work: 7 * time.Second, Heeds: true}, Timeout: 10 * time.Second},
		},
		loads:   []load{{Name: "calls", To: "reviews", Rate: steady(20)}},
		trouble: span{0, last}, last: last,
		do: func(w *world) { w.at(last + 8*time.Second) }, // until the last ratings have ended
		figures: []figure{
			{name: "ratings asked for each page", of: func(r *run) float64 { return float64(r.seen["ratings"].Started) / float64(len(r.calls)) }, format: "%.2f"},
			{name: "of the reviews' time nobody waited for", of: over, scale: 100, format: "%.1f %%"},
			{name: "a page waits", of: func(r *run) float64 { return r.quantile("calls", 0.5, span{0, last}) }, format: "%.1f s"},
		},
		holds:   func(r *run) bool { return over(r) <= 0.01 },
		roughly: func(r *run) bool { return over(r) <= 0.2 },
		rows: []row{
			{name: "none", with: bare(), want: breaks},
			{name: "no retry", with: bare(tries(1)), want: breaks},
			{name: "remaining time travels", with: bare(travel), want: holds},
			{name: "Hull", with: hullWith(), want: holds},
		},
	}
}
