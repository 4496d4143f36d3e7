package policy_test

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/policytest"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/policy/throttle"
	"github.com/hull-go/hull/policy/timeout"
	"github.com/hull-go/hull/status"
)

// Named outages, mechanism by mechanism: each row is one way of protecting a client or a server, and says what has to become of
// it, also where a popular cure alone does not cure. Load is open loop, and outcomes are judged over many seeds.

var scenarioSeeds = flag.Int("scenario.seeds", defaultSeeds, "over how many seeds the scenarios run")

// mechanism is a row of an overload scenario.
type mechanism struct {
	name   string
	client policy.Options // Retries and Timeouts are the scenario's unless they are set
	budget func() policy.Budget
	gates  func(o *policy.Options)
	server policytest.ServerOptions
	line   func(workers int) policy.Line
	load   float64 // share of the scenario's; 0 = 1
	tries  int     // attempts; 0 = the scenario's
	crisis time.Duration
	slow   float64
	late   time.Duration // judge so much later: what it does at once is not what is asked
	enough float64       // share of the load that is recovery; 0 = the scenario's

	want share
}

// share is the share of the seeds that recover.
type share struct{ least, most float64 }

var (
	always = share{1, 1}
	never  = share{0, 0}
)

func (s share) String() string {
	switch s {
	case always:
		return "always"
	case never:
		return "never"
	}
	return fmt.Sprintf("%.2f–%.2f", s.least, s.most)
}

// outage is a scenario of overload: normal load, a crisis, and the time after it.
type outage struct {
	rate    float64 // calls per second
	workers int
	work    func(rnd rand.Source, busy int) time.Duration
	network time.Duration // mean of one way
	timeout time.Duration
	tries   int
	begin   time.Duration // of the crisis
	crisis  time.Duration
	stall   bool          // nothing is done during the crisis
	slow    float64       // else work takes so many times as long
	spike   float64       // else load is so many times as high
	ramp    bool          // else load grows up to so many times
	judge   time.Duration // after the crisis, goodput is judged for
	over    time.Duration // so long
	enough  float64       // share of the load
}

// result is what became of one run.
type result struct {
	goodput  float64 // calls per second that ended well, while judged
	offered  float64
	attempts float64 // per second
	first    float64 // seconds after the crisis until a second at 90 % of the load, or NaN
}

func (o outage) run(seed uint64, m *mechanism) result {
	w := policytest.NewWorld(seed)
	tries, rate, crisis, slow := o.tries, o.rate, o.crisis, o.slow
	if m.tries != 0 {
		tries = m.tries
	}
	if m.load != 0 {
		rate *= m.load
	}
	if m.crisis != 0 {
		crisis = m.crisis
	}
	if m.slow != 0 {
		slow = m.slow
	}
	opt := m.client
	if opt.Retries == nil {
		opt.Retries = must(retry.New(retry.Options{Attempts: tries, Backoff: retry.Immediate}))
	}
	opt.Timeouts = must(timeout.New(timeout.Options{Fixed: o.timeout}))
	if m.budget != nil {
		opt.Budget = m.budget()
	}
	if m.gates != nil {
		m.gates(&opt)
	}
	p := must(policy.New(opt))
	so := m.server
	so.Workers, so.Work = o.workers, o.work
	if m.line != nil {
		so.Line = m.line(o.workers)
	}
	server := policytest.NewServer(so)
	var to policytest.Service = server
	if o.network > 0 {
		to = policytest.Distant(o.network, server)
	}
	o.judge += m.late
	end := o.begin + crisis
	w.At(o.begin, func() {
		switch {
		case o.stall:
			server.Stall(w, crisis)
		case slow > 0:
			server.Slow(slow)
		}
	})
	w.At(end, func() { server.Slow(1) })
	last := end + o.judge + o.over
	offered, good := make([]int, int(last/time.Second)+1), make([]int, int(last/time.Second)+1)
	second := func() int { return min(int(w.Elapsed()/time.Second), len(good)-1) }
	from := 0
	w.At(end+o.judge, func() { from = server.Work().Arrived })
	w.Arrive(func() float64 {
		r := rate
		if in := w.Elapsed() - o.begin; o.spike > 0 && in >= 0 {
			switch {
			case o.ramp:
				r *= 1 + (o.spike-1)*min(1, in.Seconds()/crisis.Seconds())
			case in < crisis:
				r *= o.spike
			}
		}
		return r
	}, func() {
		offered[second()]++
		w.Call(p, policy.Call{Idempotent: true}, to, func(c *policytest.Call) {
			if c.Err == nil {
				good[second()]++
			}
		})
	})
	w.Until(last)
	attempts := server.Work().Arrived - from
	r := result{first: math.NaN(), attempts: float64(attempts) / o.over.Seconds()}
	for s := int((end + o.judge) / time.Second); s < int(last/time.Second); s++ {
		r.goodput += float64(good[s]) / o.over.Seconds()
		r.offered += float64(offered[s]) / o.over.Seconds()
	}
	for s := int(end/time.Second) + 1; s < len(good)-1; s++ {
		if float64(good[s]) >= 0.9*rate {
			r.first = float64(s) - end.Seconds()
			break
		}
	}
	return r
}

