package policy

import (
	"context"
	"sync"
	"time"

	"github.com/hull-go/hull/status"
)

// concurrent turns an Exec whose attempts run at the same time, each on a goroutine of its own but the first, which
// stays on the caller's unless the call is detached.
type concurrent struct {
	p     *Pipeline
	ctx   context.Context
	r     Runner
	story Story

	mu        sync.Mutex
	x         Exec
	contexts  [MaxAttempts]*losableContext
	cancelled Set
	timer     *time.Timer // kept for the next call
	armed     bool        // the timer is this call's too
	away      bool        // other goroutines than the caller's have seen this
	ended     bool
	ending    int // the attempt whose result the machine is given, or −1
	panics    *panicError
	done      chan struct{} // closed when the call has its result; made when somebody waits for it
}

// driveConcurrent is Drive for hedged and for detached calls.
func (p *Pipeline) driveConcurrent(ctx context.Context, c Call, r Runner, detached bool) (int, error) {
	d, _ := p.hedged.Get().(*concurrent)
	if d == nil {
		d = &concurrent{p: p}
	}
	d.ctx, d.r, d.away = ctx, r, detached
	over := false
	defer func() { d.left(over) }()
	inline := -1
	if ctx.Err() != nil {
		d.turn(func(now Time) Steps { return d.x.stillborn(now, Source{}, p, c, context.Cause(ctx)) }, false)
	} else {
		inline = d.turn(func(now Time) Steps { return d.x.Begin(now, Source{}, p, c, d, detached) }, !detached)
	}
	for inline >= 0 { // the caller's goroutine runs what is to be started while it would only wait
		inline = d.run(inline, true)
	}
	d.wait()
	d.mu.Lock()
	winner, _, err := d.x.End()
	panics := d.panics
	d.mu.Unlock()
	if panics != nil {
		panic(panics)
	}
	over = true
	return winner, err
}

// wait returns when the call has its result. The caller's own end is one.
func (d *concurrent) wait() {
	d.mu.Lock()
	if d.ended {
		d.mu.Unlock()
		return
	}
	done := make(chan struct{})
	d.done = done
	d.mu.Unlock()
	select {
	case <-done:
	case <-d.ctx.Done():
		d.turn(d.gone, false)
		<-done
	}
}

// gone tells the machine that the caller has gone.
func (d *concurrent) gone(now Time) Steps { return d.x.Cancel(now, Source{}, context.Cause(d.ctx)) }

// left is the last that the caller's goroutine does, also if it panics. It keeps d for another call if nobody else can have a hand in
// it: all attempts ran here, and have ended, and the timer will not go off.
func (d *concurrent) left(over bool) {
	now := Now()
	d.mu.Lock()
	if d.armed && !d.timer.Stop() {
		d.away = true
	}
	class, began := d.x.class, d.x.began
	again := over && !d.away && d.x.Idle()
	d.mu.Unlock()
	if d.p.observed(d.r) && d.p.wanted(now, d.x.Call(), class, now.Sub(began), d.r) {
		d.mu.Lock()
		d.x.Story(now, &d.story)
		d.mu.Unlock()
		d.p.told(now, d.x.Call(), &d.story, d.r)
	}
	if again {
		clear(d.contexts[:d.x.n])
		d.x.Reset()
		d.ctx, d.r = nil, nil
		d.story.forget()
		d.cancelled, d.armed, d.ended, d.done = 0, false, false, nil
		d.p.hedged.Put(d)
	}
}

// Granted implements Waiter. Verdicts come from whoever gave a permit back, which must not wait for us.
func (d *concurrent) Granted(tag uint32, v Verdict) {
	go d.turn(func(now Time) Steps {
		d.away = true
		return d.x.Granted(now, Source{}, tag, v)
	}, false)
}

// turn gives the machine an event and does what follows. It returns an attempt for the calling goroutine to run if keep
// says that it can, else −1.
func (d *concurrent) turn(event func(now Time) Steps, keep bool) (inline int) {
	inline = -1
	s, now := d.step(event)
	for k := range MaxAttempts {
		if !s.Start.Has(k) {
			continue
		}
		if keep && inline < 0 {
			inline = k
			continue
		}
		go d.runs(k)
	}
	d.x.Release(now, Source{}, d.p, s.Release)
	return inline
}

