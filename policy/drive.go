package policy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"
)

// Causes of the end of an attempt's context, for context.Cause. They are context.DeadlineExceeded and context.Canceled too, so that
// a function may return either the cause or the context's error.
var (
	// ErrAttemptTimeout: the attempt took longer than it was given; the call may go on with another.
	ErrAttemptTimeout = fmt.Errorf("policy: the attempt took too long: %w", context.DeadlineExceeded)
	// ErrLost: another attempt of the same call has answered, or the call has ended otherwise.
	ErrLost = fmt.Errorf("policy: the result is no longer wanted: %w", context.Canceled)
)

// Runner performs the attempts of one call for Drive. A Runner that is an Observer is told what its own call came to.
type Runner interface {
	// Run performs an attempt and returns its error. It must end soon after a.Deadline and after ctx ends. It is called on
	// several goroutines at once if the call is hedged.
	Run(ctx context.Context, a Attempt) error
}

// Drive runs one call through p in real time: the executor for everything that is not a simulation. The first attempt
// runs on the caller's goroutine; unless the call is hedged or has to wait, no goroutine, timer or channel is made.
// It returns the number of the attempt whose result is the call's, or −1, and the call's error, always a *status.Error or
// what Run returned. A panic in Run passes through, after every permit has been given back.
//
// c.Deadline is tightened by ctx's.
func (p *Pipeline) Drive(ctx context.Context, c Call, r Runner) (winner int, err error) {
	l, ok := p.lanes.Get().(*Lane)
	if !ok {
		l = new(Lane)
	}
	l.c = c
	winner, err = p.DriveIn(ctx, Now(), l, r)
	p.lanes.Put(l)
	return winner, err
}

// driveOther is Drive for a call that cannot go straight.
func (p *Pipeline) driveOther(ctx context.Context, c *Call, r Runner) (winner int, err error) {
	if p.Concurrent(c) {
		return p.driveConcurrent(ctx, *c, r, false)
	}
	d := p.get()
	winner, err = d.plain(ctx, *c, r, false)
	p.put(d)
	return winner, err
}

// Concurrent reports whether Drive may run attempts of c at the same time, so that its Runner must not share anything between them.
func (p *Pipeline) Concurrent(c *Call) bool {
	return p.opt.Hedging != nil && c.SideEffectFree && c.PathAttempt <= 1
}

func (p *Pipeline) get() *drive {
	if d, ok := p.pool.Get().(*drive); ok {
		return d
	}
	return &drive{p: p}
}

// put keeps d for another call, unless a panic left something of it behind.
func (p *Pipeline) put(d *drive) {
	if d.x.Idle() && len(d.grants) == 0 {
		d.x.Reset()
		d.story.forget()
		p.pool.Put(d)
	}
}

// Source is the randomness of executors: the runtime's own, safe for concurrent use.
type Source struct{}

// Uint64 implements rand.Source.
func (Source) Uint64() uint64 { return rand.Uint64() }

// drive turns an Exec on the caller's goroutine, one attempt at a time.
type drive struct {
	p     *Pipeline
	x     Exec
	story Story

	// A straight call that became an Exec: where it stands.
	steps Steps
	now   Time

	mu     sync.Mutex
	grants []grant
	bell   chan struct{} // made when somebody waits for grants
}

type grant struct {
	tag uint32
	v   Verdict
}

// Granted implements Waiter.
func (d *drive) Granted(tag uint32, v Verdict) {
	d.mu.Lock()
	d.grants = append(d.grants, grant{tag, v})
	bell := d.bell
	d.bell = nil
	d.mu.Unlock()
	if bell != nil {
		close(bell)
	}
}

// granted reports whether a verdict is there, or what is closed when one comes.
func (d *drive) granted() (bool, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.grants) > 0 {
		return true, nil
	}
	if d.bell == nil {
		d.bell = make(chan struct{})
	}
	return false, d.bell
}

// grant takes the first of the verdicts that are there.
func (d *drive) grant() grant {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.grants[0]
	d.grants = d.grants[:copy(d.grants, d.grants[1:])]
	return g
}

// plain runs the call. Steps never start two attempts at once here: without hedging, one attempt follows the other.
// With open it returns as soon as an attempt has succeeded, before its result is reported.
func (d *drive) plain(ctx context.Context, c Call, r Runner, open bool) (int, error) {
	over := false
	defer func() {
		if !over {
			d.broken(r)
		}
	}()
	now := Now()
	d.x.alone = true
	var s Steps
	if ctx.Err() != nil {
		s = d.x.stillborn(now, Source{}, d.p, c, context.Cause(ctx))
	} else {
		s = d.x.Begin(now, Source{}, d.p, c, d, false)
	}
	k, err := d.turn(ctx, r, s, now, open)
	over = true
	return k, err
}

