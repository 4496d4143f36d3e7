package httppolicy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/hull-go/hull/internal/hop"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// HandlerOptions describes a Handler. Every zero means the default that stands beside it.
type HandlerOptions struct {
	// Call changes what policies are told about a request: Service its host, Method its path, Criticality and PathAttempt as its
	// caller says. Set Hash here for limits per caller. It must not keep either.
	Call func(*http.Request, *policy.Call)
	// MaxTimeout is the longest time that a request gets, whatever its caller says: no limit.
	MaxTimeout time.Duration
	// IgnoreTimeouts: what callers say about deadlines does not count. For callers that are not trusted to mean it.
	IgnoreTimeouts bool
	// Trusted reports whether a request's caller is trusted to say how important it is (hull-criticality), and how often requests made
	// on its behalf are repeated (x-envoy-max-retries) and after what (x-envoy-retry-on): nobody is. The others can make their requests
	// less important, not more. No caller can have repeated what the policies would not.
	Trusted func(*http.Request) bool
	// Refused writes the answer to a request that was not served: 429, 503 or 504 with one line of text. Retry-After is set.
	Refused func(w http.ResponseWriter, r *http.Request, code int, e *status.Error)
	// Logger is told of panics, with their stacks: nobody.
	Logger *slog.Logger
}

// Handler is an http.Handler whose requests go through a pipeline. It is safe for concurrent use. A request holds its place
// until the handler has returned, also if it has panicked, has ended its goroutine or has taken the connection over.
type Handler struct {
	next http.Handler
	p    *policy.Pipeline
	o    HandlerOptions
}

// NewHandler returns a handler that lets next serve what p admits. A pipeline that would serve a request twice is an error.
func NewHandler(next http.Handler, p *policy.Pipeline, o HandlerOptions) (*Handler, error) {
	if next == nil || p == nil {
		return nil, errors.New("httppolicy: a handler to protect and a pipeline are needed: give both")
	}
	switch po := p.Options(); {
	case po.Retries != nil && po.Retries.Attempts() > 1, po.Hedging != nil:
		return nil, fmt.Errorf("httppolicy: pipeline %q retries or hedges: a server must not serve a request twice; leave that to clients", p.Key())
	case o.MaxTimeout < 0:
		return nil, fmt.Errorf("httppolicy: option MaxTimeout is %v: want a positive time, or 0 for no limit", o.MaxTimeout)
	}
	if o.Refused == nil {
		o.Refused = func(w http.ResponseWriter, _ *http.Request, code int, _ *status.Error) {
			http.Error(w, http.StatusText(code), code)
		}
	}
	return &Handler{next: next, p: p, o: o}, nil
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := hop.Read(r.Header.Get, h.o.Trusted != nil && h.o.Trusted(r))
	ctx := hop.With(r.Context(), at)
	left, limited := h.o.MaxTimeout, h.o.MaxTimeout > 0
	if !h.o.IgnoreTimeouts {
		if d, ok := Timeout(r.Header); ok && (!limited || d < left) {
			left, limited = d, true
		}
	}
	if limited {
		if left <= 0 {
			h.refuse(w, r, &status.Error{Code: status.DeadlineExceeded, Kind: status.Expired, Fate: status.NotSent, Message: "dead on arrival"})
			return
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, left)
		defer cancel()
	}
	r = r.WithContext(ctx)
	c := policy.Call{Service: r.Host, Method: r.URL.Path, PathAttempt: at.Attempt, Criticality: at.Criticality}
	if h.o.Call != nil {
		h.o.Call(r, &c)
	}
	at.Criticality = c.Criticality // calls on the request's behalf are as important as it is
	s := serving{h: h, w: w, r: r, rec: recorder{at: at}}
	_, err := h.p.Drive(ctx, c, &s)
	switch {
	case !s.began:
		h.refuse(w, r, status.From(err))
	case s.panicked == nil:
	case s.rec.code == 0 && s.panicked != http.ErrAbortHandler: //nolint:errorlint // panics are compared as net/http does
		http.Error(&s.rec, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	default: // too late for an answer: the connection's end says that this one is not whole
		panic(http.ErrAbortHandler)
	}
}

// refuse answers a request that was not served.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, e *status.Error) {
	code := http.StatusServiceUnavailable
	switch {
	case e.Code == status.DeadlineExceeded:
		code = http.StatusGatewayTimeout
	case e.Kind == status.Cancelled: // nobody is left to read it
	case e.Code == status.ResourceExhausted:
		code = http.StatusTooManyRequests
		w.Header().Set(headerRatelimited, "true")
	default:
		w.Header().Set(headerOverloaded, "true")
	}
	if code != http.StatusGatewayTimeout {
		var after time.Duration
		if e.Refusal != nil {
			after = e.Refusal.RetryAfter
		}
		w.Header().Set("Retry-After", strconv.FormatInt(int64(max(1, math.Ceil(after.Seconds()))), 10))
	}
	h.o.Refused(w, r, code, e)
}

// serving is one request: the policy.Runner of its only attempt.
type serving struct {
	h        *Handler
	w        http.ResponseWriter
	r        *http.Request
	rec      recorder
	began    bool
	panicked any
}

// Run implements policy.Runner.
func (s *serving) Run(ctx context.Context, a policy.Attempt) (err error) {
	s.began = true
	r := s.r
	if d, ok := ctx.Deadline(); a.Deadline != 0 && (!ok || a.Deadline < policy.At(d)) {
		timed, cancel := context.WithDeadlineCause(ctx, a.Deadline.Clock(), policy.ErrAttemptTimeout)
		defer cancel()
		r, ctx = r.WithContext(timed), timed
	}
	s.rec.ResponseWriter = s.w
	defer func() {
		if s.panicked = recover(); s.panicked != nil {
			s.tell()
			err = &status.Error{Code: status.Internal, Kind: status.Panicked}
		}
	}()
	s.h.next.ServeHTTP(s.rec.wrap(), r)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &status.Error{Code: status.DeadlineExceeded, Kind: status.Timeout}
	case ctx.Err() != nil, s.rec.hijacked:
		return &status.Error{Code: status.Canceled, Kind: status.Cancelled} // how long it took says nothing
	case s.rec.code >= 500, s.rec.code == http.StatusTooManyRequests:
		return statusOf(s.rec.code, s.w.Header(), policy.Now().Clock())
	}
	return nil
}

// tell logs a panic. The stack is still that of the panic.
func (s *serving) tell() {
	if s.h.o.Logger != nil && s.panicked != http.ErrAbortHandler { //nolint:errorlint // panics are compared as net/http does
		s.h.o.Logger.LogAttrs(s.r.Context(), slog.LevelError, "handler panicked", slog.String("method", s.r.Method),
			slog.String("path", s.r.URL.Path), slog.Any("panic", s.panicked), slog.String("stack", string(debug.Stack())))
	}
}