// seeds runs f for every seed on as many goroutines as help.
func seeds(n int, f func(seed uint64)) {
	// There is much garbage and next to no heap: collecting at every 4 MB takes a third of the time.
	defer debug.SetGCPercent(debug.SetGCPercent(1000))
	var wg sync.WaitGroup
	next := make(chan uint64)
	for range 2 {
		wg.Go(func() {
			for s := range next {
				f(s)
			}
		})
	}
	for s := range n {
		next <- uint64(s)
	}
	close(next)
	wg.Wait()
}

// play runs an outage mechanism by mechanism and prints the table.
func (o outage) play(t *testing.T, rows []mechanism) {
	var table strings.Builder
	n := *scenarioSeeds
	fmt.Fprintf(&table, "%d seeds, %v after the crisis:\n%-34s %9s %9s %10s %9s  %s", n, o.judge, "", "load/s", "ok/s", "attempts/s", "recovers", "first good second after")
	for i := range rows {
		m := &rows[i]
		var mu sync.Mutex
		var sum result
		recovered, firsts := 0, 0
		enough := o.enough
		if m.enough != 0 {
			enough = m.enough
		}
		least, most := math.Inf(1), math.Inf(-1)
		seeds(n, func(seed uint64) {
			r := o.run(seed, m)
			mu.Lock()
			defer mu.Unlock()
			sum.goodput += r.goodput
			sum.offered += r.offered
			sum.attempts += r.attempts
			least, most = min(least, r.goodput/r.offered), max(most, r.goodput/r.offered)
			if r.goodput >= enough*r.offered {
				recovered++
			}
			if !math.IsNaN(r.first) {
				sum.first += r.first
				firsts++
			}
		})
		f := float64(n)
		got := float64(recovered) / f
		first := "–"
		if firsts > 0 {
			first = fmt.Sprintf("%.1f s (%d)", sum.first/float64(firsts), firsts)
		}
		fmt.Fprintf(&table, "\n%-34s %9.0f %9.1f %10.0f %9.2f  %s", m.name, sum.offered/f, sum.goodput/f, sum.attempts/f, got, first)
		if got < m.want.least || got > m.want.most {
			t.Errorf("%s: recovers with %.2f of the seeds, want %v; goodput from %.2f to %.2f of the load", m.name, got, m.want, least, most)
		}
	}
	t.Log(table.String())
}

// tenth is a budget of 10 % after timeouts too, where Hull's own is 5 %.
type tenth struct{ *retry.Budget }

func (b tenth) Spend(now policy.Time, c policy.Criticality, tokens int) bool {
	return b.Budget.Spend(now, c, min(tokens, 10))
}

func budget5() policy.Budget  { return must(retry.NewBudget(retry.BudgetOptions{})) }
func budget10() policy.Budget { return tenth{must(retry.NewBudget(retry.BudgetOptions{}))} }

// line returns a line of the server's; it is Flat, because retries that wait behind first attempts are a cure of their own.
func line(o concurrency.Options) func(int) policy.Line {
	return func(workers int) policy.Line {
		o := o
		o.Limit, o.Flat = workers, true
		if o.Queue == 0 {
			o.Queue = 1 << 20
		}
		return must(concurrency.New(o))
	}
}

// adaptive is what a Hull server has if nothing is configured.
func adaptive(workers int) policy.Line {
	src := must(concurrency.NewTwoArm(concurrency.TwoArmOptions{Start: 20 * max(workers, 1)}))
	return newPunctual(must(concurrency.New(concurrency.Options{Source: src})))
}

func throttled(o *policy.Options) {
	o.Throttle = policy.Slot{Name: "throttle", Gate: must(throttle.New(throttle.Options{}))}
}

func broken(o *policy.Options) {
	o.Breaker = policy.Slot{Name: "breaker", Gate: must(breaker.New(breaker.Options{}))}
}

func jittered(tries int) policy.Options {
	return policy.Options{Retries: must(retry.New(retry.Options{Attempts: tries, Base: time.Second, Cap: 4 * time.Second}))}
}