// broken ends a call in which a policy has panicked, unless that has been seen to.
func (d *drive) broken(r Runner) {
	if d.x.broken() {
		d.wrecked(r, -1)
	}
}

// wrecked ends a call in which attempt k, or with −1 a policy, has panicked. Whatever else panics on the way, nothing stays held.
func (d *drive) wrecked(r Runner, k int) {
	now := Now()
	defer d.p.observe(now, &d.x, &d.story, r)
	defer func() {
		d.p.release(now, Source{}, d.x.take(now).Release)
		if d.x.late || d.x.unpaid != 0 {
			d.collect()
		}
	}()
	d.x.wreck(now, Source{}, k)
}

// turn does what the steps say, until the call has its result.
func (d *drive) turn(ctx context.Context, r Runner, s Steps, now Time, open bool) (int, error) {
	var wake Time
	for {
		if s.Wake != 0 {
			wake = s.Wake
		}
		if s.Release != 0 {
			d.p.release(now, Source{}, s.Release)
		}
		switch {
		case s.Done:
			if !d.x.Idle() { // a verdict is on its way to a call that has ended; it is handed out already
				d.collect()
			}
			winner, _, err := d.x.End()
			d.p.observe(now, &d.x, &d.story, r)
			return winner, err
		case s.Start != 0:
			k := 0
			for !s.Start.Has(k) {
				k++
			}
			var began bool
			if s, now, began = d.attempt(ctx, r, k, open); began {
				return k, nil
			}
		default:
			s, now = d.wait(ctx, &wake)
		}
	}
}

// collect takes the verdicts that are still to arrive. Whoever gave them has only to finish a function call.
func (d *drive) collect() {
	for !d.x.Idle() {
		if ok, bell := d.granted(); !ok {
			<-bell
		}
		g, now := d.grant(), Now()
		s := d.x.Granted(now, Source{}, g.tag, g.v)
		d.p.release(now, Source{}, s.Release)
	}
}

// attempt runs attempt k. Its result is reported also when Run panics or calls runtime.Goexit. now is when it ended.
func (d *drive) attempt(ctx context.Context, r Runner, k int, open bool) (s Steps, now Time, began bool) {
	returned := false
	defer func() {
		if !returned {
			d.wrecked(r, k)
		}
	}()
	err := r.Run(ctx, d.x.Attempt(k))
	if open && err == nil {
		returned = true
		return Steps{}, 0, true
	}
	d.x.forsaken = err != nil && ctx.Err() != nil
	now = Now()
	s = d.x.Result(now, Source{}, k, err)
	returned = true // not before: the user's own Classify may panic
	return s, now, false
}

// wait passes the time until wake, a verdict, or the end of ctx. If several are there, the end of ctx comes first: nothing
// begins for a caller that is gone.
func (d *drive) wait(ctx context.Context, wake *Time) (Steps, Time) {
	granted, bell := d.granted()
	if !granted {
		var timeout <-chan time.Time
		if *wake != 0 {
			t := time.NewTimer(wake.Sub(Now()))
			defer t.Stop()
			timeout = t.C
		}
		select {
		case <-bell:
			granted = true
		case <-timeout:
		case <-ctx.Done():
		}
	}
	now := Now()
	switch {
	case ctx.Err() != nil:
		return d.x.Cancel(now, Source{}, context.Cause(ctx)), now
	case granted:
		g := d.grant()
		return d.x.Granted(now, Source{}, g.tag, g.v), now
	}
	now, *wake = max(now, *wake), 0
	return d.x.Wake(now, Source{}), now
}

// observe tells the pipeline's Observer, and the Runner if it is one itself.
func (p *Pipeline) observe(now Time, x *Exec, s *Story, r Runner) {
	if p.observed(r) && p.wanted(now, x.Call(), x.class, now.Sub(x.began), r) {
		x.Story(now, s)
		p.told(now, x.Call(), s, r)
	}
}

func (p *Pipeline) observed(r Runner) bool {
	_, own := r.(Observer)
	return own || p.opt.Observer != nil
}

// wanted reports whether somebody wants to hear of the call that has ended.
func (p *Pipeline) wanted(now Time, c *Call, class Class, took time.Duration, r Runner) bool {
	if p.selective == nil {
		return true
	}
	_, own := r.(Observer)
	return own || p.selective.Wants(now, c, class, took)
}

func (p *Pipeline) told(now Time, c *Call, s *Story, r Runner) {
	if p.opt.Observer != nil {
		p.opt.Observer.Call(now, c, s)
	}
	if own, ok := r.(Observer); ok {
		own.Call(now, c, s)
	}
}

// panicError carries a panic from an attempt's goroutine to the caller's.
type panicError struct {
	value any
	stack []byte
}

func (p *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", p.value, p.stack) }

func recovered(v any) *panicError { return &panicError{v, debug.Stack()} }
