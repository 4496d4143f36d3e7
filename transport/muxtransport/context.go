package muxtransport

import (
	"context"
	"sync"
	"time"

	"github.com/hull-go/hull/policy"
)

// callContext is the context of a call on its server, and of a stream on both sides. It costs one allocation: the
// channel and the timer exist only once somebody asks for Done. It implements the AfterFunc that the context package
// looks for, so that contexts derived from it need no goroutine.
type callContext struct {
	values   context.Context // for Value; may be nil
	deadline policy.Time

	mu    sync.Mutex
	err   error
	done  chan struct{}
	timer *time.Timer
	after []*afterFunc
}

type afterFunc struct{ f func() }

// Deadline implements context.Context.
func (c *callContext) Deadline() (time.Time, bool) { return c.deadline.Clock(), c.deadline != 0 }

// Done implements context.Context.
func (c *callContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		if c.expired() {
			c.end(context.DeadlineExceeded)
		}
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		} else {
			c.watchDeadline()
		}
	}
	return c.done
}

// Err implements context.Context.
func (c *callContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && c.expired() {
		c.end(context.DeadlineExceeded)
	}
	return c.err
}

// Value implements context.Context.
func (c *callContext) Value(key any) any {
	if c.values == nil {
		return nil
	}
	return c.values.Value(key)
}

// AfterFunc is what context.AfterFunc and context.WithCancel use in place of a goroutine.
func (c *callContext) AfterFunc(f func()) (stop func() bool) {
	a := &afterFunc{f}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && c.expired() {
		c.end(context.DeadlineExceeded)
	}
	if c.err != nil {
		go f()
		return func() bool { return false }
	}
	c.after = append(c.after, a)
	c.watchDeadline()
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i := range c.after {
			if c.after[i] == a {
				last := len(c.after) - 1
				c.after[i], c.after[last] = c.after[last], nil
				c.after = c.after[:last]
				return true
			}
		}
		return false
	}
}

func (c *callContext) expired() bool { return c.deadline != 0 && policy.Now() >= c.deadline }

func (c *callContext) watchDeadline() {
	if c.deadline != 0 && c.timer == nil {
		c.timer = time.AfterFunc(c.deadline.Sub(policy.Now()), func() { c.cancel(context.DeadlineExceeded) })
	}
}

// cancel ends the context, once.
func (c *callContext) cancel(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(err)
}

// end ends the context with mu held. What hangs on it runs on goroutines of its own, as the context package promises.
func (c *callContext) end(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.done != nil {
		close(c.done)
	}
	for _, a := range c.after {
		go a.f()
	}
	c.after = nil
}
