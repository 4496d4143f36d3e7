package spec

import (
	"time"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/hedge"
	"github.com/hull-go/hull/policy/rate"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/policy/throttle"
	"github.com/hull-go/hull/policy/timeout"
)

// The options of policies, from resolved fields. That the policies accept what validation does is tested.

func (a AttemptTimeout) options() timeout.Options {
	return timeout.Options{Fixed: time.Duration(a.Fixed), Min: time.Duration(a.Min), Max: time.Duration(a.Max), Cold: time.Duration(a.Cold),
		Quantile: float64(a.Quantile), Factor: a.Factor, Share: float64(a.Share), Window: time.Duration(a.Window), MinSamples: a.MinSamples}
}

func (r Retry) options() retry.Options {
	return retry.Options{Attempts: r.Attempts, Backoff: backoff(r.Backoff), Base: time.Duration(r.Base), Cap: time.Duration(r.Cap),
		RetryInternal: value(r.Internal)}
}

func backoff(name string) retry.Backoff {
	switch name {
	case "exponential":
		return retry.Exponential
	case "constant":
		return retry.Constant
	case "decorrelated":
		return retry.Decorrelated
	case "immediate":
		return retry.Immediate
	}
	return retry.FullJitter
}

func (h Hedge) options() hedge.Options {
	return hedge.Options{Delay: time.Duration(h.Delay), Quantile: float64(h.Quantile), Min: time.Duration(h.Min), MinSamples: h.MinSamples,
		Window: time.Duration(h.Window), Hedges: h.Hedges, Extra: float64(h.Extra), Burst: h.Burst}
}

func (b Breaker) options() breaker.Options {
	o := breaker.Options{Window: time.Duration(b.Window), MinCalls: b.MinCalls, Failures: float64(b.Failures), Consecutive: value(b.Consecutive),
		Slow: time.Duration(b.Slow), SlowCalls: float64(b.SlowCalls), Open: time.Duration(b.Open), OpenCap: time.Duration(b.OpenCap), PushbackCap: time.Duration(b.PushbackCap),
		Jitter: float64(value(b.Jitter)), ProbeEvery: time.Duration(b.ProbeEvery), ProbeLease: time.Duration(b.ProbeLease),
		Successes: b.Successes, Ramp: orNone(b.Ramp)}
	if b.Jitter != nil && o.Jitter == 0 {
		o.Jitter = -1
	}
	if o.LastCalls = b.LastCalls; o.LastCalls > 0 {
		o.MinCalls = min(o.MinCalls, o.LastCalls)
	}
	return o
}

// picking is the options of a service's picker.
func (s *Service) picking() balance.Options {
	e := &s.Ejection
	o := balance.Options{
		Strategy:  s.strategy(),
		Zone:      s.Locality.Zone,
		Region:    s.Locality.Region,
		Subset:    balance.Subset{Size: s.Subset.Size, Client: uint64(s.Subset.Client)},
		SlowStart: orNone(s.SlowStart),
		Decay:     time.Duration(s.Decay),
		Ejection: balance.Ejection{Mode: e.Mode.Slot(), Consecutive: e.Consecutive, Base: time.Duration(e.Base), Max: time.Duration(e.Max),
			Share: float64(e.Share), Sweep: orNone(e.Sweep), Deviations: e.Deviations, MinNodes: e.MinNodes, MinCalls: e.MinCalls,
			SlowFactor: e.SlowFactor, EjectSlow: value(e.EjectSlow), Probe: orNone(e.Probe), Stall: orNone(e.Stall)},
	}
	if s.Canary.Version != "" {
		o.Versions = map[string]float64{s.Canary.Version: float64(value(s.Canary.Share))}
	}
	return o
}

// strategy is a new one each time: it belongs to one picker.
func (s *Service) strategy() balance.Strategy {
	if s.Balancer == keyed {
		return balance.ConsistentHash(s.HashBound)
	}
	o, err := balance.StrategyNamed(s.Balancer)
	if err != nil {
		return balance.P2C() // the document was validated, so the name is one of the choices
	}
	return o
}

// keyed is the balancer that needs the same nodes in all clients.
const keyed = "consistent-hash"

// options needs a source of its own for each limiter.
func (c Concurrency) options() (concurrency.Options, error) {
	o := concurrency.Options{Queue: value(c.Queue), NoQueue: c.Queue != nil && *c.Queue == 0, MaxWait: time.Duration(c.MaxWait),
		Order: concurrency.FIFO, Target: time.Duration(c.Target), Interval: time.Duration(c.Interval)}
	switch c.Order {
	case "lifo":
		o.Order = concurrency.LIFO
	case "codel":
		o.Order = concurrency.CoDel
	}
	var err error
	switch c.Source {
	case "two-arm":
		o.Source, err = concurrency.NewTwoArm(concurrency.TwoArmOptions{Start: c.Start, Min: c.Min, Max: c.Max})
	case "aimd":
		o.Source, err = concurrency.NewAIMD(concurrency.AIMDOptions{Start: c.Start, Min: c.Min, Max: c.Max, Slow: time.Duration(c.Slow),
			Backoff: float64(c.Backoff)})
	default:
		o.Limit = c.Limit
	}
	return o, err
}

func (t Throttle) options() throttle.Options {
	return throttle.Options{Window: time.Duration(t.Window), K: t.K, Max: float64(t.Max), MinCalls: t.MinCalls}
}

func (r Rate) options() rate.Options {
	o := rate.Options{Limit: r.Limit, Per: time.Duration(r.Per), Burst: r.Burst, MaxWait: time.Duration(value(r.MaxWait))}
	if r.Shape == "leaky-bucket" {
		o.Shape = rate.LeakyBucket
	}
	if r.Each == "method" {
		o.Key = rate.ByMethod()
	}
	return o
}

func (b RetryBudget) options() retry.BudgetOptions {
	o := retry.BudgetOptions{Capacity: b.Capacity, PerPeak: value(b.PerPeak), Window: time.Duration(b.Window)}
	if b.PerPeak != nil && o.PerPeak == 0 {
		o.PerPeak = -1
	}
	return o
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// orNone is a duration as those options have it whose zero is a default and whose negative is none.
func orNone(d *Duration) time.Duration {
	switch {
	case d == nil:
		return 0
	case *d == 0:
		return -1
	}
	return time.Duration(*d)
}
