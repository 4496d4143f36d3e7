package check

import (
	"context"
	"time"

	"github.com/hull-go/hull/demo/stats"
	"github.com/hull-go/hull/demo/ui"
)

// sampling is how often the numbers are read during a step.
const sampling = 100 * time.Millisecond

// watcher reads the numbers again and again and keeps what a step wants to know.
type watcher struct {
	api *api
	own *stats.Stall // what holds this process up; nil = only what holds the demo up counts

	began           time.Time
	before, last    *ui.Stats
	protected, bare trail
	stall           float64 // the longest seen, in milliseconds
}

// trail is what is seen of one side on the way.
type trail struct {
	counts  stats.Counts
	lastBad time.Time // the last time a call had failed or needed the fallback
	p99     float64
}

func (t *trail) see(now time.Time, s ui.SideStats) {
	if s.Total.Failed+s.Total.Fallback > t.counts.Failed+t.counts.Fallback {
		t.lastBad = now
	}
	t.counts = s.Total
	t.p99 = max(t.p99, s.Window.P99)
}

// start begins a step.
func (w *watcher) start(ctx context.Context) error {
	s, err := w.api.stats(ctx)
	if err != nil {
		return err
	}
	w.began, w.before, w.last = time.Now(), s, s
	w.stall = 0
	w.protected, w.bare = trail{counts: s.Protected.Total}, trail{counts: s.Unprotected.Total}
	return nil
}

// watch samples for d, or until done says so.
func (w *watcher) watch(ctx context.Context, d time.Duration, done func(*ui.Stats) bool) error {
	t := time.NewTicker(sampling)
	defer t.Stop()
	for deadline := time.Now().Add(d); time.Now().Before(deadline); {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
		}
		s, err := w.api.stats(ctx)
		if err != nil {
			return err
		}
		now := time.Now()
		w.protected.see(now, s.Protected)
		w.bare.see(now, s.Unprotected)
		w.last, w.stall = s, max(w.stall, s.Stall)
		if w.own != nil {
			w.stall = max(w.stall, w.own.Max())
		}
		if done != nil && done(s) {
			return nil
		}
	}
	return nil
}

// side sums up one side of the step: the fault was there from w.began until ended; atEnd are the counts of that moment.
func (w *watcher) side(t *trail, before, atEnd stats.Counts, ended time.Time) Side {
	c := t.counts.Sub(before)
	s := Side{Calls: c.Calls(), OK: c.OK, Failed: c.Failed, Fallback: c.Fallback, Retried: c.Retried, P99: t.p99,
		UnsafeOK: c.UnsafeOK, UnsafeFailed: c.UnsafeFailed, UnsafeMaybe: c.UnsafeMaybe}
	s.Goodput = float64(atEnd.Sub(before).OK) / ended.Sub(w.began).Seconds()
	if !t.lastBad.IsZero() {
		s.Trouble = t.lastBad.Sub(w.began).Seconds()
		s.Recovery = max(t.lastBad.Sub(ended).Seconds(), 0)
	}
	return s
}
