package policy

import (
	"math/rand/v2"

	"github.com/hull-go/hull/status"
)

// dryRun holds the drivers of attempts that only count what they would do. Gates in dry-run are asked in their place; these
// would have to act to be asked, so they are kept apart from the ones that do.
type dryRun struct {
	retries  Retries
	hedging  Hedging
	timeouts Timeouts
}

// applyModes takes what is off or in dry-run out of the pipeline's options.
func (p *Pipeline) applyModes() {
	var d dryRun
	o := &p.opt
	if o.RetryMode != On && o.Retries != nil {
		if o.RetryMode == DryRun {
			d.retries = o.Retries
		}
		if o.Retries = nil; o.HedgeMode != On || o.Hedging == nil {
			p.max = 1
		}
	}
	if o.HedgeMode != On && o.Hedging != nil {
		if o.HedgeMode == DryRun {
			d.hedging = o.Hedging
		}
		o.Hedging = nil
	}
	if o.TimeoutMode != On && o.Timeouts != nil {
		if o.TimeoutMode == DryRun {
			d.timeouts = o.Timeouts
		}
		o.Timeouts = nil
	}
	if d != (dryRun{}) {
		p.dry = &d
	}
}

// dryBegun notes when attempt k would be ended, and a hedge begun.
func (x *Exec) dryBegun(now Time, k int) {
	d, a := x.p.dry, &x.att[k]
	if d.timeouts != nil {
		left, _ := x.call.Left(now)
		most := x.p.max
		if d.retries != nil {
			most = d.retries.Attempts()
		}
		// a.own without Timeouts in the pipeline means nothing else.
		a.own = d.timeouts.Attempt(now, &x.call, left, int(x.n) >= most || !x.call.Idempotent || x.call.PathAttempt > 1 || x.probe)
	}
	if d.hedging != nil && k == 0 && x.call.SideEffectFree && x.call.Attempts != 1 && !x.probe && x.call.PathAttempt <= 1 {
		if delay, ok := d.hedging.Delay(now, &x.call, 1); ok {
			x.dryAt = now.Add(delay)
		}
	}
}

// dryEnded counts what would have happened while an attempt ran.
func (x *Exec) dryEnded(now Time, rnd rand.Source, a *attempt, e Ended) {
	d := x.p.dry
	if d.timeouts != nil && !x.stream {
		if a.own > 0 && a.took >= a.own && (x.call.Deadline == 0 || a.start.Add(a.own) < x.call.Deadline) {
			x.p.n.dryTimeouts.Add(1)
		}
		d.timeouts.Done(now, e)
	}
	if d.hedging != nil && !x.stream {
		if x.dryAt != 0 && now >= x.dryAt && (x.call.Deadline == 0 || x.dryAt < x.call.Deadline) && x.apart(now, rnd) {
			x.p.n.dryHedges.Add(1)
			d.hedging.Delay(now, &x.call, 2) // it pays for the attempt that it would have begun
		}
		d.hedging.Done(now, e)
	}
	x.dryAt = 0
}

// dryAgain counts a failure that would have been followed by another attempt, and says so.
func (x *Exec) dryAgain(now Time, rnd rand.Source, a *attempt) string {
	if x.p.dry == nil || x.p.dry.retries == nil || x.forsaken || x.barred || x.stream || x.probe || int(x.n) >= x.p.dry.retries.Attempts() {
		return ""
	}
	e := status.From(a.err)
	wait, ok, why := x.p.dry.retries.Again(now, rnd, &x.call, int(x.n), a.class, e.Fate, e.Pushback)
	if !ok {
		return why
	}
	if !x.fits(now, now.Add(wait)) || !x.breakerHolds(now) {
		return ""
	}
	x.p.n.dryRetries.Add(1)
	return "retries are in dry-run: another attempt would follow"
}
