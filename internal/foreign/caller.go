package foreign

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// Caller calls a Handler as its contract demands: late calls do not reach it, and a panic ends only its own call. It is safe for
// concurrent use.
type Caller struct {
	Handler transport.Handler
	// Logger is told of panics; nil = nobody.
	Logger *slog.Logger

	panicked, expired, abandoned atomic.Int64

	mu   sync.Mutex
	n    int           // handlers running
	idle chan struct{} // closed when n becomes 0; nil if nobody waits
}

// CallerCounters are how often something happened since a Caller was made.
type CallerCounters struct {
	// Panicked: handlers that panicked or called runtime.Goexit. Expired and Abandoned: calls that were over before a handler started.
	Panicked, Expired, Abandoned int64
}

// Counters reads the counters.
func (c *Caller) Counters() CallerCounters {
	return CallerCounters{Panicked: c.panicked.Load(), Expired: c.expired.Load(), Abandoned: c.abandoned.Load()}
}

// Unary calls the handler. If that ends its goroutine Unary does not return, and gone is told how to answer instead.
func (c *Caller) Unary(ctx context.Context, in *transport.Incoming, gone func(*status.Error)) (out transport.Outgoing) {
	if e := c.over(ctx, in); e != nil {
		return transport.Outgoing{Status: e}
	}
	c.enter()
	returned := false
	defer func() {
		if !returned {
			c.failed(recover(), in.Method, &out, gone)
		}
		c.leave()
	}()
	out = c.Handler.Unary(ctx, in)
	returned = true
	return out
}

// Stream is Unary for streams.
func (c *Caller) Stream(ctx context.Context, in *transport.Incoming, s transport.ServerStream, gone func(*status.Error)) (out transport.Outgoing) {
	if e := c.over(ctx, in); e != nil {
		return transport.Outgoing{Status: e}
	}
	c.enter()
	returned := false
	defer func() {
		if !returned {
			c.failed(recover(), in.Method, &out, gone)
		}
		c.leave()
	}()
	out = c.Handler.Stream(ctx, in, s)
	returned = true
	return out
}

// Wait waits until no handler runs, or ctx ends.
func (c *Caller) Wait(ctx context.Context) error {
	c.mu.Lock()
	if c.n == 0 {
		c.mu.Unlock()
		return nil
	}
	if c.idle == nil {
		c.idle = make(chan struct{})
	}
	idle := c.idle
	c.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *Caller) enter() {
	c.mu.Lock()
	c.n++
	c.mu.Unlock()
}

func (c *Caller) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n--; c.n == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

// over refuses what nobody waits for any more.
func (c *Caller) over(ctx context.Context, in *transport.Incoming) *status.Error {
	if (in.Deadline != 0 && in.Deadline <= policy.Now()) || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return c.Expire("the deadline had passed before " + in.Method + " was started")
	}
	if ctx.Err() != nil {
		c.abandoned.Add(1)
		return &status.Error{Code: status.Canceled, Kind: status.Cancelled, Fate: status.NotSent,
			Message: "the caller had given up before " + in.Method + " was started"}
	}
	return nil
}

// Expire counts a call whose time was over before a handler started, and gives its error.
func (c *Caller) Expire(message string) *status.Error {
	c.expired.Add(1)
	return &status.Error{Code: status.DeadlineExceeded, Kind: status.Expired, Fate: status.NotSent, Message: message}
}

// panicsLogged is how many panics are logged, and of those after them one in how many.
const panicsLogged = 100

// failed answers for a handler that did not return; cause is nil if it called runtime.Goexit.
func (c *Caller) failed(cause any, method string, out *transport.Outgoing, gone func(*status.Error)) {
	what := "runtime.Goexit"
	if cause != nil {
		what = fmt.Sprint(cause)
	}
	if n := c.panicked.Add(1); c.Logger != nil && (n <= panicsLogged || n%panicsLogged == 0) {
		c.Logger.Error("handler panicked", "method", method, "panic", what, "panics", n, "stack", string(debug.Stack()))
	}
	e := &status.Error{Code: status.Internal, Kind: status.Panicked, Fate: status.Processed, Message: "the handler panicked: " + what}
	*out = transport.Outgoing{Status: e}
	if cause == nil && gone != nil {
		gone(e)
	}
}
