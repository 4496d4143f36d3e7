package sim

import (
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/admission"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/spec"
)

// Protection is what callers and servers do about failures. Bare and Hull make one, and Cures change it.
type Protection struct {
	bare   bool
	client []func(*spec.Service)
	line   func(places int) (policy.Line, error) // before each node; nil = everybody comes in
	desk   bool                                  // Hull's, before each node
	drop   bool                                  // what has expired is not begun
	travel bool                                  // the deadline, the attempt number and whose failure it was
	poorer bool                                  // methods that have another answer give it
	flight bool                                  // caches: one call for all who miss a key
	fill   bool                                  // caches: the answer is kept though nobody waits for it any more
	drain  bool                                  // nodes that leave say so, wait, and finish
	stale  bool                                  // callers keep the nodes that they know while the registry is silent
	doubt  bool                                  // and do not believe it when all are gone at once
}

// Cure is a part of a Protection.
type Cure func(*Protection)

// Bare is what a program does that was written without a thought: round robin, a fixed timeout, as many tries as the service's
// description says, one right after the other, and servers that take on everything. Cures are added to that.
func Bare(cures ...Cure) Protection {
	p := Protection{bare: true}
	return p.With(cures...)
}

// Hull is what Hull does with nothing configured, by its own code: clients as an empty document describes them, servers with
// their admission, and what travels between them. The application has given its calls a deadline, and declared them as its Load does.
func Hull(cures ...Cure) Protection {
	p := Protection{desk: true, drop: true, travel: true, drain: true, stale: true, doubt: true}
	return p.With(cures...)
}

// With returns p with more cures.
func (p Protection) With(cures ...Cure) Protection {
	p.client = append([]func(*spec.Service){}, p.client...)
	for _, c := range cures {
		c(&p)
	}
	return p
}

// document is what p's callers do when they call a service.
func (p *Protection) document(s *Service) spec.Service {
	var d spec.Service
	if p.bare {
		d.Balancer = "round-robin"
		d.AttemptTimeout.Fixed = spec.Duration(s.Timeout)
		d.Retry = spec.Retry{Attempts: s.Tries, Backoff: "immediate"}
		d.Breaker.Mode, d.Throttle.Mode, d.RetryBudget.Mode, d.Ejection.Mode, d.Concurrency.Mode = spec.Off, spec.Off, spec.Off, spec.Off, spec.Off
	}
	for _, c := range p.client {
		c(&d)
	}
	return d
}

// Client changes what callers do, as a document says it.
func Client(change func(*spec.Service)) Cure {
	return func(p *Protection) { p.change(change) }
}

func (p *Protection) change(how func(*spec.Service)) { p.client = append(p.client, how) }

// NoRetry makes one attempt.
func NoRetry(p *Protection) { p.change(func(d *spec.Service) { d.Retry.Attempts = 1 }) }

// Jitter waits before each repetition, for a time drawn between nothing and one second, two, four.
func Jitter(p *Protection) { p.change(backoff(time.Second, 4*time.Second)) }

// backoff is full jitter.
func backoff(base, limit time.Duration) func(*spec.Service) {
	return func(d *spec.Service) {
		d.Retry.Backoff, d.Retry.Base, d.Retry.Cap = "full-jitter", spec.Duration(base), spec.Duration(limit)
	}
}

// Budget pays for repetitions from successes: 10 %, or 5 % after timeouts.
func Budget(p *Protection) { p.change(func(d *spec.Service) { d.RetryBudget.Mode = spec.On }) }

// Breaker opens when half of the calls fail.
func Breaker(p *Protection) { p.change(func(d *spec.Service) { d.Breaker.Mode = spec.On }) }

// Throttle holds back what the service would refuse.
func Throttle(p *Protection) { p.change(func(d *spec.Service) { d.Throttle.Mode = spec.On }) }

// Eject avoids nodes that fail, hang or are down.
func Eject(p *Protection) { p.change(func(d *spec.Service) { d.Ejection.Mode = spec.On }) }

// Learned replaces the fixed timeout of an attempt by one that follows latencies.
func Learned(p *Protection) { p.change(func(d *spec.Service) { d.AttemptTimeout.Fixed = 0 }) }

// Balance chooses nodes by another strategy.
func Balance(strategy string) Cure {
	return Client(func(d *spec.Service) { d.Balancer = strategy })
}

// Hedge starts a second attempt after a delay, 0 = a learned one, at most in the given share of calls.
func Hedge(after time.Duration, extra float64) Cure {
	return Client(func(d *spec.Service) {
		d.Hedge.Mode, d.Hedge.Delay, d.Hedge.Extra = spec.On, spec.Duration(after), spec.Percent(extra)
		d.Retry.Attempts = max(d.Retry.Attempts, 2)
	})
}

// Timeout gives each attempt a fixed time.
func Timeout(d time.Duration) Cure {
	return Client(func(s *spec.Service) { s.AttemptTimeout.Fixed = spec.Duration(d) })
}

// Tries is how many attempts there are.
func Tries(n int) Cure {
	return Client(func(s *spec.Service) { s.Retry.Attempts = n })
}

// DeadlineDrop lets servers not begin what nobody waits for any more.
func DeadlineDrop(p *Protection) { p.drop = true }

// Admission is Hull's server: an adaptive limit, a short line by criticality, a reserve for each method, and DeadlineDrop.
func Admission(p *Protection) { p.desk, p.drop = true, true }

// Travel is for hops: what is left of the deadline, the attempt number and whose failure it was travel with calls and answers.
func Travel(p *Protection) { p.travel = true }

// Fallback lets methods that have a poorer answer give it when what they call fails.
func Fallback(p *Protection) { p.poorer = true }

// SingleFlight makes one call for all who miss the same key of a cache.
func SingleFlight(p *Protection) { p.flight = true }

// FillInBackground fetches and keeps what a cache misses also when the caller has given up.
func FillInBackground(p *Protection) { p.fill = true }

// Drain lets a node that is restarted say so, wait until that is known, refuse what comes, and finish what it has.
func Drain(p *Protection) { p.drain = true }

// Stale lets callers keep the nodes that they know while the registry is silent.
func Stale(p *Protection) { p.stale = true }

// Disbelief lets callers doubt a registry that says that everybody is gone at once.
func Disbelief(p *Protection) { p.doubt = true }

// Line is a line before each node, in front of as many places as it has cores or threads, or as Limit says.
func Line(o concurrency.Options) Cure {
	return func(p *Protection) {
		p.line = func(places int) (policy.Line, error) {
			o := o
			if o.Limit == 0 {
				o.Limit = places
			}
			if o.Queue == 0 {
				o.Queue = 1 << 20
			}
			return concurrency.New(o)
		}
	}
}

// ShortQueue is a line in which nobody waits longer than d.
func ShortQueue(d time.Duration) Cure { return Line(concurrency.Options{MaxWait: d, Flat: true}) }

// LIFO serves whoever came last, who has the most time left.
func LIFO(p *Protection) {
	Line(concurrency.Options{MaxWait: time.Hour, Order: concurrency.LIFO, Share: 1, Flat: true})(p)
}

// Limit bounds what a node has under way, and refuses the rest.
func Limit(n int) Cure {
	return Line(concurrency.Options{Limit: n, Queue: 1, MaxWait: time.Millisecond, Flat: true})
}

// rules are a Hull server's with nothing configured, on a machine with so many processors.
func rules(processors int) admission.Rules {
	return admission.Rules{Limit: admission.Limit{Start: max(4, min(20*processors, 10_000))}}
}
