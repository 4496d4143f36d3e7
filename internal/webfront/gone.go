package webfront

import (
	"net/http"

	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// gone answers for a handler that has called runtime.Goexit. net/http does not get its goroutine back, and ends the exchange without sending what was written:
// all must be sent before. Over HTTP/2 the stream is then reset, behind the whole answer.
func (h *Handler) gone(w http.ResponseWriter, r *http.Request) func(*status.Error) {
	return func(e *status.Error) {
		if r.ProtoMajor < 2 {
			w.Header().Set("Connection", "close")
		}
		h.writeError(w, e, 0)
		_ = http.NewResponseController(w).Flush() // if the caller is gone nobody is left to tell
	}
}

// apart runs a handler on a goroutine of its own, so that connect-go still has its own when the handler calls runtime.Goexit, and answers as ever: over HTTP/2
// net/http resets a stream whose goroutine has ended, whatever was written, and clients drop what they have read.
func apart(run func(gone func(*status.Error)) transport.Outgoing) (out transport.Outgoing) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		out = run(func(e *status.Error) { out = transport.Outgoing{Status: e} })
	}()
	<-done
	return out
}