// runs performs attempt k, and those that follow from it.
func (d *concurrent) runs(k int) {
	for k >= 0 {
		k = d.run(k, false)
	}
}

// step gives the machine an event and does what is to be done with the mutex held, also if a policy panics in it or ends the
// goroutine.
func (d *concurrent) step(event func(now Time) Steps) (s Steps, now Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now = Now()
	d.ending = -1
	returned := false
	defer func() {
		if !returned {
			d.wrecked(now, recover())
		}
	}()
	s = event(now)
	returned = true
	d.do(now, s)
	return s, now
}

// do is what is to be done with the mutex held.
func (d *concurrent) do(now Time, s Steps) {
	d.away = d.away || s.Start.Len() > 1
	if s.Cancel != 0 {
		d.cancelled |= s.Cancel
		for k, c := range d.contexts {
			if s.Cancel.Has(k) && c != nil {
				c.end(losableLost)
			}
		}
	}
	if s.Wake != 0 {
		d.wakeAt(s.Wake.Sub(now))
	}
	if s.Done && !d.ended {
		d.ended = true
		if d.done != nil {
			close(d.done)
		}
	}
}

// wrecked ends the call because a policy has panicked with v, or with nil ended the goroutine. The panic goes on where the caller waits.
// Others that panic on the way do not stop it, and what they say is lost.
func (d *concurrent) wrecked(now Time, v any) {
	if !d.ended {
		if v == nil {
			v = "a policy has ended its goroutine"
		}
		d.panics = recovered(v)
	}
	defer func() {
		_ = recover()
		s := d.x.take(now)
		d.do(now, s)
		if s.Release != 0 { // this goroutine may be at its end
			go d.x.Release(now, Source{}, d.p, s.Release)
		}
	}()
	d.x.wreck(now, Source{}, d.ending)
}

func (d *concurrent) wakeAt(after time.Duration) {
	switch {
	case d.timer == nil:
		d.timer = time.AfterFunc(after, d.wake)
	case !d.timer.Reset(after) && d.armed: // it has gone off and may not have been here yet
		d.away = true
	}
	d.armed = true
}

// wake is the timer's.
func (d *concurrent) wake() {
	d.runs(d.turn(func(now Time) Steps {
		d.away = true
		if d.ctx.Err() != nil { // nothing begins for a caller that has gone
			return d.gone(now)
		}
		return d.x.Wake(now, Source{})
	}, true))
}

// run performs attempt k and reports its result, whatever happens in it. A panic on the caller's goroutine goes on from
// here; elsewhere it is carried there, if the caller still waits.
func (d *concurrent) run(k int, callers bool) (next int) {
	ctx := &losableContext{Context: d.ctx}
	d.mu.Lock()
	d.contexts[k] = ctx
	a := d.x.Attempt(k)
	unwanted := d.cancelled.Has(k)
	d.mu.Unlock()
	if unwanted { // the call ended between the decision and here
		return d.turn(func(now Time) Steps { return d.x.Result(now, Source{}, k, errUnwanted) }, true)
	}
	returned := false
	defer func() {
		if returned {
			return
		}
		var panics *panicError
		if !callers {
			if v := recover(); v != nil {
				panics = recovered(v)
			}
		}
		ctx.end(losableEnded)
		next = d.turn(func(now Time) Steps {
			if !d.ended {
				d.panics = panics
			}
			d.ending = k
			return d.x.Panicked(now, Source{}, k)
		}, false)
	}()
	err := d.r.Run(ctx, a)
	returned = true
	ctx.end(losableEnded)
	return d.turn(func(now Time) Steps {
		d.x.forsaken = err != nil && d.ctx.Err() != nil
		d.ending = k
		return d.x.Result(now, Source{}, k, err)
	}, true)
}

var errUnwanted = &status.Error{Code: status.Canceled, Kind: status.Cancelled, Fate: status.NotSent, Cause: ErrLost}
