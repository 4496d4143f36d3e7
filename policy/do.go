package policy

import (
	"context"
	"errors"
	"sync"

	"github.com/hull-go/hull/status"
)

// Do runs fn through p on the caller's goroutine, again where p retries, and returns its value. fn's context ends when the
// attempt's time is up; a function that ignores its context needs Detach. Errors are fn's own, or a *status.Error if a
// policy refused or the time was up.
//
// Unless c says otherwise (one may be given) fn is not idempotent, so only failures that prove that nothing was done are
// repeated.
//
// p may be nil for a function that has its policies inside: then fn runs once, until the deadline of c if there is one.
func Do[T any](ctx context.Context, p *Pipeline, fn func(context.Context) (T, error), c ...Call) (T, error) {
	if p == nil {
		return within(ctx, first(c).Deadline, fn)
	}
	if !p.plain || ctx.Err() != nil {
		f := function[T]{fn: fn, shared: p.opt.Hedging != nil}
		winner, err := p.Drive(ctx, first(c), &f)
		return f.of(winner), err
	}
	var s straight
	defer s.broken()
	if d := s.begin(ctx, p, c); d != nil {
		s.left = true
		f := function[T]{fn: fn}
		winner, err := d.goOn(ctx, &f)
		return f.of(winner), err
	}
	v, err := fn(s.ctx)
	if err == nil {
		s.left = true
		s.succeeded()
		return v, nil
	}
	d := s.failed(ctx, err)
	s.left = true
	f := function[T]{fn: fn, value: v}
	winner, err := d.goOn(ctx, &f)
	return f.of(winner), err
}

// Detach is Do for functions that ignore their context: fn runs on a goroutine of its own, and Detach returns when the time
// is up. What still runs then keeps its place in the concurrency limit until it ends and is counted in
// Snapshot.Abandoned. Its value is lost.
func Detach[T any](ctx context.Context, p *Pipeline, fn func(context.Context) (T, error), c ...Call) (T, error) {
	f := &function[T]{fn: fn, shared: true}
	call := first(c)
	if d, ok := ctx.Deadline(); ok {
		call.Deadline = Earliest(call.Deadline, At(d))
	}
	winner, err := p.driveConcurrent(ctx, call, f, true)
	return f.of(winner), err
}

func first(c []Call) Call {
	if len(c) > 0 {
		return c[0]
	}
	return Call{}
}

// function is the Runner of a plain function. The first attempt's context and value live in it, so that a call that
// needs no second attempt allocates once.
type function[T any] struct {
	fn     func(context.Context) (T, error)
	shared bool // attempts run on several goroutines, or outlive the call
	ctx    attemptContext
	value  T

	mu   sync.Mutex
	more map[int]T // values that are not in value
}

func (f *function[T]) Run(ctx context.Context, a Attempt) error {
	c := &f.ctx
	if a.N > 0 {
		c = new(attemptContext)
	}
	c.Context, c.deadline = ctx, a.Deadline
	defer c.end()
	v, err := f.fn(c)
	if a.N == 0 && !f.shared {
		f.value = v
	} else {
		f.keep(a.N, v)
	}
	return meant(ctx, err, a.Deadline)
}

// keep keeps the value of attempt n, whatever goroutine it ran on.
func (f *function[T]) keep(n int, v T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n == 0 {
		f.value = v
		return
	}
	if f.more == nil {
		f.more = map[int]T{}
	}
	f.more[n] = v
}

// meant is err, as a timeout if it says that an attempt's deadline has passed, and as the end of the call's context if it is the
// cause of that.
func meant(ctx context.Context, err error, deadline Time) error {
	switch {
	case err == nil || isStatus(err):
	case errors.Is(err, context.DeadlineExceeded):
		if deadline != 0 {
			err = &status.Error{Code: status.DeadlineExceeded, Kind: status.Timeout, Cause: err}
		}
	case errors.Is(err, context.Canceled):
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		e := *status.From(ctx.Err())
		e.Cause = err
		err = &e
	}
	return err
}

func isStatus(err error) bool {
	_, ok := errors.AsType[*status.Error](err)
	return ok
}

// of returns the value of the attempt that decided the call.
func (f *function[T]) of(winner int) (v T) {
	if winner < 0 {
		return v
	}
	if winner == 0 && !f.shared {
		return f.value
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if winner == 0 {
		return f.value
	}
	return f.more[winner]
}
