package policy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hull-go/hull/status"
)

// DoElse is Do with a fallback: if the call fails, for whatever reason but the caller's own cancellation, its result is
// that of instead, which is given the error. Where there is more than one way out, or the caller must know which one it got,
// see DoAnswer.
func DoElse[T any](ctx context.Context, p *Pipeline, fn func(context.Context) (T, error), instead func(context.Context, error) (T, error), c ...Call) (T, error) {
	v, err := Do(ctx, p, fn, c...)
	if err == nil || errors.Is(ctx.Err(), context.Canceled) {
		return v, err
	}
	why := err
	if v, err = instead(ctx, why); err == nil {
		p.fellBack("", why)
	}
	return v, err
}

// fellBack counts a call that was answered otherwise, and tells the Observer. p may be nil.
func (p *Pipeline) fellBack(from string, why error) {
	if p == nil {
		return
	}
	p.n.fallbacks.Add(1)
	if o, ok := p.opt.Observer.(FallbackObserver); ok {
		o.Fallback(Now(), from, why)
	}
}

// Alternative is another way to an answer, for when a call has failed.
type Alternative[T any] struct {
	// Name says which way it is in Answer.From and in errors; required.
	Name string
	// Run gets the answer and is given the error of the call. What it calls may have a pipeline of its own: that is failover.
	// It should heed its context, which ends early enough for the alternatives after it.
	Run func(ctx context.Context, why error) (T, error)
	// Needs is the least time in which Run can be of use. So much is kept back for it of what the caller has left, up to half
	// in total for all alternatives, and it is not tried if less is left when its turn comes. 0 or less = it needs no time worth
	// mentioning, as a constant or a look into memory: it is tried even if the deadline has passed.
	Needs time.Duration
	// When reports whether it may take the place of a call that failed with why; nil = unless the failure is an answer that the
	// caller has to see: InvalidArgument, NotFound and their like, Aborted.
	When func(why error) bool

	last lastGood[T]
}

// lastGood is what DoAnswer does for a Stale's alternative: it keeps what succeeds and asks for how old it is.
type lastGood[T any] interface {
	keep(now Time, v T)
	get(now Time) (v T, age time.Duration, err error)
}

// Answer is a value and the way it came.
type Answer[T any] struct {
	Value T
	// From names the alternative that answered; "" = the call itself.
	From string
	// Age is how old a stale value is, 0 for all others.
	Age time.Duration
	// Why is why the answer is degraded: the call's error, joined by those of the alternatives that failed before; nil if
	// it is not.
	Why error
}

// Degraded reports whether the answer came from an alternative.
func (a *Answer[T]) Degraded() bool { return a.Why != nil }

// FallbackError says that neither a call nor its alternatives had an answer. errors.Is and errors.As find every cause, the call's
// own first, so that status.CodeOf is the call's.
type FallbackError struct {
	// Call is why the call failed.
	Call error
	// Tried are the alternatives that were tried, or would have been with more time, in their order.
	Tried []AlternativeError
}

// AlternativeError is why an alternative had no answer.
type AlternativeError struct {
	Name string
	Err  error
}

// ErrNoTime is why an alternative was not tried: less time was left than it needs.
var ErrNoTime = errors.New("policy: not tried, less time is left than it needs")

// Error returns one line with all causes.
func (e *FallbackError) Error() string {
	var b strings.Builder
	b.WriteString(e.Call.Error())
	for _, t := range e.Tried {
		fmt.Fprintf(&b, "; instead %s: %v", t.Name, t.Err)
	}
	return b.String()
}

// Unwrap returns all causes, the call's own first.
func (e *FallbackError) Unwrap() []error {
	all := make([]error, 1, 1+len(e.Tried))
	all[0] = e.Call
	for _, t := range e.Tried {
		all = append(all, t.Err)
	}
	return all
}

