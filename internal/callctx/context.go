// Package callctx is the context of a call that is being served, and of a stream on both sides. It costs one allocation,
// and none if it lies inside what its owner allocates anyway: the channel and the timer exist only once somebody asks for
// Done.
package callctx

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
)

// Valuer is where a Context's values come from; a context.Context is one.
type Valuer interface {
	// Value is context.Context's.
	Value(key any) any
}

// Context is a context.Context that somebody else ends, or its deadline. The zero value has neither deadline nor values and
// is ready for use. It is safe for concurrent use and must not be copied. It implements the AfterFunc that the context
// package looks for, so that contexts derived from it need no goroutine.
type Context struct {
	values   Valuer
	deadline policy.Time

	state atomic.Uint32
	asked atomic.Pointer[asked] // what those have who asked for the end; set once, before the state is watched
}

// The states. A context that has ended before anybody asked needs no more than that; of one that is watched the rest is in asked.
const (
	open uint32 = iota
	cancelled
	expired
	watched
)

// asked is what a context needs only when somebody waits for its end.
type asked struct {
	mu    sync.Mutex
	err   error         // nil = it has not ended
	done  chan struct{} // nil = only functions wait
	timer *time.Timer
	after []*afterFunc
}

// over is the Done of contexts that have ended before anybody asked for it.
var over = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

type afterFunc struct{ f func() }

// New returns a context with a deadline (0 = none) and values (nil = none).
func New(deadline policy.Time, values Valuer) *Context {
	return &Context{deadline: deadline, values: values}
}

// Init gives a context of the zero value its deadline and values. It must be called before anybody else knows the context.
func (c *Context) Init(deadline policy.Time, values Valuer) { c.deadline, c.values = deadline, values }

// Values returns what New or Init was given, nil if nothing was.
func (c *Context) Values() Valuer { return c.values }

// Until returns the deadline; 0 = none.
func (c *Context) Until() policy.Time { return c.deadline }

// Deadline implements context.Context.
func (c *Context) Deadline() (time.Time, bool) { return c.deadline.Clock(), c.deadline != 0 }

// Done implements context.Context.
func (c *Context) Done() <-chan struct{} {
	c.checkDeadline()
	a := c.ask()
	if a == nil {
		return over
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done == nil {
		a.done = make(chan struct{})
		if a.err != nil {
			close(a.done)
		} else {
			c.watchDeadline(a)
		}
	}
	return a.done
}

// Err implements context.Context.
func (c *Context) Err() error {
	if c.state.Load() == open && (c.deadline == 0 || policy.Now() < c.deadline) { // as of most calls
		return nil
	}
	return c.why()
}

// why is Err of a context that is watched or has ended.
func (c *Context) why() error {
	c.checkDeadline()
	switch c.state.Load() {
	case cancelled:
		return context.Canceled
	case expired:
		return context.DeadlineExceeded
	}
	a := c.asked.Load()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// ask has the context watched, and returns what those who watch it have; nil if it has ended before anybody did.
func (c *Context) ask() *asked {
	a := c.asked.Load()
	if a == nil {
		if a = new(asked); !c.asked.CompareAndSwap(nil, a) {
			a = c.asked.Load() // somebody else was first
		}
	}
	if c.state.CompareAndSwap(open, watched) || c.state.Load() == watched {
		return a
	}
	return nil
}

// Value implements context.Context.
func (c *Context) Value(key any) any {
	if c.values == nil {
		return nil
	}
	return c.values.Value(key)
}

// AfterFunc is what context.AfterFunc and context.WithCancel use in place of a goroutine.
func (c *Context) AfterFunc(f func()) (stop func() bool) {
	c.checkDeadline()
	a := c.ask()
	if a == nil {
		return soon(f)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return soon(f)
	}
	after := &afterFunc{f}
	a.after = append(a.after, after)
	c.watchDeadline(a)
	return func() bool { return a.forget(after) }
}

// soon runs f, whose time has come.
func soon(f func()) (stop func() bool) {
	go f()
	return func() bool { return false }
}

// forget reports whether f was still to run, which it then never does.
func (a *asked) forget(f *afterFunc) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.after {
		if a.after[i] == f {
			last := len(a.after) - 1
			a.after[i], a.after[last] = a.after[last], nil
			a.after = a.after[:last]
			return true
		}
	}
	return false
}

// Cancel ends the context with err. Only the first end counts.
func (c *Context) Cancel(err error) {
	early := open
	switch err { //nolint:errorlint // what wraps them is kept
	case context.Canceled:
		early = cancelled
	case context.DeadlineExceeded:
		early = expired
	}
	if early != open && c.state.CompareAndSwap(open, early) { // nobody has asked
		return
	}
	if a := c.ask(); a != nil {
		a.end(err)
	}
}

// End is Cancel(context.Canceled), as of calls whose handler has returned.
func (c *Context) End() {
	if !c.state.CompareAndSwap(open, cancelled) { // somebody has asked, as few do
		c.Cancel(context.Canceled)
	}
}

// checkDeadline ends the context if its deadline has passed.
func (c *Context) checkDeadline() {
	if c.deadline == 0 || policy.Now() < c.deadline || c.state.CompareAndSwap(open, expired) {
		return
	}
	if c.state.Load() == watched {
		c.asked.Load().end(context.DeadlineExceeded)
	}
}

// watchDeadline sets the timer. a's mu is held.
func (c *Context) watchDeadline(a *asked) {
	if c.deadline != 0 && a.timer == nil {
		a.timer = time.AfterFunc(c.deadline.Sub(policy.Now()), func() { c.Cancel(context.DeadlineExceeded) })
	}
}

// end ends a context that is watched. What hangs on it runs on goroutines of its own, as the context package promises.
func (a *asked) end(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return
	}
	a.err = err
	if a.timer != nil {
		a.timer.Stop()
	}
	if a.done != nil {
		close(a.done)
	}
	for _, f := range a.after {
		go f.f()
	}
	a.after = nil
}
