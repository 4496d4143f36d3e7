package webfront

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/internal/foreign"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// keepBody is the largest buffer that is kept for the next request.
const keepBody = 64 << 10

// json serves a unary call whose messages are JSON.
func (h *Handler) json(w http.ResponseWriter, r *http.Request, m *served, c net.Conn) {
	buf, _ := h.bodies.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	defer func() {
		if cap(*buf) <= keepBody {
			h.bodies.Put(buf)
		}
	}()
	ctx, cancel, in, e := h.incoming(r, m, c)
	defer cancel()
	if e == nil {
		*buf, e = h.body(w, r, (*buf)[:0], in.Deadline)
	}
	if e != nil {
		h.writeError(w, e, 0)
		return
	}
	in.Codec, in.Payload = "json", *buf
	out := h.caller.Unary(ctx, in, h.gone(w, r))
	h.fit(ctx, &out)
	head := w.Header()
	foreign.AddHeader(head, "", out.Header)
	foreign.AddHeader(head, "Trailer-", out.Trailer)
	addLoad(head, in, &out)
	if out.Status != nil {
		h.writeError(w, out.Status, 0)
		return
	}
	// Errors of encoding must be known before the first byte goes out. The request is not needed any more: a handler that keeps a decoded message
	// has a copy.
	cd := out.Codec
	if cd == nil {
		cd = codec.JSON{}
	}
	b, err := cd.Append((*buf)[:0], out.Message)
	*buf = b
	if err != nil {
		h.writeError(w, &status.Error{Code: status.Internal, Fate: status.Processed, Message: "the answer of " + m.Name + " does not encode: " + err.Error()}, 0)
		return
	}
	head["Content-Type"] = h.jsonType
	head["Content-Length"] = []string{strconv.Itoa(len(b))}
	_, _ = w.Write(b) // if the caller is gone nobody is left to tell
}

// body reads a request's body behind buf, within limits and before the deadline, if there is one.
func (h *Handler) body(w http.ResponseWriter, r *http.Request, buf []byte, deadline policy.Time) ([]byte, *status.Error) {
	if r.ContentLength > int64(h.opt.MaxMessage) {
		return buf, h.bodyTooLarge(w, r)
	}
	if r.ContentLength > int64(cap(buf)) {
		buf = make([]byte, 0, min(r.ContentLength, keepBody)+1)
	}
	rc := http.NewResponseController(w)
	until, late := time.Now().Add(h.opt.SlowSender), false
	if deadline != 0 && deadline.Clock().Before(until) {
		until, late = deadline.Clock(), true
	}
	slow := hasBody(r) && rc.SetReadDeadline(until) == nil
	for {
		if len(buf) == cap(buf) {
			buf = slices.Grow(buf, 512)
		}
		n, err := r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case len(buf) > h.opt.MaxMessage:
			return buf, h.bodyTooLarge(w, r)
		case errors.Is(err, io.EOF):
			if slow {
				_ = rc.SetReadDeadline(time.Time{}) // it would end the context while the handler runs
			}
			return buf, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return buf, h.slow(w, r, late)
		case err != nil:
			return buf, &status.Error{Code: status.Canceled, Kind: status.Cancelled, Fate: status.NotSent, Message: "the request's body did not come whole: " + err.Error()}
		}
	}
}

// hasBody reports whether there is something left to read of a request, for which there may be a time. Where there is nothing net/http reads already, over
// HTTP/1.1, to learn when the caller goes away: a time that has passed would end the context of this request and of every later one on its connection.
func hasBody(r *http.Request) bool { return r.Body != http.NoBody }

func (h *Handler) bodyTooLarge(w http.ResponseWriter, r *http.Request) *status.Error {
	h.tooLarge.Add(1)
	unread(w, r)
	return &status.Error{Code: status.ResourceExhausted, Kind: status.TooLarge, Fate: status.NotSent,
		Message: fmt.Sprintf("the request is larger than the %d bytes that are accepted here", h.opt.MaxMessage)}
}

