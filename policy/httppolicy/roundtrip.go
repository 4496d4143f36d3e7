package httppolicy

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/internal/hop"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// roundTrip is one call: the policy.Runner of its attempts.
type roundTrip struct {
	t               *Transport
	p               *policy.Pipeline
	req             *http.Request
	call            policy.Call
	rewinds, hedged bool
	timeouts        policy.Timeouts
	classify        func(error) policy.Class

	mu        sync.Mutex
	bodyTaken bool // an attempt has the request's own body
	over      bool // the call has ended: responses that come now are nobody's
	answers   []answer
}

// answer is a response that may become the call's.
type answer struct {
	n    int
	resp *http.Response
	err  *status.Error
}

// Run implements policy.Runner. A response that is no failure ends a plain call's search with nil: its attempt then goes on until
// the body's end.
func (r *roundTrip) Run(ctx context.Context, a policy.Attempt) error {
	if !r.hedged {
		r.discardAll() // the attempt before this one
	}
	at := &attempt{r: r, a: a, parent: r.req.Context()}
	at.begin()
	stop := func() bool { return true }
	if r.hedged {
		stop = context.AfterFunc(ctx, func() { at.cancel(context.Cause(ctx)) })
	}
	req, err := at.request()
	if err != nil {
		at.release()
		return &status.Error{Code: status.Internal, Kind: status.Unsent, Fate: status.NotSent, Pushback: -1, Message: "rewinding the request's body", Cause: err}
	}
	returned := false
	defer func() {
		if !returned {
			at.release()
		}
	}()
	resp, err := r.t.base.RoundTrip(req)
	returned = true
	wanted := stop()
	if err != nil {
		e := hop.From(r.req.Context()).Narrow(at.failure(err))
		at.release()
		return e
	}
	if r.hedged || r.t.o.UntilHeader {
		at.untimed()
	}
	e := hop.From(r.req.Context()).Narrow(r.t.o.Classify(resp))
	resp.Body = at.body(resp)
	if e != nil {
		if e.Pushback > r.t.o.MaxRetryAfter || !r.rewinds {
			c := *e
			c.Pushback = -1
			e = &c
		}
	}
	if !wanted || !r.keep(answer{a.N, resp, e}) {
		r.discard(resp)
		return &status.Error{Code: status.Canceled, Kind: status.Cancelled, Cause: policy.ErrLost}
	}
	if e == nil || !r.hedged && handsOut(e) {
		return nil
	}
	return e
}

// handsOut reports whether a response is the call's result whatever the policies say.
func handsOut(e *status.Error) bool {
	return e.Kind == status.Answered && policy.Classify(e) == policy.ClassCaller
}

func (r *roundTrip) keep(a answer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return false
	}
	r.answers = append(r.answers, a)
	return true
}

// end says that no further response is wanted, and returns those that are there.
func (r *roundTrip) end() []answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	as := r.answers
	r.answers = nil
	return as
}

// take returns the winner's response, or nil, and drops the others, which the winner does not wait for: a goroutine does, for
// DrainTime at most.
func (r *roundTrip) take(winner int) (resp *http.Response) {
	for _, a := range r.end() {
		if a.n == winner {
			resp = a.resp
			continue
		}
		go r.discard(a.resp)
	}
	return resp
}

// answerOf returns the response that err tells of, or nil.
func (r *roundTrip) answerOf(err error) (resp *http.Response) {
	for _, a := range r.end() {
		if resp == nil && a.err != nil && tellsOf(err, a.err) {
			resp = a.resp
			continue
		}
		r.discard(a.resp)
	}
	return resp
}

// handOut gives the response of the attempt that began to the caller; the attempt ends with the body.
func (r *roundTrip) handOut(o *policy.Opened) *http.Response {
	a := r.end()[0]
	if r.t.o.UntilHeader {
		r.timed(o.Attempt(), nil)
	}
	b, ok := bodyOf(a.resp)
	if !ok { // nothing to read
		r.ended(o, a.err)
		return a.resp
	}
	b.mu.Lock()
	b.opened, b.outcome = o, a.err
	b.mu.Unlock()
	return a.resp
}

// ended reports the end of the attempt that was opened.
func (r *roundTrip) ended(o *policy.Opened, e *status.Error) {
	var err error
	if e != nil {
		err = e
		hop.From(r.req.Context()).Failed(r.classify(e))
	}
	if !r.t.o.UntilHeader {
		r.timed(o.Attempt(), err)
	}
	o.End(err)
}

// timed records how long an attempt took that was opened: for the executor that is a stream, without a latency.
func (r *roundTrip) timed(a policy.Attempt, err error) {
	if r.timeouts == nil {
		return
	}
	now := policy.Now()
	e := policy.Ended{Class: r.classify(err), Took: now.Sub(a.Start)}
	if e.Class == policy.ClassTimeout && a.Deadline == r.deadline() {
		e.Class = policy.ClassDeadlineSoon // the call's time was up, not the attempt's
	}
	r.timeouts.Done(now, e)
}