// Scenario 1, retry-storm: a service loses 10 s, and everything that it does after that is for callers who have given up
// (Bronson et al., Metastable Failures in Distributed Systems, HotOS 2021).
func TestRetryStorm(t *testing.T) {
	outage{rate: 280, workers: 1, work: policytest.Every(time.Second / 300), timeout: time.Second, tries: 2,
		begin: 3 * time.Second, crisis: 10 * time.Second, stall: true,
		judge: 4 * time.Second, over: 6 * time.Second, enough: 0.9}.play(t, []mechanism{
		{name: "none", want: never},
		{name: "none, half the load, later", load: 0.5, late: 200 * time.Second, want: always},
		{name: "no retry", tries: 1, want: never},
		{name: "no retry, later", tries: 1, late: 150 * time.Second, want: always},
		{name: "backoff with jitter", client: jittered(2), want: never},
		{name: "budget 5 %", budget: budget5, want: never},
		{name: "budget 10 %", budget: budget10, want: never},
		{name: "throttle", gates: throttled, want: never},
		{name: "deadline drop", server: policytest.ServerOptions{Drop: true}, want: never},
		{name: "budget 5 % + deadline drop", budget: budget5, server: policytest.ServerOptions{Drop: true}, want: always},
		{name: "budget 10 % + deadline drop", budget: budget10, server: policytest.ServerOptions{Drop: true}, want: always},
		{name: "line shorter than the timeout", line: line(concurrency.Options{MaxWait: 500 * time.Millisecond}), want: always},
		{name: "LIFO", line: line(concurrency.Options{MaxWait: time.Hour, Order: concurrency.LIFO, Share: 1}), want: always},
		{name: "CoDel, target 50 ms", line: line(concurrency.Options{MaxWait: 500 * time.Millisecond, Order: concurrency.CoDel, Target: 50 * time.Millisecond}), want: always},
		{name: "adaptive limit", line: adaptive, want: always},
		{name: "breaker", gates: broken, want: never},
		{name: "breaker, later", gates: broken, late: 50 * time.Second, want: always},
	})
}

// Scenario 2, cpu-throttle: a service that has room to spare loses most of its capacity for 10 s (Huang et al., Metastable
// Failures in the Wild, OSDI 2022, figure 5; here one fortieth of its size).
func TestCPUThrottle(t *testing.T) {
	outage{rate: 6200. / 40, workers: 10, work: policytest.Every(10 * time.Second * 40 / 15600), timeout: 3 * time.Second, tries: 5,
		begin: 2 * time.Second, crisis: 10 * time.Second, slow: 5,
		judge: 8 * time.Second, over: 8 * time.Second, enough: 0.9}.play(t, []mechanism{
		{name: "none", want: never},
		{name: "none, 70 % instead of 80 %", slow: 1 / 0.3, want: always},
		{name: "none, 8 s instead of 10 s", crisis: 8 * time.Second, want: always},
		{name: "none, two thirds of the load", load: 4200. / 6200, want: always},
		{name: "backoff with jitter", client: jittered(5), want: share{0, 0.25}},
		{name: "budget 5 %", budget: budget5, want: always},
		{name: "budget 10 %", budget: budget10, want: always},
		{name: "throttle", gates: throttled, want: never},
		{name: "deadline drop", server: policytest.ServerOptions{Drop: true}, want: always},
		{name: "line of 0.5 s", line: line(concurrency.Options{MaxWait: 500 * time.Millisecond}), want: always},
		{name: "LIFO", line: line(concurrency.Options{MaxWait: time.Hour, Order: concurrency.LIFO}), want: always},
		{name: "1 retry", tries: 2, want: always},
		{name: "adaptive limit", line: adaptive, want: always},
		{name: "breaker", gates: broken, want: never},
		{name: "breaker, later", gates: broken, late: 40 * time.Second, want: always},
	})
}

// crowded is a service that takes longer the more it does.
func crowded(_ rand.Source, busy int) time.Duration {
	return time.Second + time.Duration(busy)*10*time.Millisecond
}

// backoff that spreads the retries of a spike over a minute, as Brooker's simulator has it.
func spread() policy.Options {
	return policy.Options{Retries: must(retry.New(retry.Options{Attempts: 3, Base: 20 * time.Second, Cap: 40 * time.Second}))}
}

// limit bounds what a crowded service does at once to what it can do in time.
func limit(n int) func(int) policy.Line {
	return func(int) policy.Line { return must(concurrency.New(concurrency.Options{Limit: n, Flat: true})) }
}

