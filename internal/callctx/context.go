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

	// asked is nil as long as the context has not ended and nobody has asked for its end. It is set once, by whoever comes first.
	asked atomic.Pointer[asked]
	mu    sync.Mutex // guards what asked points to
}

// asked is what a context needs only when it has ended or somebody waits for that.
type asked struct {
	err   error         // nil = it has not ended
	done  chan struct{} // nil = only functions wait
	timer *time.Timer
	after []*afterFunc
}

// What most contexts have when they end. Nobody changes them.
var (
	cancelled = &asked{err: context.Canceled, done: closed()}
	expired   = &asked{err: context.DeadlineExceeded, done: closed()}
)

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

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
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checkDeadline()
	a := c.ask()
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
	if c.asked.Load() == nil && (c.deadline == 0 || policy.Now() < c.deadline) { // as of most calls: nobody else has to wait for that
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checkDeadline()
	return c.err()
}

// err is Err with mu held.
func (c *Context) err() error {
	if a := c.asked.Load(); a != nil {
		return a.err
	}
	return nil
}

// ask returns what asked points to, made if need be. mu is held.
func (c *Context) ask() *asked {
	a := c.asked.Load()
	if a == nil {
		if a = new(asked); !c.asked.CompareAndSwap(nil, a) {
			a = c.asked.Load() // it has just ended
		}
	}
	return a
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
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checkDeadline()
	a := c.ask()
	if a.err != nil {
		go f()
		return func() bool { return false }
	}
	after := &afterFunc{f}
	a.after = append(a.after, after)
	c.watchDeadline(a)
	return func() bool { return c.forget(a, after) }
}

// forget reports whether f was still to run, which it then never does.
func (c *Context) forget(a *asked, f *afterFunc) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
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
	if c.asked.Load() == nil && c.asked.CompareAndSwap(nil, ended(err)) { // nobody has asked
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(err)
}

// checkDeadline ends the context if its deadline has passed. mu is held.
func (c *Context) checkDeadline() {
	if c.deadline != 0 && c.err() == nil && policy.Now() >= c.deadline {
		c.end(context.DeadlineExceeded)
	}
}

// watchDeadline sets the timer. mu is held, and somebody has asked.
func (c *Context) watchDeadline(a *asked) {
	if c.deadline != 0 && a.timer == nil {
		a.timer = time.AfterFunc(c.deadline.Sub(policy.Now()), func() { c.Cancel(context.DeadlineExceeded) })
	}
}

// ended is what a context has that has ended before anybody asked.
func ended(err error) *asked {
	if err == context.Canceled { //nolint:errorlint // what wraps it is kept
		return cancelled
	}
	if err == context.DeadlineExceeded { //nolint:errorlint // the same
		return expired
	}
	return &asked{err: err}
}

// end ends the context with mu held. What hangs on it runs on goroutines of its own, as the context package promises.
func (c *Context) end(err error) {
	if c.asked.Load() == nil && c.asked.CompareAndSwap(nil, ended(err)) {
		return
	}
	a := c.asked.Load()
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
