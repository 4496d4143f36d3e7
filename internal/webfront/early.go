package webfront

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/hull-go/hull/internal/foreign"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// early is the answer of a request that connect-go serves. What goes out before the method is called is connect-go's own refusal, of which its caller and the
// counters are to learn as of any other.
type early struct {
	http.ResponseWriter
	h      *Handler
	q      *request
	method *served
	kind   kind
	told   bool // the answer is complete
}

// Unwrap is for http.ResponseController.
func (e *early) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// Flush implements http.Flusher.
func (e *early) Flush() {
	if f, ok := e.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// WriteHeader implements http.ResponseWriter.
func (e *early) WriteHeader(code int) {
	if !e.q.called {
		switch {
		case code == http.StatusTooManyRequests: // only for its size
			e.tooLarge("")
			code = http.StatusRequestEntityTooLarge
		case code == http.StatusMethodNotAllowed:
			e.refuse(code, &status.Error{Code: status.Unimplemented, Fate: status.NotSent, Message: "call " + e.method.Name + " with POST"})
			return
		case code == http.StatusUnsupportedMediaType && e.kind != kindStream:
			e.refuse(code, &status.Error{Code: status.InvalidArgument, Fate: status.NotSent, Message: fmt.Sprintf(
				"%s does not take a body of type %q: send application/json or application/proto", e.method.Name, e.q.r.Header.Get("Content-Type"))})
			return
		}
	}
	e.ResponseWriter.WriteHeader(code)
}

func (e *early) refuse(code int, err *status.Error) {
	e.told = true
	e.h.writeError(e.ResponseWriter, err, code)
}

// tooLarge notes that the request was, and says so in the header, or behind the prefix of trailers.
func (e *early) tooLarge(prefix string) {
	e.h.tooLarge.Add(1)
	for _, f := range transport.AppendFacts(nil, &status.Error{Code: status.ResourceExhausted, Kind: status.TooLarge, Fate: status.NotSent}) {
		e.Header()[prefix+http.CanonicalHeaderKey(f.Key)] = []string{f.Value}
	}
}

// Write implements http.ResponseWriter.
func (e *early) Write(b []byte) (int, error) {
	if e.told {
		return len(b), nil
	}
	if !e.q.called && e.kind == kindStream && (bytes.Contains(b, []byte("grpc-status: 8\r\n")) || bytes.Contains(b, []byte(`"code":"resource_exhausted"`))) {
		e.h.tooLarge.Add(1)
	}
	return e.ResponseWriter.Write(b)
}

// finish looks at what goes out last: the trailers of gRPC, or the header that stands for them in gRPC-Web.
func (e *early) finish() {
	for _, prefix := range []string{http.TrailerPrefix, ""} {
		if s := e.Header()[prefix+"Grpc-Status"]; !e.q.called && len(s) == 1 && s[0] == "8" {
			e.tooLarge(prefix)
			return
		}
	}
}

// bound gives a request's body, in which there is one message, its time: what a sender may take, or less if the caller waits no longer.
func (h *Handler) bound(w http.ResponseWriter, q *request) {
	limit, late := h.opt.SlowSender, false
	if d, ok, e := foreign.Timeout(q.r.Header); ok && e == nil && d < limit {
		limit, late = d, true
	}
	rc := http.NewResponseController(w)
	if !hasBody(q.r) || rc.SetReadDeadline(time.Now().Add(limit)) != nil {
		return
	}
	q.whole = func() {
		q.whole = nil
		_ = rc.SetReadDeadline(time.Time{}) // it would end the context while the handler runs
	}
	q.r.Body = &timely{ReadCloser: q.r.Body, h: h, q: q, late: late, w: w}
}

// timely is a body that must come in time.
type timely struct {
	io.ReadCloser
	h    *Handler
	q    *request
	w    http.ResponseWriter
	late bool  // the time is what the caller waits
	err  error // that it did not come; it counts once, however often somebody reads
}

func (t *timely) Read(b []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	n, err := t.ReadCloser.Read(b)
	switch {
	case t.q.whole == nil:
	case errors.Is(err, io.EOF):
		t.q.whole()
	case errors.Is(err, os.ErrDeadlineExceeded):
		t.err = toConnect(t.h.slow(t.w, t.q.r, t.late))
		err = t.err
	}
	return n, err
}

// slow is the error of a request whose body did not come in time.
func (h *Handler) slow(w http.ResponseWriter, r *http.Request, late bool) *status.Error {
	unread(w, r)
	if late {
		return h.caller.Expire("the deadline passed before the request's body had come")
	}
	h.slowSenders.Add(1)
	return &status.Error{Code: status.Canceled, Kind: status.Cancelled, Fate: status.NotSent,
		Message: fmt.Sprintf("the request's body did not come within %v", h.opt.SlowSender)}
}

// unread has the connection closed, since the rest of a body is not read. Over HTTP/2 that would be the end for the calls of others too.
func unread(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor < 2 {
		w.Header().Set("Connection", "close")
	}
}
