package scenarios_test

import "time"

func shardedBreaker(bool) scenario {
	down := span{5 * time.Second, 15 * time.Second}
	failed := func(from, until time.Duration) func(*run) float64 {
		return func(r *run) float64 { return 1 - r.ok("calls", span{down.from + from, down.from + until}) }
	}
	sharded := balance("consistent-hash")
	return scenario{
		number: 14, name: "sharded-breaker",
		story:    "The keys of a service lie on ten processes, but any can answer for another. One of them fails everything for 10 s. 300 calls a second, without retries.",
		promise:  "never more than the tenth that is down, and a second later less than 1 %",
		services: []service{{Name: "store", Nodes: 10, model: model{Work: 5 * time.Millisecond, Law: about}, Timeout: time.Second}},
		loads:    []load{{Name: "calls", To: "store", Rate: steady(300), Keys: 10_000, Once: true}},
		trouble:  down, last: down.until + 4*time.Second,
		do: func(w *world) {
			w.at(down.from)
			w.tell("store", trouble{Fail: 1, For: down.until - down.from}, 3)
		},
		figures: []figure{
			{name: "failed in the first second", of: failed(0, time.Second), scale: 100, format: "%.1f %%"},
			{name: "after that", of: failed(time.Second, 10*time.Second), scale: 100, format: "%.1f %%"},
			{name: "in the 3 s after", of: failed(10*time.Second, 13*time.Second), scale: 100, format: "%.1f %%"},
		},
		holds: func(r *run) bool {
			return failed(0, time.Second)(r) <= 0.15 && failed(time.Second, 10*time.Second)(r) < 0.01
		},
		roughly: func(r *run) bool { return failed(time.Second, 10*time.Second)(r) < 0.04 },
		rows: []row{
			{name: "none", with: bare(sharded), want: breaks},
			{name: "breaker of the service, at 5 %", with: bare(sharded, breakerAt(0.05)), want: breaks},
			{name: "ejection of the node", with: bare(sharded, ejection), want: holds},
			{name: "Hull", with: hullWith(sharded), want: holds},
		},
	}
}

func registryBlackout(bool) scenario {
	down := span{3 * time.Second, 33 * time.Second}
	const empty, last = 5 * time.Second, 50 * time.Second
	failed := func(s span) func(*run) float64 {
		return func(r *run) float64 { _, n := r.count("calls", s); return float64(n) }
	}
	found := func(r *run) float64 { return r.attempts(span{down.until, last}, 3) }
	return scenario{
		number: 16, name: "registry-blackout", blackout: true,
		story: "Three processes are found through NATS, which is killed, and comes back 30 s later on an empty disk; for the first 5 s callers reach one that says that there is nobody. Nodes " +
			"count as gone when they have been silent for 4 s. A fourth process starts while it is away. 50 calls a second. An hour became 30 s.",
		promise:  "no call fails, and the new process gets calls at last",
		services: []service{{Name: "store", Nodes: 3, model: model{Work: 5 * time.Millisecond, Law: about}, Timeout: time.Second, Tries: 2}},
		loads:    []load{{Name: "calls", To: "store", Rate: steady(50)}},
		trouble:  down, last: last,
		do: func(w *world) {
			w.at(down.from)
			w.proxy.Forward("")
			w.engine.Kill()
			w.proxy.Reset()
			w.at(down.from + 20*time.Second)
			n := w.place(&w.sc.services[0])
			w.at(down.until)
			w.restartRegistry(empty)
			n.await()
		},
		figures: []figure{
			{name: "failed in the 30 s", of: failed(down), format: "%.0f"},
			{name: "failed after them", of: failed(span{down.until, last}), format: "%.0f"},
			{name: "calls to the new process", of: found, format: "%.0f"},
		},
		holds:   func(r *run) bool { return failed(span{0, last})(r) == 0 && found(r) > 0 },
		roughly: func(r *run) bool { return failed(span{0, last})(r) <= 10 && found(r) > 0 },
		rows: []row{
			{name: "none", with: bare(believe), want: breaks},
			{name: "keep what is known", with: bare(keep)},
			{name: "Hull", with: hullWith(), want: holds},
		},
	}
}

