package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hull-go/hull/demo"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/status"
)

// What the program exits with. ExitCodes says it in words.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitNotFound    = 3
	ExitUnavailable = 4
	ExitDeadline    = 5
	ExitInterrupted = 130
)

// ExitCode is one row of the documentation.
type ExitCode struct {
	Code    int
	Meaning string
}

// ExitCodes are all exit codes, in order.
func ExitCodes() []ExitCode {
	return []ExitCode{
		{ExitOK, "done; for `watch` and `demo` also when they are interrupted, which is how they end"},
		{ExitFailed, "the service answered with an error, no node is healthy, a document was taken back, or the demo's check broke a promise"},
		{ExitUsage, "wrong arguments, flags, environment or JSON; nothing was sent"},
		{ExitNotFound, "discovery knows no such service, or the service has no such method"},
		{ExitUnavailable, "no node could be reached or would take the call, or the registry does not work"},
		{ExitDeadline, "the time was up"},
		{ExitInterrupted, "interrupted before it was done"},
	}
}

// usageError is a mistake in how the program was called.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// notFoundError is a name that does not exist, other than a service's.
type notFoundError struct{ msg string }

func (e *notFoundError) Error() string { return e.msg }

// registryError is a registry that does not work.
type registryError struct{ err error }

func (e *registryError) Error() string { return "the registry: " + e.err.Error() }
func (e *registryError) Unwrap() error { return e.err }

// exitCode says of which kind an error is.
func exitCode(ctx context.Context, err error) int {
	if _, ok := errors.AsType[*usageError](err); ok {
		return ExitUsage
	}
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, ctx.Err())) {
		return ExitInterrupted
	}
	if _, ok := errors.AsType[*registry.NotFoundError](err); ok {
		return ExitNotFound
	}
	if _, ok := errors.AsType[*notFoundError](err); ok {
		return ExitNotFound
	}
	if errors.Is(err, demo.ErrBroken) {
		return ExitFailed
	}
	if e, ok := errors.AsType[*status.Error](err); ok {
		return exitCodeOfCall(e)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return ExitDeadline
	}
	if _, ok := errors.AsType[*registryError](err); ok {
		return ExitUnavailable
	}
	return ExitFailed
}

// exitCodeOfCall says of which kind a failed call is.
func exitCodeOfCall(e *status.Error) int {
	switch {
	case e.Kind == status.NoMethod:
		return ExitNotFound
	case e.Code == status.DeadlineExceeded:
		return ExitDeadline
	case e.Code == status.Unavailable, e.Kind == status.Refused:
		return ExitUnavailable
	}
	return ExitFailed
}

// failure is an error as -o json prints it on standard error.
type failure struct {
	Message string `json:"message" doc:"what people read"`
	Exit    int    `json:"exit" doc:"the exit code"`
	Code    string `json:"code,omitempty" doc:"the status code of a call that failed, such as NotFound"`
	Kind    string `json:"kind,omitempty" doc:"how it failed, such as dial, timeout or answered"`
	Fate    string `json:"fate,omitempty" doc:"whether the request was processed: not-sent, processed or maybe"`
	Policy  string `json:"policy,omitempty" doc:"the policy that refused the call, such as breaker"`
	RetryMS int64  `json:"retryAfterMs,omitempty" doc:"when another try can succeed, in milliseconds from now"`
}

// asksJSON reports whether errors are for programs. Flags behind one that is wrong have not been read, so that the
// arguments themselves are looked at too.
func (p *program) asksJSON() bool {
	for i, a := range p.args {
		switch a {
		case "-o" + outputJSON, "-o=" + outputJSON, "--" + setOutput + "=" + outputJSON:
			return true
		case "-o", "--" + setOutput:
			if i+1 < len(p.args) {
				return p.args[i+1] == outputJSON
			}
		}
	}
	return p.ran != nil && p.wantsJSON(p.ran)
}

// report prints an error the way the user asked for.
func (p *program) report(err error, code int) {
	if p.asksJSON() {
		f := failure{Message: err.Error(), Exit: code}
		if e, ok := errors.AsType[*status.Error](err); ok {
			f.Code, f.Kind, f.Fate, f.RetryMS = e.Code.String(), e.Kind.String(), e.Fate.String(), e.Pushback.Milliseconds()
			if e.Refusal != nil {
				f.Policy, f.RetryMS = e.Refusal.Policy, e.Refusal.RetryAfter.Milliseconds()
			}
		}
		enc := json.NewEncoder(p.Stderr)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(struct { // nobody is left to tell
			Error failure `json:"error"`
		}{f})
		return
	}
	if code == ExitInterrupted {
		p.note("interrupted")
		return
	}
	p.note("%s", plain(err.Error()))
	if code == ExitUsage && p.ran != nil {
		fmt.Fprintf(p.Stderr, "See: %s --help\n", p.ran.CommandPath())
	}
}
