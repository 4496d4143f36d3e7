package webfront

import (
	"net/http"

	"github.com/hull-go/hull/status"
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
