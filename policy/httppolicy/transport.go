package httppolicy

import (
	"errors"
	"net/http"
	"time"

	"github.com/hull-go/hull/internal/hop"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// Options describes a Transport. Every zero means the default that stands beside it.
type Options struct {
	// Pipeline chooses the pipeline of a request, for instance one for each host: the one given to NewTransport. If it returns nil,
	// the request goes without any.
	Pipeline func(*http.Request) *policy.Pipeline
	// Call changes what policies are told about a request: Service its host, Method its HTTP method, idempotence as the
	// package comment says, Criticality and PathAttempt those of the request that it is made for. It must not keep either.
	Call func(*http.Request, *policy.Call)
	// Classify says what a response means: Status. It must not read the body.
	Classify func(*http.Response) *status.Error
	// MaxRetryAfter is the longest time that a server can make a request wait for its next attempt: 5 s. If it asks for more,
	// the caller gets its answer.
	MaxRetryAfter time.Duration
	// UntilHeader: an attempt's own time is for the header of its response; the body has what is left of the call. For downloads
	// and streams.
	UntilHeader bool
	// DeadlineHeader names the header in which servers are told how much time is left: HeaderGRPC. "-" = none.
	DeadlineHeader string
	// NoAttemptCount: do not tell servers the attempt's number (x-envoy-attempt-count).
	NoAttemptCount bool
	// NoCriticality: do not tell servers how important a request is (hull-criticality), if it is not simply critical.
	NoCriticality bool
	// DrainBytes and DrainTime bound how much of the body of a response that is not handed out is read, so that its connection can
	// be used again: 64 KiB and 100 ms. Negative = none.
	DrainBytes int64
	DrainTime  time.Duration
}

// Transport is an http.RoundTripper whose requests go through a pipeline. It is safe for concurrent use.
type Transport struct {
	base http.RoundTripper
	p    *policy.Pipeline
	o    Options
}

// NewTransport returns a transport whose attempts are made by base; nil = http.DefaultTransport. p may be nil if
// Options.Pipeline chooses.
func NewTransport(base http.RoundTripper, p *policy.Pipeline, o Options) *Transport {
	if base == nil {
		base = http.DefaultTransport
	}
	if o.Classify == nil {
		o.Classify = Status
	}
	if o.MaxRetryAfter == 0 {
		o.MaxRetryAfter = 5 * time.Second
	}
	switch o.DeadlineHeader {
	case "":
		o.DeadlineHeader = HeaderGRPC
	case "-":
		o.DeadlineHeader = ""
	}
	if o.DrainBytes == 0 {
		o.DrainBytes = 64 << 10
	}
	if o.DrainTime == 0 {
		o.DrainTime = 100 * time.Millisecond
	}
	return &Transport{base: base, p: p, o: o}
}

// CloseIdleConnections passes http.Client.CloseIdleConnections on.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	p := t.p
	if t.o.Pipeline != nil {
		p = t.o.Pipeline(req)
	}
	if p == nil {
		return t.base.RoundTrip(req)
	}
	r := &roundTrip{t: t, p: p, req: req, rewinds: req.Body == nil || req.Body == http.NoBody || req.GetBody != nil}
	r.call = t.call(req)
	var resp *http.Response
	var err error
	o := p.Options()
	defer r.left() // also if a panic passes
	if o.Hedging != nil && r.call.SideEffectFree && r.call.PathAttempt <= 1 && r.rewinds {
		r.hedged = true
		var winner int
		winner, err = p.Drive(req.Context(), r.call, r)
		resp = r.take(winner)
	} else {
		r.timeouts, r.classify = o.Timeouts, o.Classify
		var opened *policy.Opened
		if opened, err = p.Open(req.Context(), r.call, r); err == nil {
			return r.handOut(opened), nil
		}
		resp = r.answerOf(err)
	}
	if err != nil {
		hop.From(req.Context()).Failed(o.Classify(err))
	}
	if resp != nil && (err == nil || req.Context().Err() == nil) {
		return resp, nil
	}
	if resp != nil {
		r.discard(resp)
	}
	if e, ok := errors.AsType[*status.Error](err); ok && e.Code == status.DeadlineExceeded {
		err = &timeoutError{err}
	}
	return nil, err
}

// call describes a request to policies.
func (t *Transport) call(req *http.Request) policy.Call {
	at := hop.From(req.Context())
	c := policy.Call{Service: req.URL.Host, Method: req.Method, PathAttempt: at.Attempt, Attempts: at.Attempts, Criticality: at.Criticality}
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		c.Idempotent, c.SideEffectFree = true, true
	case http.MethodPut, http.MethodDelete:
		c.Idempotent = true
	}
	if _, ok := req.Header["Idempotency-Key"]; ok {
		c.Idempotent = true
	}
	if t.o.Call != nil {
		t.o.Call(req, &c)
	}
	return c
}

// timeoutError is what net/http's callers expect of a deadline that passed.
type timeoutError struct{ error }

// Timeout makes url.Error.Timeout true.
func (*timeoutError) Timeout() bool { return true }

// Unwrap returns the *status.Error.
func (e *timeoutError) Unwrap() error { return e.error }
