package breaker

import (
	"time"

	"github.com/hull-go/hull/policy"
)

// ForceOpen refuses all calls until Reset.
func (b *Breaker) ForceOpen(now policy.Time) { b.set(now, ForcedOpen, "opened by hand") }

// ForceClosed lets all calls through and goes on counting, until Reset.
func (b *Breaker) ForceClosed(now policy.Time) { b.set(now, ForcedClosed, "closed by hand") }

// Disable lets all calls through and counts nothing, until Reset.
func (b *Breaker) Disable(now policy.Time) { b.set(now, Disabled, "disabled by hand") }

// Reset closes the breaker as if it were new. Results of calls that are under way do not count.
func (b *Breaker) Reset(now policy.Time) { b.set(now, Closed, "reset by hand") }

func (b *Breaker) set(now policy.Time, s State, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.openings, b.successes, b.notBefore, b.probe.out = 0, 0, 0, false
	b.until.Store(0)
	b.enter(now, s, why)
}

// Pushback implements policy.Pushbacker: the dependency asked not to be called for d. It does not open the breaker, but it is a floor
// for the time that it stays open, now or at its next opening, up to PushbackCap.
func (b *Breaker) Pushback(now policy.Time, d time.Duration) {
	if d <= 0 {
		return
	}
	d = min(d, b.opt.PushbackCap)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notBefore = max(b.notBefore, now.Add(d))
	// An opening that is already over must not come back to life.
	if _, s := split(b.word.Load()); s == Open && now < policy.Time(b.until.Load()) {
		longest := b.since.Add(b.opt.PushbackCap)
		b.until.Store(max(b.until.Load(), int64(min(b.notBefore, longest))))
	}
}

// Nudge says that something has changed for the better: a node is back, or a new one is there. An open breaker lets a probe
// go now instead of waiting out its time; a long outage must not delay the recovery. Other states stay as they are.
func (b *Breaker) Nudge(now policy.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, s := split(b.word.Load()); s == Open && now < policy.Time(b.until.Load()) {
		b.until.Store(0)
		b.enter(now, HalfOpen, "a node is back")
	}
}

// Events implements policy.EventSource. A probe that did not come back is noted when the next call comes.
func (b *Breaker) Events(now policy.Time, since uint64) []policy.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now, nil)
	return b.log.Since(since)
}

// State returns the state at now.
func (b *Breaker) State(now policy.Time) State {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, _, _ := b.at(now)
	return s
}

// Snapshot reads the breaker at now. It changes nothing, so what is due by then shows, but is not yet in Events.
func (b *Breaker) Snapshot(now policy.Time) Snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	gen, _ := split(b.word.Load())
	s := Snapshot{Openings: b.openings, Refused: b.refused.Load(), Seq: b.log.Seq()}
	s.State, s.Since, s.Until = b.at(now)
	switch s.State {
	case HalfOpen:
		s.Probes, s.ProbeOut = b.successes, b.probe.out
	case Closed, Ramp, ForcedClosed:
		s.Calls, s.Failed, s.Slow = b.sum(now, gen)
	}
	return s
}

// at returns the state at now with what is due by then. A lease that has run out still shows as half-open: how long the breaker
// then stays open is drawn when the next call comes. The mutex is held.
func (b *Breaker) at(now policy.Time) (s State, since, until policy.Time) {
	_, s = split(b.word.Load())
	since, until = b.since, policy.Time(b.until.Load())
	switch {
	case s == Open && now >= until:
		return HalfOpen, until, 0
	case s == Ramp && now >= until:
		return Closed, until, 0
	case s == Open, s == HalfOpen, s == Ramp:
		return s, since, until
	}
	return s, since, 0
}
