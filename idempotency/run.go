package idempotency

import (
	"context"
	"sync"
	"time"
)

// run is a handler under way: the context that it was given, which ends some time after the last of those who wait for it.
type run struct {
	context.Context // values, and the end that cancel brings
	cancel          context.CancelCauseFunc
	at              key
	linger          time.Duration
	usual           bool // nobody has asked for linger: what the handler calls is not given all of it

	mu       sync.Mutex
	callers  map[*caller]struct{} // who wait, or whose leaving is still to be noticed
	deadline time.Time            // the latest of the callers', and what is added to it; zero = one of them has none
	timer    *time.Timer
	ended    bool
}

// caller is one who waits.
type caller struct{ ctx context.Context }

// gone reports whether c has given up at now. A context whose time is over ends a moment later, when its timer has run.
func (c *caller) gone(now time.Time) bool {
	d, ok := c.ctx.Deadline()
	return c.ctx.Err() != nil || ok && !now.Before(d)
}

// newRun returns the run of the call with ctx.
func newRun(ctx context.Context, at key, linger time.Duration, usual bool) *run {
	r := &run{at: at, linger: linger, usual: usual, callers: map[*caller]struct{}{}}
	r.Context, r.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	return r
}

type runKey struct{}

// Value implements context.Context.
func (r *run) Value(k any) any {
	if k == (runKey{}) {
		return r
	}
	return r.Context.Value(k)
}

// Current returns the key that the handler with ctx runs under, as one string for all methods and callers, and the fingerprint of its
// request; false if its call has no key.
func Current(ctx context.Context) (key string, request Fingerprint, ok bool) {
	r, ok := ctx.Value(runKey{}).(*run)
	if !ok {
		return "", Fingerprint{}, false
	}
	return r.at.full, r.at.request, true
}

// Deadline implements context.Context: when the last of those who wait now will have given up, and what is added to it.
func (r *run) Deadline() (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.deadline, !r.deadline.IsZero()
}

// join adds a caller, who leaves when the returned function is called or its context ends. It returns nil if the run has ended or been
// given up.
func (r *run) join(ctx context.Context) (leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || r.Err() != nil {
		return nil
	}
	d, ok := ctx.Deadline()
	end := d.Add(r.beyond(d))
	switch {
	case !ok:
		r.deadline = time.Time{}
	case len(r.callers) == 0 && r.deadline.IsZero(), !r.deadline.IsZero() && end.After(r.deadline):
		r.deadline = end
	}
	c := &caller{ctx}
	r.callers[c] = struct{}{}
	if r.timer != nil {
		r.timer.Stop()
	}
	stop := context.AfterFunc(ctx, func() { r.leave(c) })
	return func() {
		if stop() {
			r.leave(c)
		}
	}
}

// beyond is what calls that the handler makes are given beyond a caller's deadline. They need some time more, or an attempt that is given up, and comes back,
// finds them cut off; but where nothing else was asked for not more than the caller had, or calls of a tenth of a second, one below the other, would go on for
// five seconds each.
func (r *run) beyond(deadline time.Time) time.Duration {
	if !r.usual {
		return r.linger
	}
	return min(r.linger, max(time.Until(deadline), 0))
}

// leave takes a caller away. After the last one the run has linger left.
func (r *run) leave(c *caller) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if delete(r.callers, c); len(r.callers) > 0 || r.ended {
		return
	}
	if r.deadline = time.Now().Add(r.linger); r.timer == nil {
		r.timer = time.AfterFunc(r.linger, r.giveUp)
		return
	}
	r.timer.Reset(r.linger)
}

// giveUp ends the context if nobody has come back.
func (r *run) giveUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.callers) == 0 && !r.ended {
		r.cancel(context.DeadlineExceeded)
	}
}

// end says that the handler has returned. It reports whether it had been given up before, and whether nobody waits for it: whoever's time is over does not, noticed
// or not, so that what is kept of a handler that ends with its callers' time is no matter of which goroutine comes first.
func (r *run) end() (givenUp, alone bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	if r.timer != nil {
		r.timer.Stop()
	}
	givenUp = r.Err() != nil
	r.cancel(context.Canceled)
	now := time.Now()
	for c := range r.callers {
		if !c.gone(now) {
			return givenUp, false
		}
	}
	return givenUp, true
}
