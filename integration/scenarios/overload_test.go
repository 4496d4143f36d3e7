package scenarios_test

import (
	"fmt"
	"time"

	"github.com/hull-go/hull/policy"
)

// size is what a test takes: little, unless all is played.
func size[T any](all bool, little, much T) T {
	if all {
		return much
	}
	return little
}

// comeback are the figures of scenarios in which a service has to come back.
func comeback(from, long time.Duration) []figure {
	return []figure{
		{name: "answered before", of: func(r *run) float64 { return r.ok("calls", r.before()) }, scale: 100, format: "%.0f %%"},
		{name: fmt.Sprintf("%.0f–%.0f s after", from.Seconds(), (from + long).Seconds()), of: func(r *run) float64 { return r.ok("calls", r.after(from, long)) }, scale: 100, format: "%.0f %%"},
		{name: "attempts/s then", of: func(r *run) float64 { return r.attempts(r.after(from, long)) / long.Seconds() }, format: "%.0f"},
		{name: "if it recovers, after", of: func(r *run) float64 { return r.recovery("calls") }, format: "%.1f s"},
	}
}

const comesBack = "from 5 s after the trouble's end on, at least 95 % of the share that was answered before it"

func retryStorm(all bool) scenario {
	stall := size(all, 4*time.Second, 10*time.Second)
	t := span{4 * time.Second, 4*time.Second + stall}
	return scenario{
		number: 1, name: "retry-storm", quick: true,
		story:    "A process that can do 300 calls a second, one after the other, gets 280 and begins none for 10 s. An attempt has 1 s, and a call two of them. As in the original.",
		promise:  comesBack,
		services: []service{{Name: "store", model: model{Cores: 1, Work: time.Second / 300}, Timeout: time.Second, Tries: 2}},
		loads:    []load{{Name: "calls", To: "store", Rate: steady(280)}},
		trouble:  t, last: t.until + size(all, 9*time.Second, 11*time.Second),
		do: func(w *world) {
			w.at(t.from)
			w.tell("store", trouble{Stall: stall})
		},
		figures: comeback(5*time.Second, 4*time.Second),
		holds:   func(r *run) bool { return r.recovered("calls", 0.95, 5*time.Second, 4*time.Second) },
		roughly: func(r *run) bool { return r.recovered("calls", 0.4, 5*time.Second, 4*time.Second) },
		rows: []row{
			{name: "none", with: bare(), want: breaks},
			{name: "backoff with jitter", with: bare(backoff), want: breaks},
			{name: "retry budget", with: bare(budget), want: breaks},
			{name: "deadline drop", with: bare(drop)},
			{name: "retry budget + deadline drop", with: bare(budget, drop), want: holds},
			{name: "Hull's server", with: bare(admission), want: holds},
			{name: "Hull", with: hullWith(), want: holds},
		},
	}
}

func cpuThrottle(bool) scenario {
	t := span{4 * time.Second, 14 * time.Second}
	const scale = 40
	return scenario{
		number: 2, name: "cpu-throttle",
		story:    "A process with two and a half times the capacity that it needs loses 80 % of it for 10 s, while each call is tried five times for 3 s. One fortieth of the original's size, in its times.",
		promise:  comesBack,
		services: []service{{Name: "store", model: model{Cores: 10, Work: 10 * scale * time.Second / 15600}, Timeout: 3 * time.Second, Tries: 5}},
		loads:    []load{{Name: "calls", To: "store", Rate: steady(6200. / scale)}},
		trouble:  t, last: t.until + 11*time.Second, settle: 5 * time.Second,
		do: func(w *world) {
			w.at(t.from)
			w.tell("store", trouble{Slow: 5, For: t.until - t.from})
		},
		figures: comeback(5*time.Second, 5*time.Second),
		holds:   func(r *run) bool { return r.recovered("calls", 0.95, 5*time.Second, 5*time.Second) },
		roughly: func(r *run) bool { return r.recovered("calls", 0.7, 5*time.Second, 5*time.Second) },
		rows: []row{
			{name: "none", with: bare(), want: breaks},
			{name: "backoff with jitter", with: bare(backoff)},
			{name: "retry budget", with: bare(budget), want: holds},
			{name: "deadline drop", with: bare(drop), want: holds},
			{name: "Hull's server", with: bare(admission), want: holds},
			{name: "Hull", with: hullWith(), want: holds},
		},
	}
}

func crowd() []service {
	return []service{{Name: "store", model: model{Work: time.Second, Law: crowded}, Timeout: 3 * time.Second, Tries: 3}}
}