func rollingRestart(bool) scenario {
	const nodes, every = 5, 4 * time.Second
	t := span{3 * time.Second, 3*time.Second + nodes*every}
	failed := func(r *run) float64 { _, n := r.count("calls", span{0, r.sc.last}); return float64(n) }
	return scenario{
		number: 17, name: "rolling-restart",
		story: "Five processes are restarted one after the other, while 300 calls a second of 10 ms arrive that must not be made twice. A process that does not leave in good order is killed. " +
			"The next comes half a second later.",
		promise:  "no call fails",
		services: []service{{Name: "store", Nodes: nodes, model: model{Work: 10 * time.Millisecond, Law: about}, Timeout: time.Second, Tries: 3}},
		loads:    []load{{Name: "calls", To: "store", Rate: steady(300), Once: true}},
		trouble:  t, last: t.until + 3*time.Second,
		do: func(w *world) {
			for i, n := range w.nodes["store"] {
				w.at(t.from + time.Duration(i)*every)
				n.restart(500 * time.Millisecond)
			}
		},
		figures: []figure{
			{name: "failed", of: failed, format: "%.1f"},
			{name: "of", of: func(r *run) float64 { return float64(len(r.calls)) }, format: "%.0f"},
		},
		holds:   func(r *run) bool { return failed(r) == 0 },
		roughly: func(r *run) bool { return failed(r) <= 5 },
		rows: []row{
			{name: "none", with: bare(tries(1))},
			{name: "retries of what was not sent", with: bare()},
			{name: "processes that leave finish first, no retry", with: bare(leave, tries(1))},
			{name: "Hull", with: hullWith(), want: holds},
		},
	}
}

func halfDead(all bool) scenario {
	begin := size(all, 2*time.Second, 4*time.Second)
	during := span{begin, begin + size(all, 6*time.Second, 12*time.Second)}
	failed := func(r *run) float64 { return 1 - r.ok("calls", during) }
	lost := func(s span) func(*run) float64 {
		return func(r *run) float64 { return r.attempts(s, 0, 1, muted) / s.seconds() }
	}
	settled := span{begin + 2*time.Second, during.until}
	return scenario{
		number: 18, name: "half-dead", quick: true, unheard: true,
		story: "Of seven processes one is stopped (SIGSTOP), one killed (SIGKILL), and what a third answers is lost: it is in a network namespace whose router was forgotten. Callers have a fixed list of the " +
			"seven. 300 calls a second, which may be made twice, of 3 s.",
		promise:  "no call fails, and after two seconds the three get no more than 5 attempts a second",
		services: []service{{Name: "store", Nodes: 7, model: model{Work: 10 * time.Millisecond, Law: about}, Timeout: time.Second, Tries: 3}},
		loads:    []load{{Name: "calls", To: "store", Rate: steady(300)}},
		trouble:  during, last: during.until,
		do: func(w *world) {
			w.at(begin)
			w.nodes["store"][0].Freeze()
			w.nodes["store"][1].Kill()
			w.mute()
		},
		figures: []figure{
			{name: "failed", of: failed, scale: 100, format: "%.2f %%"},
			{name: "p99", of: func(r *run) float64 { return r.quantile("calls", 0.99, during) }, scale: 1000, format: "%.0f ms"},
			{name: "p99.9", of: func(r *run) float64 { return r.quantile("calls", 0.999, during) }, scale: 1000, format: "%.0f ms"},
			{name: "attempts/s at the three, first 2 s", of: lost(span{begin, begin + 2*time.Second}), format: "%.0f"},
			{name: "after that", of: lost(settled), format: "%.1f"},
		},
		holds:   func(r *run) bool { return failed(r) == 0 && lost(settled)(r) <= 5 },
		roughly: func(r *run) bool { return failed(r) <= 0.05 && lost(settled)(r) <= 50 },
		rows: []row{
			{name: "none", with: bare(tries(1)), want: breaks},
			{name: "retries", with: bare(), want: breaks},
			{name: "ejection, retries", with: bare(ejection)},
			{name: "Hull", with: hullWith(), want: holds},
		},
	}
}
