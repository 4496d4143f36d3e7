package httppolicy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// responseBody ends its attempt when it has been read or closed.
type responseBody struct {
	io.ReadCloser
	at *attempt

	mu      sync.Mutex
	over    bool
	opened  *policy.Opened // nil: the attempt has been reported
	outcome *status.Error
}

// writableBody is the body of 101 Switching Protocols.
type writableBody struct {
	*responseBody
	io.Writer
}

// body returns what stands for resp's body, so that the attempt's context lives as long as it.
func (at *attempt) body(resp *http.Response) io.ReadCloser {
	if resp.Body == nil || resp.Body == http.NoBody {
		at.release()
		return http.NoBody
	}
	b := &responseBody{ReadCloser: resp.Body, at: at}
	if w, ok := resp.Body.(io.Writer); ok {
		return writableBody{b, w}
	}
	return b
}

func bodyOf(resp *http.Response) (*responseBody, bool) {
	switch b := resp.Body.(type) {
	case *responseBody:
		return b, true
	case writableBody:
		return b.responseBody, true
	}
	return nil, false
}

// Read implements io.Reader. That the attempt's or the call's time is up is a *status.Error, which is
// context.DeadlineExceeded to errors.Is.
func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch err {
	case nil:
	case io.EOF:
		b.end(nil)
	default:
		e := b.failure(err)
		if e.Kind == status.Timeout {
			err = &timeoutError{e}
		}
		b.end(e)
	}
	return n, err
}

// failure says what an error of the body means.
func (b *responseBody) failure(err error) *status.Error {
	e := &status.Error{Code: status.Unavailable, Kind: status.Reset, Message: "the response broke off", Cause: err}
	switch cause := b.at.cause(); {
	case errors.Is(b.at.parent.Err(), context.Canceled), errors.Is(cause, context.Canceled), errors.Is(cause, policy.ErrLost):
		e.Code, e.Kind = status.Canceled, status.Cancelled
	case cause != nil, timedOut(err):
		e.Code, e.Kind, e.Message = status.DeadlineExceeded, status.Timeout, "the time was up before the response's end"
	}
	return e
}

// Close implements io.Closer. A response that is closed before its end was good enough for its caller.
func (b *responseBody) Close() error {
	err := b.ReadCloser.Close()
	b.end(nil)
	return err
}

// end ends the attempt, once.
func (b *responseBody) end(e *status.Error) {
	b.mu.Lock()
	over, opened := b.over, b.opened
	b.over = true
	if e == nil {
		e = b.outcome
	}
	b.mu.Unlock()
	if over {
		return
	}
	b.at.release()
	if opened != nil {
		b.at.r.ended(opened, e)
	}
}