func openLoopSpike(bool) scenario {
	t := span{20 * time.Second, 25 * time.Second}
	return scenario{
		number: 3, name: "open-loop-spike",
		story:    "A process takes 1 s for a call, and 10 ms more for each that it has under way. It gets 40 a second, and twice as many for 5 s. An attempt has 3 s, and a call three. As in the original.",
		promise:  comesBack,
		services: crowd(),
		loads:    []load{{Name: "calls", To: "store", Rate: []point{{0, 40}, {t.from, 40}, {t.from, 80}, {t.until, 80}, {t.until, 40}}}},
		trouble:  t, last: t.until + 12*time.Second,
		figures: append(comeback(5*time.Second, 5*time.Second), figure{name: "in the first 10 s of all", of: func(r *run) float64 { return r.ok("calls", span{0, 10 * time.Second}) }, scale: 100, format: "%.0f %%"}),
		holds:   func(r *run) bool { return r.recovered("calls", 0.95, 5*time.Second, 5*time.Second) },
		roughly: func(r *run) bool { return r.recovered("calls", 0.7, 5*time.Second, 5*time.Second) },
		rows: []row{
			{name: "none", with: bare()},
			{name: "retry budget", with: bare(budget)},
			{name: "no retry", with: bare(tries(1)), want: holds},
			{name: "Hull's server", with: bare(admission), want: holds},
			{name: "Hull", with: hullWith(), want: holds},
		},
	}
}

func openLoopRamp(bool) scenario {
	t := span{3 * time.Second, 20 * time.Second}
	const last = 35 * time.Second
	end := span{last - 8*time.Second, last}
	return scenario{
		number: 4, name: "open-loop-ramp",
		story:    "The same process, whose load grows to 80 calls a second within 17 s and stays there. It can do 60 a second in time, if it has no more than 150 under way.",
		promise:  "at the end, at least half of what is possible",
		services: crowd(),
		loads:    []load{{Name: "calls", To: "store", Rate: []point{{0, 40}, {t.from, 40}, {t.until, 80}}}},
		trouble:  t, last: last,
		figures: []figure{
			{name: "answered/s at the end", of: func(r *run) float64 { return r.goodput("calls", end) }, format: "%.0f"},
			{name: "of what is possible", of: func(r *run) float64 { return r.goodput("calls", end) / 60 }, scale: 100, format: "%.0f %%"},
			{name: "attempts/s then", of: func(r *run) float64 { return r.attempts(end) / end.seconds() }, format: "%.0f"},
		},
		holds:   func(r *run) bool { return r.goodput("calls", end) >= 30 },
		roughly: func(r *run) bool { return r.goodput("calls", end) >= 20 },
		rows: []row{
			{name: "none", with: bare(), want: breaks},
			{name: "backoff with jitter", with: bare(backoff), want: breaks},
			{name: "retry budget", with: bare(budget), want: breaks},
			{name: "Hull's server", with: bare(admission)},
			{name: "Hull", with: hullWith(), want: holds},
		},
	}
}

func retryPolicyCurve(bool) scenario {
	const phase = 20 * time.Second
	shares := []float64{0.01, 0.1, 0.5, 0.75}
	part := func(i int) span { // what was saved up in better times is spent by then
		return span{time.Duration(i+1)*phase - 7*time.Second, time.Duration(i+1) * phase}
	}
	load1 := func(r *run, i int) float64 {
		n, _ := r.count("calls", part(i))
		return r.attempts(part(i)) / float64(n)
	}
	sc := scenario{
		number: 5, name: "retry-policy-curve",
		story: "Two processes make 150 calls a second each to one that has room for more, and of which 1, 10, 50 and then 75 % fail, for 20 s each. What is measured are the last 7 s of each. " +
			"A third of the original's times, and a third of its load.",
		promise:  "whatever fails, at most 1.15 attempts for each call, and of 10 % that fail at most 3 % are left",
		services: []service{{Name: "store", model: model{Work: time.Millisecond}, Timeout: time.Second, Tries: 4}},
		loads:    []load{{Name: "calls", To: "store", Rate: steady(300), Clients: 2}},
		trouble:  span{0, 4 * phase}, last: 4 * phase,
		do: func(w *world) {
			for i, share := range shares {
				w.at(time.Duration(i) * phase)
				w.tell("store", trouble{Fail: share})
			}
		},
		holds: func(r *run) bool {
			return load1(r, 1) <= 1.15 && load1(r, 2) <= 1.15 && load1(r, 3) <= 1.15 && r.ok("calls", part(1)) >= 0.97
		},
		roughly: func(r *run) bool { return load1(r, 2) <= 1.3 && load1(r, 3) <= 1.3 && r.ok("calls", part(1)) >= 0.92 },
		rows: []row{
			{name: "no retry", with: bare(tries(1)), want: breaks},
			{name: "none: 3 retries", with: bare(), want: breaks},
			{name: "3 retries from a budget", with: bare(budget), want: holds},
			{name: "Hull", with: hullWith(), want: holds,
				note: "The breaker opens where most calls fail for good, and refuses also those that would succeed."},
		},
	}
	for i, s := range shares {
		sc.figures = append(sc.figures,
			figure{name: fmt.Sprintf("%.0f %% fail: answered", 100*s), of: func(r *run) float64 { return r.ok("calls", part(i)) }, scale: 100, format: "%.1f %%"},
			figure{name: "load", of: func(r *run) float64 { return load1(r, i) }, format: "%.2f ×"})
	}
	return sc
}

