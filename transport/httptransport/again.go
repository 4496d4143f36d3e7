package httptransport

import (
	"context"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// A server may end a network connection for the sake of the one call that it carries, as net/http does when a handler panics, and it may close one that is
// idle. Neither says anything about the next call, and so the Conn lives on. But the server may also be gone, or another one may have come in its place:
// when it has closed the last connection it is looked at again, as when the Conn was made, before anything else is sent to it. Only if that
// fails is the Conn lost.

// look is one attempt to find out whether the server is still there.
type look struct {
	done chan struct{}
	err  *status.Error // set before done is closed
}

// lookPause is the least time between two looks that no call waits for: a server that closes one connection after the other is not stormed.
const lookPause = 100 * time.Millisecond

// doubt has the server looked at: now, if that has not just been done, and before the next call in any case.
func (c *conn) doubt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doubtful.Store(true)
	if policy.Now().Sub(c.looked) >= lookPause {
		c.lookLocked()
	}
}

// await waits until the server has been looked at.
func (c *conn) await(ctx context.Context) *status.Error {
	c.mu.Lock()
	if !c.doubtful.Load() {
		c.mu.Unlock()
		return nil
	}
	l := c.lookLocked()
	c.mu.Unlock()
	select {
	case <-l.done:
		return l.err
	case <-ctx.Done():
		return gaveUp(ctx.Err())
	}
}

// lookLocked returns the look that is under way, beginning one if there is none.
func (c *conn) lookLocked() *look {
	if c.looking == nil {
		c.looking = &look{done: make(chan struct{})}
		c.looked = policy.Now()
		go c.look(c.looking)
	}
	return c.looking
}

// anew forgets how connections ended.
func (c *conn) anew() {
	c.broken.Store(false)
	c.parting.Store(false)
}

// look makes one more connection, as Dial or Prove did.
func (c *conn) look(l *look) {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	var e *status.Error
	if c.proves {
		e = c.prove(ctx)
	} else if nc, raw, err := c.open(ctx); err != nil {
		e = err
	} else {
		c.anew()
		c.keep(nc, raw)
	}
	if e != nil {
		c.lose()
	}
	c.mu.Lock()
	c.looking, l.err = nil, e
	if e == nil {
		c.doubtful.Store(false)
	}
	c.mu.Unlock()
	close(l.done)
	c.settle()
}