// Scenario 3, open-loop-spike: a service takes longer the more it does, and gets twice its load for 5 s (M. Brooker's simulator).
func TestOpenLoopSpike(t *testing.T) {
	outage{rate: 40, workers: -1, work: crowded, network: 100 * time.Millisecond, timeout: 3 * time.Second, tries: 3,
		begin: 15 * time.Second, crisis: 5 * time.Second, spike: 2,
		judge: 25 * time.Second, over: 10 * time.Second, enough: 0.9}.play(t, []mechanism{
		{name: "none", want: share{0, 0.5}},
		{name: "backoff with jitter", client: spread(), want: always},
		{name: "short backoff", client: policy.Options{Retries: must(retry.New(retry.Options{}))}, want: share{0, 0.5}},
		{name: "no retry", tries: 1, want: always},
		{name: "budget 5 %", budget: budget5, want: always},
		{name: "throttle", gates: throttled, want: share{0, 0.5}},
		{name: "limit", line: limit(150), want: always},
		{name: "adaptive limit", line: adaptive, want: share{0.9, 1}},
		{name: "breaker", gates: broken, want: share{0.8, 1}},
	})
}

// Scenario 4, open-loop-ramp: the same service, whose load grows to twice what it was and stays there. What recovers is the
// capacity, not the load: 60 calls a second with 150 at once.
func TestOpenLoopRamp(t *testing.T) {
	outage{rate: 40, workers: -1, work: crowded, network: 100 * time.Millisecond, timeout: 3 * time.Second, tries: 3,
		begin: 5 * time.Second, crisis: 25 * time.Second, spike: 2, ramp: true,
		judge: 12 * time.Second, over: 8 * time.Second, enough: 0.6}.play(t, []mechanism{
		{name: "none", want: never},
		{name: "backoff with jitter", client: spread(), want: never},
		{name: "no retry", tries: 1, want: never},
		{name: "budget 5 %", budget: budget5, want: never},
		{name: "throttle", gates: throttled, want: never},
		{name: "limit", line: limit(150), want: always},
		{name: "adaptive limit", line: adaptive, want: share{0.5, 1}},
		{name: "adaptive limit, half of it", line: adaptive, enough: 0.375, want: share{0.8, 1}},
		{name: "limit + budget + throttle", line: limit(150), budget: budget5, gates: throttled, want: always},
	})
}

// Scenario 5, retry-policy-curve: clients of a service of which a share fails at random, not from overload (M. Brooker, Fixing retries
// with token buckets and circuit breakers, 2022). Retries multiply the load as failures grow; a bucket lets them go
// only as long as they are few.
func TestRetryPolicyCurve(t *testing.T) {
	type figures struct{ ok, load float64 }
	run := func(seed uint64, failing float64, tries int, budget bool) (f figures) {
		const clients, second, last = 10, 100, 30
		w := policytest.NewWorld(seed)
		calls, ok, attempts := 0, 0, 0
		service := policytest.Replies(func(policy.Attempt) (time.Duration, error) {
			if attempts++; w.Uniform() < failing {
				return ms, errUnavailable
			}
			return ms, nil
		})
		w.At(10*time.Second, func() { calls, ok, attempts = 0, 0, 0 }) // what had been saved up is spent
		for range clients {
			o := policy.Options{Retries: must(retry.New(retry.Options{Attempts: tries, Backoff: retry.Immediate}))}
			if budget {
				o.Budget = must(retry.NewBudget(retry.BudgetOptions{Capacity: 100}))
			}
			p := must(policy.New(o))
			w.Arrive(func() float64 { return second / clients }, func() {
				calls++
				w.Call(p, policy.Call{Idempotent: true}, service, func(c *policytest.Call) {
					if c.Err == nil {
						ok++
					}
				})
			})
		}
		w.Until(last * time.Second)
		return figures{float64(ok) / float64(calls), float64(attempts) / float64(calls)}
	}
	var table strings.Builder
	fmt.Fprintf(&table, "%d seeds:\n%-26s %8s %8s %8s", *scenarioSeeds, "", "failing", "ok", "load")
	for _, tt := range []struct {
		name     string
		failing  float64
		tries    int
		budget   bool
		ok, load share
	}{
		{"no retry", 0.5, 1, false, share{0.47, 0.53}, share{0.99, 1.01}},
		{"3 retries", 0.01, 4, false, share{0.999, 1}, share{1, 1.02}},
		{"3 retries", 0.1, 4, false, share{0.999, 1}, share{1.1, 1.13}},
		{"3 retries", 0.5, 4, false, share{0.92, 0.95}, share{1.83, 1.92}},
		{"3 retries", 0.75, 4, false, share{0.65, 0.72}, share{2.65, 2.8}},
		{"3 retries from a bucket", 0.01, 4, true, share{0.999, 1}, share{1, 1.02}},
		{"3 retries from a bucket", 0.1, 4, true, share{0.97, 1}, share{1.07, 1.11}},
		{"3 retries from a bucket", 0.5, 4, true, share{0.5, 0.56}, share{1.03, 1.11}},
		{"3 retries from a bucket", 0.75, 4, true, share{0.24, 0.3}, share{1, 1.06}},
	} {
		var mu sync.Mutex
		var mean figures
		seeds(*scenarioSeeds, func(seed uint64) {
			f := run(seed, tt.failing, tt.tries, tt.budget)
			mu.Lock()
			defer mu.Unlock()
			mean.ok += f.ok / float64(*scenarioSeeds)
			mean.load += f.load / float64(*scenarioSeeds)
		})
		fmt.Fprintf(&table, "\n%-26s %7.0f%% %7.1f%% %7.2f×", tt.name, 100*tt.failing, 100*mean.ok, mean.load)
		if mean.ok < tt.ok.least || mean.ok > tt.ok.most+0.001 || mean.load < tt.load.least-1e-9 || mean.load > tt.load.most {
			t.Errorf("%s, %v failing: %.4f ok at %.3f times the load, want %v at %v", tt.name, tt.failing, mean.ok, mean.load, tt.ok, tt.load)
		}
	}
	t.Log(table.String())
}