func (r *roundTrip) deadline() policy.Time {
	if d, ok := r.req.Context().Deadline(); ok {
		return policy.Earliest(r.call.Deadline, policy.At(d))
	}
	return r.call.Deadline
}

// left is the last of a call: what nobody took is dropped, and the request's body closed if no attempt did.
func (r *roundTrip) left() {
	for _, a := range r.end() {
		r.discard(a.resp)
	}
	r.mu.Lock()
	taken := r.bodyTaken
	r.bodyTaken = true
	r.mu.Unlock()
	if !taken && r.req.Body != nil {
		_ = r.req.Body.Close()
	}
}

func (r *roundTrip) discardAll() {
	r.mu.Lock()
	as := r.answers
	r.answers = nil
	r.mu.Unlock()
	for _, a := range as {
		r.discard(a.resp)
	}
}

// discard drains a response that nobody gets, within limits, and closes it.
func (r *roundTrip) discard(resp *http.Response) {
	o := &r.t.o
	b, ok := bodyOf(resp)
	if ok && o.DrainTime > 0 && resp.ContentLength <= o.DrainBytes && resp.StatusCode != http.StatusSwitchingProtocols {
		timer := time.AfterFunc(o.DrainTime, func() { b.at.cancel(policy.ErrLost) })
		_, _ = io.CopyN(io.Discard, resp.Body, o.DrainBytes+1) // one more, to see its end
		timer.Stop()
	}
	_ = resp.Body.Close()
}

// attempt is one request on its way.
type attempt struct {
	r      *roundTrip
	a      policy.Attempt
	parent context.Context //nolint:containedctx // the call's: what the attempt's own is compared with

	ctx    context.Context //nolint:containedctx // lives until the body is closed
	cancel context.CancelCauseFunc
	stop   func() bool // stops the attempt's clock

	bodyErr                        atomic.Pointer[error]
	asked, connected, wrote, shook atomic.Bool
}

// begin makes the attempt's context. Its deadline is a timer beside it, since the clock may be stopped at the header.
func (at *attempt) begin() {
	ctx, cancel := context.WithCancelCause(at.parent)
	at.ctx, at.cancel, at.stop = ctx, cancel, func() bool { return true }
	if at.a.Deadline == 0 {
		return
	}
	if at.r.hedged || at.r.t.o.UntilHeader {
		at.stop = time.AfterFunc(at.a.Deadline.Sub(policy.Now()), func() { cancel(policy.ErrAttemptTimeout) }).Stop
		return
	}
	timed, stop := context.WithDeadlineCause(ctx, at.a.Deadline.Clock(), policy.ErrAttemptTimeout)
	at.ctx, at.stop = timed, func() bool { stop(); return true }
}

// untimed stops the attempt's clock.
func (at *attempt) untimed() { at.stop() }

// release ends the attempt's context.
func (at *attempt) release() {
	at.stop()
	at.cancel(nil)
}

// request is the attempt's own copy of the request.
func (at *attempt) request() (*http.Request, error) {
	r := at.r
	req := r.req.Clone(httptrace.WithClientTrace(at.ctx, at.trace()))
	if req.Header == nil {
		req.Header = http.Header{}
	}
	if !r.t.o.NoAttemptCount {
		req.Header.Set(hop.Attempt, strconv.Itoa(max(r.call.PathAttempt, at.a.N+1)))
	}
	if c := r.call.Criticality; c != policy.Critical && !r.t.o.NoCriticality {
		req.Header.Set(hop.Criticality, c.String())
	}
	if name := r.t.o.DeadlineHeader; name != "" && at.a.Deadline != 0 {
		req.Header.Set(name, formatTimeout(name, at.a.Deadline.Sub(policy.Now())))
	}
	if req.Body == nil || req.Body == http.NoBody {
		return req, nil
	}
	r.mu.Lock()
	first := !r.bodyTaken
	r.bodyTaken = true
	r.mu.Unlock()
	if !first {
		body, err := r.req.GetBody()
		if err != nil {
			return nil, err
		}
		req.Body = body
	}
	req.Body = &requestBody{req.Body, &at.bodyErr}
	return req, nil
}

// requestBody notes the error of the caller's own body: the server has no part in that.
type requestBody struct {
	io.ReadCloser
	err *atomic.Pointer[error]
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.err.CompareAndSwap(nil, &err)
	}
	return n, err
}

// trace notes how far the request came. Notes are never taken back: http.Transport may try another connection by itself.
func (at *attempt) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { at.asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { at.connected.Store(true) },
		// Not WroteHeaders: HTTP/2 tells of that when the frame is out, and the server may have answered by then.
		WroteHeaderField: func(string, []string) { at.wrote.Store(true) },
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			if err != nil {
				at.shook.Store(true)
			}
		},
	}
}
