package httptransport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/httppolicy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// attempt is how far a request came. Notes are never taken back: net/http may try another connection by itself.
type attempt struct{ asked, got, wrote atomic.Bool }

// trace makes the notes. A request counts as written from its first header field on, which is told before the header can leave; that the
// whole is written HTTP/2 tells too late, when the server may have begun already.
func (at *attempt) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn:          func(string) { at.asked.Store(true) },
		GotConn:          func(httptrace.GotConnInfo) { at.got.Store(true) },
		WroteHeaderField: func(string, []string) { at.wrote.Store(true) },
	}
}

// maybeSent reports whether the server may have got the request. When ctx has ended net/http returns at once, but the goroutine that
// writes HTTP/2 may be just about to: then a request that has a connection is as good as written.
func (at *attempt) maybeSent(ctx context.Context) bool {
	return at.wrote.Load() || ctx.Err() != nil && at.got.Load()
}

// Call implements transport.Conn.
func (c *conn) Call(parent context.Context, req *transport.Request, rep *transport.Reply) *status.Error {
	if err := parent.Err(); err != nil {
		return gaveUp(err)
	}
	now := policy.Now()
	deadline := req.Deadline
	if t, ok := parent.Deadline(); ok {
		deadline = policy.Earliest(deadline, policy.At(t))
	}
	if deadline != 0 && now >= deadline {
		return late()
	}
	cd := req.Codec
	if cd.Name() == (codec.Proto{}).Name() {
		cd = codec.JSON{} // which knows messages too
	}
	at := new(attempt)
	ctx := httptrace.WithClientTrace(parent, at.trace())
	if req.Deadline != 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, req.Deadline.Clock())
		defer cancel()
	}
	hr, e := c.request(ctx, cd, req)
	if e != nil {
		return e
	}
	if deadline != 0 {
		left := min((deadline.Sub(now)+time.Millisecond-1)/time.Millisecond, maxTimeout) // up, or the server gives up first
		hr.Header.Set(httppolicy.HeaderConnect, strconv.FormatInt(int64(left), 10))
	}
	if e := c.enter(ctx); e != nil {
		return e
	}
	defer c.leave()
	resp, err := c.rt.RoundTrip(hr)
	if err != nil {
		return c.failure(parent, ctx, at, err)
	}
	defer resp.Body.Close()
	c.answered(resp.Close)
	limit := c.d.opt.MaxMessage
	if req.MaxReply > 0 {
		limit = req.MaxReply
	}
	body, err := read(resp, limit)
	rep.Header, rep.Trailer = incoming(resp.Header, resp.Trailer)
	rep.Load = transport.ReadLoad(resp.Header.Get)
	switch {
	case err != nil && (resp.StatusCode < 300 || ctx.Err() != nil):
		return c.failure(parent, ctx, at, err)
	case resp.StatusCode == http.StatusBadRequest && c.d.opt.TLS == nil && transport.WantsTLS(body[:min(len(body), maxWords)]):
		c.lose()
		return needsTLS(c.addr)
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return failed(resp, body)
	case len(body) > limit:
		return &status.Error{Code: status.ResourceExhausted, Kind: status.TooLarge, Fate: status.Processed,
			Message: fmt.Sprintf("the answer is over the limit of %d bytes", limit)}
	}
	if resp.ContentLength == 0 && cd.Name() == (codec.JSON{}).Name() {
		return nil // 204, or another success of which nothing more is to be said: the message is empty
	}
	if err := cd.Unmarshal(body, rep.Message); err != nil {
		return &status.Error{Code: status.Internal, Fate: status.Processed, Message: "the answer does not decode", Cause: err}
	}
	return nil
}

// maxTimeout is the most milliseconds that Connect-Timeout-Ms can say: servers refuse more than ten digits.
const maxTimeout = 9999999999