// Scenario 6, layered-retry: three layers that each try four times, above a bottom that fails (Site Reliability Engineering,
// chapters 21 and 22). Each layer's word about whose failure it is, and its attempt number, travel or do not.
func TestLayeredRetry(t *testing.T) {
	const layers, calls = 3, 1000
	run := func(seed uint64, origin, path, budget bool, burst int) float64 {
		w := policytest.NewWorld(seed)
		bottom := 0
		to := policytest.Replies(func(policy.Attempt) (time.Duration, error) {
			bottom++
			return ms, errUnavailable
		})
		for range layers - 1 {
			p, below := layer(budget, burst), to
			to = policytest.ServiceFunc(func(w *policytest.World, r *policytest.Request) {
				c := policy.Call{Idempotent: true}
				if path {
					c.PathAttempt = r.Call.PathAttempt
				}
				w.Call(p, c, below, func(c *policytest.Call) {
					e := &status.Error{Code: status.Unavailable, Fate: status.Processed, Cause: c.Err}
					if origin {
						e.Origin = status.Downstream
					}
					r.Answer(e)
				})
			})
		}
		top := layer(budget, burst)
		n := 0
		w.Arrive(func() float64 {
			if n == calls {
				return 0
			}
			return 100
		}, func() { n++; w.Call(top, policy.Call{Idempotent: true}, to, nil) })
		w.Run()
		return float64(bottom) / calls
	}
	const burst = 20 // retries that each layer has saved up
	var table strings.Builder
	fmt.Fprintf(&table, "%d seeds:\n%-40s %s", *scenarioSeeds, "", "calls at the bottom for each at the top")
	for _, tt := range []struct {
		name                 string
		origin, path, budget bool
		want                 share
	}{
		{"none", false, false, false, share{64, 64}},
		{"attempt number", false, true, false, share{4, 16}}, // who is called by a retry does not retry, but the top does
		{"origin", true, false, false, share{4, 4}},
		{"origin + attempt number", true, true, false, share{4, 4}},
		{"budget", false, false, true, share{1, 1 + 3.*burst/calls + 0.01}},
		{"origin + attempt number + budget", true, true, true, share{1, 1 + 1.*burst/calls + 0.001}},
	} {
		var mu sync.Mutex
		mean := 0.0
		seeds(*scenarioSeeds, func(seed uint64) {
			x := run(seed, tt.origin, tt.path, tt.budget, burst)
			mu.Lock()
			defer mu.Unlock()
			mean += x / float64(*scenarioSeeds)
		})
		fmt.Fprintf(&table, "\n%-40s %.3f", tt.name, mean)
		if mean < tt.want.least-1e-9 || mean > tt.want.most+1e-9 {
			t.Errorf("%s: %.3f calls at the bottom for each at the top, want %v", tt.name, mean, tt.want)
		}
	}
	t.Log(table.String())
}

// layer is the pipeline of a client in one layer.
func layer(budget bool, burst int) *policy.Pipeline {
	o := policy.Options{Retries: must(retry.New(retry.Options{Attempts: 4, Backoff: retry.Immediate}))}
	if budget {
		o.Budget = must(retry.NewBudget(retry.BudgetOptions{Capacity: 10 * burst, PerPeak: -1}))
	}
	return must(policy.New(o))
}
