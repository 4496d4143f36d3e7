package policy

import (
	"context"
	"sync"
	"time"
)

// concurrent turns an Exec whose attempts run at the same time, each on a goroutine of its own but the first, which
// stays on the caller's unless the call is detached.
type concurrent struct {
	p   *Pipeline
	ctx context.Context
	r   Runner

	mu      sync.Mutex
	x       Exec
	cancels [MaxAttempts]context.CancelCauseFunc
	timer   *time.Timer
	ended   bool
	panics  *panicError
	done    chan struct{} // closed when the call has its result
}

// driveConcurrent is Drive for hedged and for detached calls.
func (p *Pipeline) driveConcurrent(ctx context.Context, c Call, r Runner, detached bool) (int, error) {
	d := &concurrent{p: p, ctx: ctx, r: r, done: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() {
		d.turn(func(now Time) Steps { return d.x.Cancel(now, Source{}, context.Cause(ctx)) }, false)
	})
	defer stop()
	inline := d.turn(func(now Time) Steps { return d.x.Begin(now, Source{}, p, c, d, detached) }, !detached)
	for inline >= 0 { // the caller's goroutine runs what is to be started while it would only wait
		inline = d.run(inline, true)
	}
	<-d.done
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	if d.panics != nil {
		panic(d.panics)
	}
	winner, _, err := d.x.End()
	var s Story
	p.observe(Now(), &d.x, &s, r)
	return winner, err
}

// Granted implements Waiter. Verdicts come from whoever gave a permit back, which must not wait for us.
func (d *concurrent) Granted(tag uint32, v Verdict) {
	go d.turn(func(now Time) Steps { return d.x.Granted(now, Source{}, tag, v) }, false)
}

// turn gives the machine an event and does what follows. It returns an attempt for the calling goroutine to run if keep
// says that it can, else −1.
func (d *concurrent) turn(event func(now Time) Steps, keep bool) (inline int) {
	inline = -1
	d.mu.Lock()
	now := Now()
	s := event(now)
	for k := range MaxAttempts {
		if s.Cancel.Has(k) && d.cancels[k] != nil {
			d.cancels[k](ErrLost)
		}
	}
	if s.Wake != 0 {
		d.wakeAt(s.Wake.Sub(now))
	}
	if s.Done && !d.ended {
		d.ended = true
		close(d.done)
	}
	d.mu.Unlock()
	d.x.Release(now, Source{}, d.p, s.Release)
	for k := range MaxAttempts {
		if !s.Start.Has(k) {
			continue
		}
		if keep && inline < 0 {
			inline = k
			continue
		}
		go func() {
			for k := k; k >= 0; {
				k = d.run(k, false)
			}
		}()
	}
	return inline
}

func (d *concurrent) wakeAt(after time.Duration) {
	if d.timer != nil {
		d.timer.Reset(after)
		return
	}
	d.timer = time.AfterFunc(after, func() {
		inline := d.turn(func(now Time) Steps { return d.x.Wake(now, Source{}) }, true)
		for inline >= 0 {
			inline = d.run(inline, false)
		}
	})
}

// run performs attempt k and reports its result, whatever happens in it. A panic on the caller's goroutine goes on from
// here; elsewhere it is carried there.
func (d *concurrent) run(k int, callers bool) (next int) {
	ctx, cancel := context.WithCancelCause(d.ctx)
	d.mu.Lock()
	d.cancels[k] = cancel
	a := d.x.Attempt(k)
	lost := d.ended
	d.mu.Unlock()
	if lost {
		cancel(ErrLost)
	}
	var err error
	returned := false
	defer func() {
		if returned {
			return
		}
		if !callers {
			if v := recover(); v != nil {
				d.mu.Lock()
				d.panics = recovered(v)
				d.mu.Unlock()
			}
		}
		cancel(nil)
		next = d.turn(func(now Time) Steps { return d.x.Panicked(now, Source{}, k) }, false)
	}()
	err = d.r.Run(ctx, a)
	returned = true
	cancel(nil)
	return d.turn(func(now Time) Steps { return d.x.Result(now, Source{}, k, err) }, true)
}