// request makes the HTTP request of a call.
func (c *conn) request(ctx context.Context, cd codec.Codec, req *transport.Request) (*http.Request, *status.Error) {
	msg, err := cd.Append(nil, req.Message)
	if err != nil {
		return nil, refused(status.Internal, "the request does not encode", err)
	}
	limit := c.d.opt.MaxRequest
	if req.MaxRequest > 0 {
		limit = req.MaxRequest
	}
	if len(msg) > limit {
		return nil, &status.Error{Code: status.ResourceExhausted, Fate: status.NotSent, Kind: status.TooLarge,
			Message: fmt.Sprintf("request of %d bytes is over the limit of %d for what is sent", len(msg), limit)}
	}
	verb, target := http.MethodPost, "/"+req.Method
	if r, ok := c.d.opt.Routes[req.Method]; ok {
		if target, msg, err = r.apply(msg); err != nil {
			return nil, refused(status.InvalidArgument, "the request does not fit its route", err)
		}
		if r.Verb != "" {
			verb = r.Verb
		}
	}
	var body io.Reader
	if msg != nil {
		body = bytes.NewReader(msg)
	}
	hr, err := http.NewRequestWithContext(ctx, verb, c.scheme+"://"+host(c.addr)+target, body)
	if err != nil {
		return nil, refused(status.InvalidArgument, "the method makes no URL", err)
	}
	if req.Authority != "" {
		hr.Host = req.Authority
	}
	size := outgoing(hr.Header, req)
	if size > c.d.opt.MaxHeader {
		return nil, &status.Error{Code: status.ResourceExhausted, Fate: status.NotSent, Kind: status.TooLarge,
			Message: fmt.Sprintf("metadata of %d bytes is over the limit of %d", size, c.d.opt.MaxHeader)}
	}
	if body != nil {
		hr.Header.Set("Content-Type", "application/"+cd.Name())
	}
	hr.Header.Set("Accept", "application/"+cd.Name())
	hr.Header.Set("User-Agent", c.d.opt.UserAgent)
	return hr, nil
}

// read reads a response within the limit, and one byte more if there is more.
func read(resp *http.Response, limit int) ([]byte, error) {
	var b bytes.Buffer
	if n := resp.ContentLength; n > 0 {
		b.Grow(int(min(n, int64(limit))) + bytes.MinRead)
	}
	_, err := b.ReadFrom(io.LimitReader(resp.Body, int64(limit)+1))
	return b.Bytes(), err
}

// failure says what an error of net/http means, and what is proved about it.
func (c *conn) failure(parent, ctx context.Context, at *attempt, err error) *status.Error {
	e := &status.Error{Code: status.Unavailable, Kind: status.Reset, Message: "connection lost before the answer", Cause: err}
	if !at.maybeSent(ctx) {
		e.Fate = status.NotSent
	}
	dial, dialled := errors.AsType[*status.Error](err) // of connect
	switch {
	case errors.Is(parent.Err(), context.Canceled):
		e.Code, e.Kind, e.Message = status.Canceled, status.Cancelled, "the caller gave up"
	case ctx.Err() != nil:
		e.Code, e.Kind, e.Message = status.DeadlineExceeded, status.Timeout, "no answer within the deadline"
	case dialled && e.Fate == status.NotSent:
		return dial
	case refusedStream(err):
		e.Kind, e.Fate, e.Message = status.Draining, status.NotSent, "the server did not begin the request"
		c.unusable.Store(true)
	case !at.asked.Load(): // metadata that is none, for instance: nobody else's fault
		return refused(status.InvalidArgument, "net/http does not send the request", err)
	case c.d.opt.TLS == nil && wantsTLS(err):
		c.lose()
		return needsTLS(c.addr)
	default:
		// The network connection is gone, and others need not be: settle finds out whether there are any.
		if e.Fate == status.NotSent {
			e.Kind, e.Message = status.Unsent, "connection lost before the request was sent"
		} else {
			c.serve()
		}
	}
	return e
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
	const code = 7
	e, ok := errors.AsType[streamError](err)
	return ok && e.Code == code
}

func refused(code status.Code, msg string, cause error) *status.Error {
	return &status.Error{Code: code, Kind: status.Refused, Fate: status.NotSent, Message: msg, Cause: cause}
}

// gaveUp is the error of a call whose context had ended before it began.
func gaveUp(err error) *status.Error {
	if errors.Is(err, context.DeadlineExceeded) {
		return late()
	}
	return &status.Error{Code: status.Canceled, Kind: status.Cancelled, Fate: status.NotSent, Message: "the caller gave up", Cause: err}
}

func late() *status.Error {
	return &status.Error{Code: status.DeadlineExceeded, Kind: status.Timeout, Fate: status.NotSent,
		Message: "the deadline had passed before the call was sent"}
}
