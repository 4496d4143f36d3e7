package httppolicy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// failure says what an error of the round trip means, and what is proved about it.
func (at *attempt) failure(err error) *status.Error {
	e := &status.Error{Code: status.Unavailable, Kind: status.Reset, Cause: err}
	if at.unsent(err) {
		e.Fate, e.Kind = status.NotSent, status.Unsent
	}
	switch cause := at.cause(); {
	case errors.Is(at.parent.Err(), context.Canceled), errors.Is(cause, context.Canceled), errors.Is(cause, policy.ErrLost):
		e.Code, e.Kind = status.Canceled, status.Cancelled
	case at.bodyErr.Load() != nil:
		e.Code, e.Kind, e.Message = status.Canceled, status.Cancelled, "reading the request's body"
	case cause != nil, timedOut(err) && at.connected.Load():
		e.Code, e.Kind = status.DeadlineExceeded, status.Timeout
	case e.Fate == status.NotSent && at.shook.Load():
		e.Kind = status.Handshake
	case e.Fate == status.NotSent && !at.connected.Load():
		e.Kind = status.Dial
	case refusedStream(err):
		e.Kind, e.Fate = status.Draining, status.NotSent
	}
	if !at.r.rewinds {
		e.Pushback = -1
	}
	return e
}

// cause is why the attempt was given up on this side, or nil. http.Client.Timeout ends a request twice, by its context and by
// Request.Cancel, and which of them comes first is chance.
func (at *attempt) cause() error {
	if err := context.Cause(at.ctx); err != nil {
		return err
	}
	select {
	case <-at.r.req.Cancel: //nolint:staticcheck // http.Client still uses it for transports that it does not know
		if d, ok := at.parent.Deadline(); ok && !time.Now().Before(d) {
			return context.DeadlineExceeded
		}
		return context.Canceled
	default:
		return nil
	}
}

// unsent reports whether it is proved that no whole request header was written. That an event did not come proves it only if
// others came: not every RoundTripper reports them.
func (at *attempt) unsent(err error) bool {
	if at.wrote.Load() {
		return false
	}
	if at.asked.Load() {
		return true
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

func timedOut(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// streamError has the shape of HTTP/2's, which net/http lets itself be read as.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return fmt.Sprintf("stream %d: code %d", e.StreamID, e.Code) }

// refusedStream reports whether an HTTP/2 server says that it has not begun the request.
func refusedStream(err error) bool {
	const refused = 7
	e, ok := errors.AsType[streamError](err)
	return ok && e.Code == refused
}

// tellsOf reports whether err is e or was made of it.
func tellsOf(err error, e *status.Error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if err == error(e) { //nolint:errorlint // each error of the chain is looked at
			return true
		}
	}
	return false
}