// errorBody is how Connect writes errors, and plain JSON with it.
type errorBody struct {
	Code    string        `json:"code"`
	Message string        `json:"message,omitempty"`
	Details []errorDetail `json:"details,omitempty"`
}

type errorDetail struct {
	Type  string          `json:"type"`
	Value string          `json:"value"`
	Debug json.RawMessage `json:"debug,omitempty"`
}

// writeError answers with an error as JSON; httpCode 0 = the one that fits it.
func (h *Handler) writeError(w http.ResponseWriter, e *status.Error, httpCode int) {
	body := errorBody{Code: codeName(e.Code), Message: foreign.Message(e)}
	for _, d := range e.Details {
		detail := errorDetail{Type: d.TypeURL[strings.LastIndexByte(d.TypeURL, '/')+1:], Value: base64.RawStdEncoding.EncodeToString(d.Value)}
		if m, err := (&anypb.Any{TypeUrl: d.TypeURL, Value: d.Value}).UnmarshalNew(); err == nil {
			detail.Debug, _ = codec.JSON{}.Append(nil, m) // for people; the value is what counts
		}
		body.Details = append(body.Details, detail)
	}
	b, err := json.Marshal(body)
	if err != nil { // strings always encode
		b = []byte(`{"code":"internal"}`)
	}
	head := w.Header()
	addFacts(head, e)
	head["Content-Type"] = h.jsonType
	head["Content-Length"] = []string{strconv.Itoa(len(b) + 1)}
	if httpCode == 0 {
		httpCode = HTTPStatus(e)
	}
	w.WriteHeader(httpCode)
	_, _ = w.Write(append(b, '\n')) // if the caller is gone nobody is left to tell
}

// addLoad says in a header, or a trailer, what a caller that has asked for it is to know of the node.
func addLoad(head http.Header, in *transport.Incoming, out *transport.Outgoing) {
	foreign.AddHeader(head, "", transport.AppendLoad(nil, out.Load, in.Metadata.Get(transport.HeaderLoadFormat)))
}

// addFacts says in headers what retry decides from, in Hull's words and in HTTP's and Envoy's.
func addFacts(head http.Header, e *status.Error) {
	for _, f := range transport.AppendFacts(nil, e) {
		head.Set(f.Key, f.Value)
	}
	if e.Pushback > 0 {
		head.Set("Retry-After", strconv.FormatInt(int64((e.Pushback-1)/time.Second)+1, 10))
	}
	switch e.Kind {
	case status.Shed:
		head.Set("X-Envoy-Overloaded", "true")
	case status.Quota:
		head.Set("X-Envoy-Ratelimited", "true")
	}
}

// HTTPStatus is the status of an answer with that error. It is Connect's table, which clients read backwards if there is no body, except where HTTP has a
// word of its own for what happened.
func HTTPStatus(e *status.Error) int {
	switch e.Kind {
	case status.TooLarge:
		return http.StatusRequestEntityTooLarge
	case status.NoMethod:
		return http.StatusNotFound
	}
	switch e.Code {
	case status.Canceled:
		return 499 // nginx's: the client closed the request
	case status.InvalidArgument, status.FailedPrecondition, status.OutOfRange:
		return http.StatusBadRequest
	case status.DeadlineExceeded:
		return http.StatusGatewayTimeout
	case status.NotFound:
		return http.StatusNotFound
	case status.AlreadyExists, status.Aborted:
		return http.StatusConflict
	case status.PermissionDenied:
		return http.StatusForbidden
	case status.ResourceExhausted:
		return http.StatusTooManyRequests
	case status.Unimplemented:
		return http.StatusNotImplemented
	case status.Unavailable:
		return http.StatusServiceUnavailable
	case status.Unauthenticated:
		return http.StatusUnauthorized
	}
	return http.StatusInternalServerError
}

// codeName is a code as JSON has it, "not_found". What is no code counts as unknown.
func codeName(c status.Code) string {
	if !c.Valid() || c == status.OK {
		c = status.Unknown
	}
	var b strings.Builder
	for i, r := range c.String() {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte('_')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}
