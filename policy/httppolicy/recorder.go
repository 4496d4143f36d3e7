package httppolicy

import (
	"bufio"
	"io"
	"net"
	"net/http"

	"github.com/hull-go/hull/internal/hop"
	"github.com/hull-go/hull/status"
)

// recorder notes what became of a response. http.ResponseController finds the writer below it.
type recorder struct {
	http.ResponseWriter
	at       *hop.Path // of the request
	code     int       // 0 = nothing was written
	hijacked bool
}

// wrap returns the recorder with what the writer below can do besides.
func (r *recorder) wrap() http.ResponseWriter {
	f, flushes := r.ResponseWriter.(http.Flusher)
	h, hijacks := r.ResponseWriter.(http.Hijacker)
	from, reads := r.ResponseWriter.(io.ReaderFrom)
	switch {
	case flushes && hijacks && reads:
		return &whole{flusher{r, f}, h, from}
	case flushes:
		return &flusher{r, f}
	}
	return r
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(code int) {
	if r.code == 0 && (code >= 200 || code == http.StatusSwitchingProtocols) {
		r.code = code
		if code >= 500 && r.at.Origin() == status.Downstream {
			r.Header().Set(hop.Origin, status.Downstream.String())
		}
	}
	r.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(p []byte) (int, error) {
	r.wrote()
	return r.ResponseWriter.Write(p)
}

func (r *recorder) wrote() {
	if r.code == 0 {
		r.code = http.StatusOK
	}
}

// flusher is a recorder above an HTTP/2 stream or a test's recorder.
type flusher struct {
	*recorder
	flush http.Flusher
}

// Flush implements http.Flusher.
func (f *flusher) Flush() {
	f.wrote()
	f.flush.Flush()
}

// whole is a recorder above an HTTP/1 connection.
type whole struct {
	flusher
	hijack http.Hijacker
	from   io.ReaderFrom
}

// Hijack implements http.Hijacker.
func (w *whole) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := w.hijack.Hijack()
	if err == nil {
		w.hijacked, w.code = true, http.StatusSwitchingProtocols
	}
	return c, rw, err
}

// ReadFrom implements io.ReaderFrom, so that files are sent without copies.
func (w *whole) ReadFrom(src io.Reader) (int64, error) {
	w.wrote()
	return w.from.ReadFrom(src)
}
