package policy

import (
	"context"
	"sync/atomic"
	"time"
)

// attemptContext is the context of an attempt. It makes a timer only when somebody asks for Done, and is small, because every
// attempt allocates one: the function may keep it for longer than the attempt lasts.
type attemptContext struct {
	context.Context // the call's
	deadline        Time
	timer           atomic.Pointer[timedContext] // nil until somebody asks for Done
	state           atomic.Uint32
}

// timedContext is what an attemptContext becomes when somebody asks for Done.
type timedContext struct {
	context.Context
	cancel context.CancelFunc
}

// The states of an attemptContext without a timer. What Err has told once does not change any more.
const (
	ctxLive     uint32 = iota
	ctxEnded           // with its attempt, and nobody has asked for Err since
	ctxCanceled        // the same, and somebody has
	ctxExpired
	ctxParent // it ended with the call's
)

func (c *attemptContext) Deadline() (time.Time, bool) {
	if c.deadline == 0 {
		return c.Context.Deadline()
	}
	return c.deadline.Clock(), true
}

func (c *attemptContext) Done() <-chan struct{} {
	if c.deadline == 0 {
		return c.Context.Done()
	}
	return c.timed().Done()
}

func (c *attemptContext) timed() context.Context {
	if t := c.timer.Load(); t != nil {
		return t.Context
	}
	t := &timedContext{}
	err := c.Err() // told before there was a timer
	switch d, ok := c.Context.Deadline(); {
	case !ok || At(d) > c.deadline:
		t.Context, t.cancel = context.WithDeadlineCause(c.Context, c.deadline.Clock(), ErrAttemptTimeout)
	case err == nil: // it is the call's own deadline, and for the call to say why
		t.Context, t.cancel = context.WithCancel(c.Context)
	default:
		t.Context, t.cancel = context.WithDeadline(c.Context, c.deadline.Clock())
	}
	if !c.timer.CompareAndSwap(nil, t) {
		t.cancel()
		return c.timer.Load().Context
	}
	if err != nil || c.state.Load() != ctxLive { // end may have come before there was something to cancel
		t.cancel()
	}
	return t.Context
}

func (c *attemptContext) Err() error {
	if c.deadline == 0 {
		return c.Context.Err()
	}
	for {
		old := c.state.Load()
		switch old {
		case ctxCanceled:
			return context.Canceled
		case ctxExpired:
			return context.DeadlineExceeded
		case ctxParent:
			return c.Context.Err()
		}
		state := ctxLive
		if t := c.timer.Load(); t != nil {
			switch t.Err() {
			case nil:
			case context.DeadlineExceeded: //nolint:errorlint // it is one of two values
				state = ctxExpired
			default:
				state = ctxCanceled
			}
		} else {
			switch {
			case c.Context.Err() != nil:
				state = ctxParent
			case Now() >= c.deadline:
				state = ctxExpired
			case old == ctxEnded:
				state = ctxCanceled
			}
		}
		if state == ctxLive {
			return nil
		}
		c.state.CompareAndSwap(old, state)
	}
}

// Value asks the timed context once there is one, so that contexts derived from this one find their parent in it and need
// no goroutine. One that has told that its time is up needs it too, for context.Cause to find out why.
func (c *attemptContext) Value(key any) any {
	if t := c.timer.Load(); t != nil {
		return t.Value(key)
	}
	if c.state.Load() == ctxExpired {
		return c.timed().Value(key)
	}
	return c.Context.Value(key)
}

// end ends the context with its attempt. Most attempts never asked for Done, so it costs little then.
func (c *attemptContext) end() {
	c.state.CompareAndSwap(ctxLive, ctxEnded)
	if t := c.timer.Load(); t != nil {
		t.cancel()
	}
}
