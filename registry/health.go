package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	defaultHealthEvery    = 5 * time.Second
	defaultHealthFailures = 2
)

// Health is how a node finds out whether it should be called. Check only what is the node's own, such as its disk or its
// warm cache: if all nodes ask the same database, all of them withdraw when that is gone, and then nobody is left who could
// answer with a fallback.
type Health struct {
	// Check returns nil if the node is well. It is called again and again, one call at a time; one that panics, or takes
	// longer than Timeout, has found the node ill. Needed.
	Check func(ctx context.Context) error
	// Every is the time from one call to the next, ± 20 %; 0 = 5 s.
	Every time.Duration
	// Timeout ends the context of a call; 0 = Every.
	Timeout time.Duration
	// Failures is after how many in a row the node is withdrawn; 0 = 2. The first success brings it back.
	Failures int
}

// Validate says what is wrong with h.
func (h Health) Validate() error { return h.normalise() }

func (h *Health) normalise() error {
	if h.Every == 0 {
		h.Every = defaultHealthEvery
	}
	if h.Timeout == 0 {
		h.Timeout = h.Every
	}
	if h.Failures == 0 {
		h.Failures = defaultHealthFailures
	}
	switch {
	case h.Check == nil:
		return errors.New("registry: Health needs a Check")
	case h.Every < 0 || h.Timeout < 0 || h.Failures < 0:
		return errors.New("registry: Every, Timeout and Failures of Health cannot be negative")
	}
	return nil
}

// Watch asks again and again, and tells of each change of the verdict: why the node is ill, and nil when it is well again. At first it counts as well. It
// returns when ctx ends, with its cause, or at once if the options are wrong. tell is called by the same goroutine.
func (h Health) Watch(ctx context.Context, tell func(ill error)) error {
	if err := h.normalise(); err != nil {
		return err
	}
	failures, ill := 0, false
	var running chan error // a check that has not ended in time
	for {
		var err error
		if running, err = h.check(ctx, running); ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch {
		case err == nil && ill:
			ill = false
			tell(nil)
		case err != nil && !ill && failures+1 >= h.Failures:
			ill = true
			tell(err)
		}
		if failures++; err == nil {
			failures = 0
		}
		t := time.NewTimer(time.Duration(float64(h.Every) * (1 - jitter + 2*jitter*rand.Float64())))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}

// Follow withdraws the node while it is ill and returns it when it is well, until ctx ends or the registration is closed.
// What it did last stays as it is then. A node that was withdrawn by other means is left alone until the check's verdict
// changes. Its errors are those of wrong options, the context's, and ErrClosed; while the engine is down it goes on, and
// the registration makes good what was decided.
func (g *Registration) Follow(ctx context.Context, h Health) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-g.done:
			cancel(ErrClosed)
		case <-ctx.Done():
		}
	}()
	return h.Watch(ctx, func(ill error) {
		if ill != nil {
			g.r.opt.Logger.Warn("registry: the node is ill, withdrawing it", "service", g.Node().Service, "id", g.Node().ID, "error", ill)
			_ = g.Withdraw(ctx) // tried until it succeeds
			return
		}
		g.r.opt.Logger.Info("registry: the node is well again, announcing it", "service", g.Node().Service, "id", g.Node().ID)
		_ = g.Return(ctx)
	})
}

// check asks once. A check that is deaf to its context is left behind and returned, and is what the next time waits for.
func (h *Health) check(ctx context.Context, running chan error) (late chan error, err error) {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	if running == nil {
		running = make(chan error, 1)
		go func() {
			returned := false
			defer func() {
				if p := recover(); p != nil || !returned { // or it called Goexit
					running <- fmt.Errorf("the check panicked: %v", p)
				}
			}()
			err := h.Check(ctx)
			returned = true
			running <- err
		}()
	}
	select {
	case err := <-running:
		return nil, err
	case <-ctx.Done():
	}
	select {
	case err := <-running: // it ended in the same moment
		return nil, err
	default:
		return running, fmt.Errorf("the check has not ended after %v", h.Timeout)
	}
}
