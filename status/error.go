package status

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Error is the one error type that every Hull call fails with. It is immutable once returned and safe to share.
type Error struct {
	Code    Code
	Message string
	Fate    Fate
	Kind    Kind
	Origin  Origin
	// Pushback is the server's advice on when to come back: positive = not sooner than that, negative = do not retry,
	// zero = said nothing.
	Pushback time.Duration
	// Refusal is set when a policy on this side refused the call.
	Refusal *Refusal
	// Details are google.protobuf.Any messages of the answer, still encoded.
	Details []Detail
	// Cause is what led to the error, or nil. errors.Is and errors.As look through it.
	Cause error
}

// Detail is one encoded google.protobuf.Any.
type Detail struct {
	TypeURL string
	Value   []byte
}

// Refusal explains why a policy did not let a call go.
type Refusal struct {
	// Policy is the policy's name in the pipeline: "breaker", "concurrency", "budget" …
	Policy string
	// Key is what the policy's state belongs to, for instance "greeter/greeter.Greeter/Hello".
	Key string
	// State is the policy's state in one word, for instance "open" or "full".
	State string
	// Reason is one sentence in lower case.
	Reason string
	// RetryAfter is the earliest time from now at which another try can succeed; 0 = not known.
	RetryAfter time.Duration
}

// Error returns one line: what happened, which policy, when to come back, and the cause.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Code.String())
	if e.Kind != Answered {
		b.WriteString(" (" + e.Kind.String() + ")")
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if r := e.Refusal; r != nil && !saidBy(e.Cause, r) {
		b.WriteString(": refused by " + r.Policy)
		if r.Key != "" {
			b.WriteString(" of " + r.Key)
		}
		if r.State != "" {
			b.WriteString(" (" + r.State + ")")
		}
		if r.Reason != "" {
			b.WriteString(": " + r.Reason)
		}
		if r.RetryAfter > 0 {
			b.WriteString("; retry after " + r.RetryAfter.String())
		}
	}
	if e.Cause != nil {
		head, why := b.String(), e.Cause.Error()
		if rest, ok := strings.CutPrefix(why, head); ok && (rest == "" || rest[0] == ':' || rest[0] == ';') {
			return why // it says so itself
		}
		b.WriteString(": " + why)
	}
	return b.String()
}

// saidBy reports whether the text of err already explains r.
func saidBy(err error, r *Refusal) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Refusal == r
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is makes errors.Is(err, context.DeadlineExceeded) and errors.Is(err, context.Canceled) true for the codes that mean
// the same, so that code written against plain contexts keeps working.
func (e *Error) Is(target error) bool {
	switch target {
	case context.DeadlineExceeded:
		return e.Code == DeadlineExceeded
	case context.Canceled:
		return e.Code == Canceled
	}
	return false
}

// Errorf returns an error of the given code with a formatted message; %w sets the cause.
// On a server it is what a handler returns; its fate on the caller's side becomes Processed.
func Errorf(c Code, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	e := &Error{Code: c, Message: err.Error(), Fate: Processed}
	if errors.Unwrap(err) != nil {
		e.Message, e.Cause = "", err
	}
	return e
}

// From returns err as an *Error: itself when it is one or wraps one, context errors with their code, anything else as
// Unknown. It returns nil for nil. A wrapped *Error keeps code, fate, kind, origin and pushback, and its message
// becomes that of the whole chain.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*Error); ok { //nolint:errorlint // the exact type is the fast path; the chain is looked at below
		return e
	}
	if e, ok := errors.AsType[*Error](err); ok {
		c := *e
		c.Cause, c.Message = err, ""
		return &c
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: DeadlineExceeded, Kind: Timeout, Cause: err}
	case errors.Is(err, context.Canceled):
		return &Error{Code: Canceled, Kind: Cancelled, Cause: err}
	}
	return &Error{Code: Unknown, Cause: err, Fate: Processed}
}

// CodeOf returns err's code: OK for nil, Unknown for an error that says nothing else.
func CodeOf(err error) Code {
	if err == nil {
		return OK
	}
	return From(err).Code
}

// FateOf returns what is proved about a failed call; Processed for nil.
func FateOf(err error) Fate {
	if err == nil {
		return Processed
	}
	return From(err).Fate
}
