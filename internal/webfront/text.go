package webfront

import (
	"encoding/base64"
	"io"
	"net/http"
	"strings"
)

// gRPC-Web as text is gRPC-Web in base64: what Google's code generator makes browsers speak unless it is told otherwise.
const (
	typeWeb     = "application/grpc-web"
	typeWebText = "application/grpc-web-text"
)

// asText reports whether a request is gRPC-Web as text.
func asText(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Content-Type"), typeWebText)
}

// text is the answer to such a request. It is encoded piece by piece as it is flushed.
type text struct {
	http.ResponseWriter
	began bool
	plain bool // it is no gRPC-Web: an error that says in JSON why there is none
	buf   []byte
}

// untext makes r binary gRPC-Web, and returns the answer that fits it. r and its header are the caller's own.
func untext(w http.ResponseWriter, r *http.Request) *text {
	r.Header = r.Header.Clone()
	r.Header.Set("Content-Type", typeWeb+strings.TrimPrefix(r.Header.Get("Content-Type"), typeWebText))
	r.ContentLength = -1
	r.Header.Del("Content-Length")
	body := r.Body
	r.Body = struct {
		io.Reader
		io.Closer
	}{base64.NewDecoder(base64.StdEncoding, body), body}
	return &text{ResponseWriter: w}
}

// Unwrap is for http.ResponseController.
func (t *text) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (t *text) WriteHeader(code int) {
	t.begin()
	t.ResponseWriter.WriteHeader(code)
}

func (t *text) begin() {
	if t.began {
		return
	}
	t.began = true
	ct, web := strings.CutPrefix(t.Header().Get("Content-Type"), typeWeb)
	if t.plain = !web; web {
		t.Header().Set("Content-Type", typeWebText+ct)
	}
}

// Write implements http.ResponseWriter.
func (t *text) Write(b []byte) (int, error) {
	t.buf = append(t.buf, b...)
	if len(t.buf) < piece {
		return len(b), nil
	}
	whole := len(t.buf) / 3 * 3 // without padding
	err := t.encode(t.buf[:whole])
	t.buf = append(t.buf[:0], t.buf[whole:]...)
	return len(b), err
}

func (t *text) encode(b []byte) error {
	t.begin()
	if len(b) == 0 {
		return nil
	}
	if !t.plain {
		b = base64.StdEncoding.AppendEncode(nil, b)
	}
	_, err := t.ResponseWriter.Write(b)
	return err
}

// Flush implements http.Flusher.
func (t *text) Flush() {
	t.finish()
	if f, ok := t.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// finish sends what is left.
func (t *text) finish() {
	_ = t.encode(t.buf) // the next write fails in the same way
	t.buf = t.buf[:0]
}