func demandJump(bool) scenario {
	const cores, work = 8, 20 * time.Millisecond
	const capacity = cores / 0.020
	const at, last = 4 * time.Second, 10 * time.Second
	worst := func(r *run) float64 {
		least := 10.
		for from := at + 300*time.Millisecond; from+500*time.Millisecond <= last; from += 250 * time.Millisecond {
			least = min(least, r.goodput("calls", span{from, from + 500*time.Millisecond})/capacity)
		}
		return least
	}
	mean := func(r *run) float64 { return r.goodput("calls", span{at + 300*time.Millisecond, last}) / capacity }
	return scenario{
		number: 12, name: "demand-jump", quick: true,
		story:    "The load of a process with 8 processors and 20 ms of work (so far as it is told; it sleeps) jumps from 0.8 to 1.4 times its capacity of 400 calls a second, and stays there. A call has 1 s.",
		promise:  "from 0.3 s after the jump on, no half second with a goodput of less than 90 % of the capacity",
		services: []service{{Name: "store", model: model{Cores: cores, Work: work, Law: spread}, Timeout: time.Second}},
		loads:    []load{{Name: "calls", To: "store", Rate: jump(0.8*capacity, at, 1.4*capacity)}},
		trouble:  span{at, last}, last: last,
		figures: []figure{
			{name: "goodput, worst half second", of: worst, scale: 100, format: "%.0f %%"},
			{name: "on average", of: mean, scale: 100, format: "%.0f %%"},
			{name: "p99 of all", of: func(r *run) float64 { return r.quantile("calls", 0.99, span{at, last}) }, scale: 1000, format: "%.0f ms"},
		},
		holds: func(r *run) bool { return worst(r) >= 0.9 },
		// Without protection all is well until the line is a second long, 2.5 s after the jump.
		roughly: func(r *run) bool { return r.goodput("calls", span{last - 3*time.Second, last})/capacity >= 0.3 },
		rows: []row{
			{name: "none", with: bare(), want: breaks},
			{name: "deadline drop", with: bare(drop)},
			{name: "Hull's server", with: bare(admission), want: holds},
			{name: "Hull", with: hullWith(), want: holds,
				note: "Not in every round: in single half seconds callers give up attempts after the time that they have learned, and the budget does not pay for others."},
		},
	}
}

func priorityShed(bool) scenario {
	const cores = 8
	const capacity = cores / 0.020
	const at, last = 4 * time.Second, 9 * time.Second
	during := span{at, last}
	return scenario{
		number: 13, name: "priority-shed", quick: true,
		story: "Calls of users take half of the capacity of a process, 400 calls a second, prefetching a fifth of it. Then there is twelve times as much prefetching. One process makes both; it says that " +
			"prefetching is sheddable. A call has 1 s.",
		promise:  "at least 99 % of the users' calls during the spike, and 1 % of the prefetching, are answered",
		services: []service{{Name: "store", model: model{Cores: cores, Work: 20 * time.Millisecond, Law: spread}, Timeout: time.Second}},
		loads: []load{
			{Name: "users", To: "store", Rate: steady(0.5 * capacity)},
			{Name: "prefetch", To: "store", Rate: jump(0.2*capacity, at, 12*0.2*capacity), Criticality: policy.Sheddable},
		},
		trouble: during, last: last,
		figures: []figure{
			{name: "users", of: func(r *run) float64 { return r.ok("users", during) }, scale: 100, format: "%.1f %%"},
			{name: "prefetch", of: func(r *run) float64 { return r.ok("prefetch", during) }, scale: 100, format: "%.0f %%"},
			{name: "users' p99", of: func(r *run) float64 { return r.quantile("users", 0.99, during) }, scale: 1000, format: "%.0f ms"},
		},
		holds:   func(r *run) bool { return r.ok("users", during) >= 0.99 && r.ok("prefetch", during) >= 0.01 },
		roughly: func(r *run) bool { return r.ok("users", during) >= 0.5 },
		rows: []row{
			{name: "none", with: bare(), want: breaks},
			{name: "deadline drop", with: bare(drop), want: breaks},
			{name: "Hull's server", with: bare(admission), want: holds},
			{name: "Hull", with: hullWith(), want: holds},
		},
	}
}