// DoAnswer is Do with alternatives, which are tried in order until one has an answer, within what the caller has left. The
// answer says whether it is degraded, from where it came, and why. If all fail the error is a *FallbackError with every
// cause; if none may take the place of the failure, it is the call's own.
//
// Whoever has gone gets no fallback: once ctx is cancelled nothing is tried any more. That a caller's time is up is another
// thing: who asks for a default wants it then above all.
//
// p may be nil for a function that has its policies inside, such as a call of a Hull client.
func DoAnswer[T any](ctx context.Context, p *Pipeline, fn func(context.Context) (T, error), alternatives []Alternative[T], c ...Call) (Answer[T], error) {
	call := first(c)
	if d, ok := ctx.Deadline(); ok {
		call.Deadline = Earliest(call.Deadline, At(d))
	}
	began, deadline := Now(), call.Deadline
	var kept time.Duration
	if deadline != 0 {
		kept = reserve(deadline.Sub(began), alternatives)
		call.Deadline = deadline.Add(-kept)
	}
	var a Answer[T]
	var err error
	if p == nil {
		a.Value, err = within(ctx, call.Deadline, fn)
	} else {
		a.Value, err = Do(ctx, p, fn, call)
	}
	if err == nil {
		for i := range alternatives {
			if l := alternatives[i].last; l != nil {
				l.keep(began, a.Value) // it may be as old as that
			}
		}
		return a, nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return a, err
	}
	instead, err := degrade(ctx, p, deadline, kept, err, alternatives)
	if err != nil {
		return a, err // with the value that the function returned beside its error
	}
	return instead, nil
}

// degrade tries alternatives after the call has failed with why.
func degrade[T any](ctx context.Context, p *Pipeline, deadline Time, kept time.Duration, why error, alternatives []Alternative[T]) (a Answer[T], err error) {
	failed := &FallbackError{Call: why}
	answered := answers(p, why)
	for i := range alternatives {
		alt := &alternatives[i]
		kept -= min(kept, max(alt.Needs, 0))
		if alt.When != nil && !alt.When(why) || alt.When == nil && answered {
			continue
		}
		if a.Value, a.Age, err = alt.try(ctx, deadline, kept, why); err == nil {
			a.From, a.Why = alt.Name, why
			if len(failed.Tried) > 0 {
				a.Why = failed
			}
			p.fellBack(alt.Name, a.Why)
			return a, nil
		}
		failed.Tried = append(failed.Tried, AlternativeError{alt.Name, err})
		if errors.Is(ctx.Err(), context.Canceled) {
			break
		}
	}
	if len(failed.Tried) == 0 {
		return a, why
	}
	return a, failed
}

func (alt *Alternative[T]) try(ctx context.Context, deadline Time, kept time.Duration, why error) (v T, age time.Duration, err error) {
	if alt.last != nil {
		return alt.last.get(Now())
	}
	if alt.Run == nil {
		return v, 0, fmt.Errorf("policy: alternative %q has no function: set Run", alt.Name)
	}
	if deadline != 0 && alt.Needs > 0 && deadline.Sub(Now()) < alt.Needs {
		return v, 0, ErrNoTime
	}
	if deadline != 0 {
		deadline = deadline.Add(-kept)
	}
	v, err = within(ctx, deadline, func(ctx context.Context) (T, error) { return alt.Run(ctx, why) })
	return v, 0, err
}

// within runs fn with a deadline, if there is one.
func within[T any](ctx context.Context, deadline Time, fn func(context.Context) (T, error)) (T, error) {
	if deadline == 0 {
		return fn(ctx)
	}
	ctx, cancel := context.WithDeadline(ctx, deadline.Clock())
	defer cancel()
	return fn(ctx)
}

// reserve is how much of what is left the call leaves to its alternatives.
func reserve[T any](left time.Duration, alternatives []Alternative[T]) (sum time.Duration) {
	most := max(left/2, 0)
	for i := range alternatives {
		sum += min(max(alternatives[i].Needs, 0), most-sum)
	}
	return sum
}

// As makes the status of the whole that of the call, also where an alternative says more.
func (e *FallbackError) As(target any) bool {
	t, ok := target.(**status.Error)
	if ok {
		*t = status.From(e.Call)
	}
	return ok
}

// answers reports whether a failure is an answer that any way to it would give.
func answers(p *Pipeline, err error) bool {
	classify := Classify
	if p != nil {
		classify = p.opt.Classify
	}
	return classify(err).Counts().Breaker == Success
}
