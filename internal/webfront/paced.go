package webfront

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/internal/foreign"
	"github.com/hull-go/hull/internal/oneport"
)

const (
	// piece is how much of an answer a peer must take within Options.SlowReader.
	piece = 64 << 10
	// unsent is what net/http keeps of an answer without sending it, if nobody flushes.
	unsent = 4 << 10
	// streamPatience is how much longer a stream's message, or a piece of a page, may wait to be taken: who reads slowly what was asked for in pieces does what
	// flow control is there for.
	streamPatience = 30
)

// paced is the answer on an HTTP/2 stream, whose peer can let it wait while the connection is in use. Over HTTP/1.1 the connection's own bound does. Its
// methods are for the goroutine of the request.
type paced struct {
	http.ResponseWriter
	rc    *http.ResponseController
	conn  *oneport.Conn // nil = nothing is known of the peer's windows
	slow  *atomic.Int64
	limit time.Duration
	kept  int // written since the last flush

	mu    sync.Mutex
	timer *time.Timer
	since time.Time // since when a write has been under way; zero = none is
	over  bool      // the handler has returned, or the stream was reset
	until time.Time // what the handler has set as write deadline; zero = none
}

// pace returns the answer to r as handlers shall write it.
func (h *Handler) pace(w http.ResponseWriter, r *http.Request, c net.Conn) (*paced, http.ResponseWriter) {
	if r.ProtoMajor < 2 {
		return nil, w
	}
	p := &paced{ResponseWriter: w, rc: http.NewResponseController(w), slow: &h.slowReaders, limit: h.opt.SlowReader}
	p.conn, _ = c.(*oneport.Conn)
	return p, p
}

// Unwrap is for http.ResponseController.
func (p *paced) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// Write implements http.ResponseWriter.
func (p *paced) Write(b []byte) (n int, err error) {
	for {
		part := b[:min(len(b), piece)]
		may := p.kept+len(part) >= unsent // else it is only kept
		if may {
			p.begin()
		}
		m, err := p.ResponseWriter.Write(part)
		if may {
			p.end()
			p.kept = 0
		}
		p.kept += m
		n += m
		if b = b[m:]; err != nil || len(b) == 0 {
			return n, err
		}
	}
}

// Flush implements http.Flusher.
func (p *paced) Flush() {
	p.begin()
	_ = p.rc.Flush() // the next write fails in the same way
	p.end()
	p.kept = 0
}

func (p *paced) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since = time.Now()
	if p.timer == nil {
		p.timer = time.AfterFunc(p.limit, p.expire)
	} else {
		p.timer.Reset(p.limit)
	}
}

func (p *paced) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer.Stop()
	p.since = time.Time{}
}

// expire resets the stream, unless the write that it was set for has ended meanwhile, or the peer's windows are such that it may take longer.
func (p *paced) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	took := time.Since(p.since)
	if p.over || p.since.IsZero() || took < p.limit {
		return
	}
	if p.conn != nil {
		if more := p.conn.Patience(p.limit) - took; more > 0 {
			p.timer.Reset(min(more, p.limit)) // its windows may be others by then
			return
		}
	}
	p.over = true
	p.slow.Add(1)
	if p.conn != nil {
		p.conn.Calm(streamID(p.ResponseWriter), time.Now(), true)
	}
	_ = p.rc.SetWriteDeadline(time.Unix(1, 0)) // HTTP/2 can
}

// finish bounds what net/http sends after the handler.
func (p *paced) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	p.over = true
	limit := p.limit
	if p.conn != nil {
		limit = p.conn.Patience(limit)
	}
	if d := time.Now().Add(limit); p.until.IsZero() || d.Before(p.until) {
		if p.conn != nil { // whatever room there is now: other answers may take it first
			p.conn.Calm(streamID(p.ResponseWriter), d, false)
		}
		_ = p.rc.SetWriteDeadline(d)
	}
}

// streamID returns the number of the stream that w answers on, 0 if it cannot be had: then a peer that does not take its answer hears of an internal error, as net/http has it.
func streamID(w http.ResponseWriter) uint32 { return foreign.Number(w, "rws", "stream", "id") }

// SetWriteDeadline is for http.ResponseController. The bound above holds beside it.
func (p *paced) SetWriteDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over && !p.since.IsZero() {
		return nil // the stream is being reset
	}
	p.until = t
	return p.rc.SetWriteDeadline(t)
}

// Push implements http.Pusher.
func (p *paced) Push(target string, opts *http.PushOptions) error {
	if pusher, ok := p.ResponseWriter.(http.Pusher); ok {
		return pusher.Push(target, opts)
	}
	return http.ErrNotSupported
}
