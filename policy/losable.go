package policy

import (
	"context"
	"sync/atomic"
)

// losableContext is the context of an attempt that is cancelled when another one wins. Like attemptContext it makes nothing until somebody
// asks for Done, and is not used again, because the function may keep it.
type losableContext struct {
	context.Context // the call's
	real            atomic.Pointer[causedContext]
	state           atomic.Uint32
}

// causedContext is what a losableContext becomes when somebody asks for Done.
type causedContext struct {
	context.Context
	cancel context.CancelCauseFunc
}

// The states of a losableContext.
const (
	losableLive  uint32 = iota
	losableEnded        // with its attempt
	losableLost         // another attempt won
)

func (c *losableContext) Done() <-chan struct{} { return c.made().Done() }

func (c *losableContext) made() context.Context {
	if r := c.real.Load(); r != nil {
		return r.Context
	}
	r := &causedContext{}
	r.Context, r.cancel = context.WithCancelCause(c.Context)
	if !c.real.CompareAndSwap(nil, r) {
		r.cancel(nil)
		return c.real.Load().Context
	}
	c.tell(r) // the end may have come before there was something to cancel
	return r.Context
}

func (c *losableContext) tell(r *causedContext) {
	switch c.state.Load() {
	case losableEnded:
		r.cancel(nil)
	case losableLost:
		r.cancel(ErrLost)
	}
}

func (c *losableContext) Err() error {
	if r := c.real.Load(); r != nil {
		return r.Err()
	}
	if c.state.Load() != losableLive {
		return c.made().Err() // so that it stays what it is, whatever becomes of the call's
	}
	return c.Context.Err()
}

// Value asks the real context once there is one, for the reasons that attemptContext has.
func (c *losableContext) Value(key any) any {
	if r := c.real.Load(); r != nil {
		return r.Value(key)
	}
	if c.state.Load() == losableLost {
		return c.made().Value(key)
	}
	return c.Context.Value(key)
}

// end ends it with its attempt or, if that has lost, before.
func (c *losableContext) end(state uint32) {
	if !c.state.CompareAndSwap(losableLive, state) {
		return
	}
	if r := c.real.Load(); r != nil {
		c.tell(r)
	}
}
