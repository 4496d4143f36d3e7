package webfront

import (
	"context"
	"fmt"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/hull-go/hull/internal/foreign"
	"github.com/hull-go/hull/internal/oneport"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// Options say what a Handler accepts.
type Options struct {
	// MaxMessage is the largest message to receive, MaxHeader the largest header over HTTP/1.1, in bytes; 0 = as net/http likes.
	MaxMessage, MaxHeader int
	// SlowSender is how long the body of a unary request may take.
	SlowSender time.Duration
	// SlowReader is how long a peer may take nothing of an answer over HTTP/2, if its windows are small; of a stream's messages and of what Next
	// serves, thirty times as long.
	SlowReader time.Duration
	// Origins are the origins whose pages may call methods although they come from elsewhere, such as https://example.com.
	Origins []string
	// Next serves what is no call; nil = a message that says so.
	Next http.Handler
	// Service is the server's name in discovery.
	Service string
	// Hidden methods are served, but not described.
	Hidden bool
	// Unknown says what calls of methods that are not served get.
	Unknown func(ctx context.Context, in *transport.Incoming) transport.Outgoing
	// Logger is told of panics in handlers; nil = nobody.
	Logger *slog.Logger
}

// Counters are how often something happened since a Handler was made.
type Counters struct {
	foreign.CallerCounters
	// CrossOrigin calls were refused because a page from elsewhere made them; TooLarge because of their size; SlowSenders because their
	// body did not come in time; SlowReaders of HTTP/2 because they did not take their answer. LargeHeaders are requests over HTTP/1.1 with a header
	// that net/http lets pass, and MaxHeader does not.
	CrossOrigin, TooLarge, SlowSenders, SlowReaders, LargeHeaders int64
}

// Handler serves calls over HTTP. It is safe for concurrent use.
type Handler struct {
	caller   foreign.Caller
	opt      Options
	methods  map[string]*served
	services map[string][]*foreign.Method
	cross    *http.CrossOriginProtection
	origins  map[string]bool
	hosts    map[string]bool // of origins
	errors   *connect.ErrorWriter
	jsonType []string
	bodies   sync.Pool // of *[]byte

	crossOrigin, tooLarge, slowSenders, slowReaders, largeHeaders atomic.Int64
}

// served is one method and its handler for other protocols than plain JSON.
type served struct {
	foreign.Method
	connect http.Handler
}

// New returns a Handler that passes the calls of methods to h. It fails if an origin is none.
func New(h transport.Handler, methods []foreign.Method, o Options) (*Handler, error) {
	w := &Handler{caller: foreign.Caller{Handler: h, Logger: o.Logger}, opt: o, methods: make(map[string]*served, len(methods)),
		services: map[string][]*foreign.Method{}, cross: http.NewCrossOriginProtection(), origins: map[string]bool{}, hosts: map[string]bool{},
		errors: connect.NewErrorWriter(), jsonType: []string{"application/json"}}
	for _, origin := range o.Origins {
		if err := w.cross.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("%q is no origin: write scheme://host, for instance https://example.com: %w", origin, err)
		}
		w.origins[origin] = true
		_, host, _ := strings.Cut(origin, "://")
		w.hosts[host] = true
	}
	for _, m := range methods {
		s := &served{Method: m}
		s.connect = w.connectHandler(s)
		w.methods[m.Name] = s
		service := m.Name[:strings.LastIndexByte(m.Name, '/')]
		w.services[service] = append(w.services[service], &s.Method)
	}
	return w, nil
}

// Counters reads the counters.
func (h *Handler) Counters() Counters {
	return Counters{CallerCounters: h.caller.Counters(), CrossOrigin: h.crossOrigin.Load(), TooLarge: h.tooLarge.Load(),
		SlowSenders: h.slowSenders.Load(), SlowReaders: h.slowReaders.Load(), LargeHeaders: h.largeHeaders.Load()}
}

// Wait waits until no method's handler runs, or ctx ends.
func (h *Handler) Wait(ctx context.Context) error { return h.caller.Wait(ctx) }

type connKey struct{}

// ConnContext is what an http.Server that uses the Handler needs as its ConnContext.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// ConnState is what such a server needs as its ConnState.
func ConnState(c net.Conn, state http.ConnState) {
	switch c, ok := c.(*oneport.Conn); {
	case !ok:
	case state == http.StateActive:
		c.Serving(true) // also when the connection is hijacked then
	case state == http.StateIdle:
		c.Serving(false)
	}
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, _ := r.Context().Value(connKey{}).(net.Conn)
	if c != nil && r.TLS == nil {
		r.TLS = oneport.TLSState(c)
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	m := h.methods[name]
	p, w := h.pace(w, r, c)
	if p != nil {
		defer p.finish()
		if m == nil || m.Stream {
			p.limit *= streamPatience
		}
	}
	if size := headerSize(r); h.opt.MaxHeader > 0 && size > h.opt.MaxHeader {
		h.largeHeaders.Add(1)
		unread(w, r)
		h.allow(w, r) // or a page would not learn why it failed
		h.fail(w, r, &status.Error{Code: status.ResourceExhausted, Kind: status.TooLarge, Fate: status.NotSent, Message: fmt.Sprintf(
			"the request's header of %d bytes is over the limit of %d", size, h.opt.MaxHeader)}, http.StatusRequestHeaderFieldsTooLarge)
		return
	}
	if m == nil {
		h.noMethod(w, r, name, c)
		return
	}
	if r.Method == http.MethodOptions && r.Header["Origin"] != nil {
		h.preflight(w, r)
		return
	}
	if (r.Method == http.MethodGet || r.Method == http.MethodHead) && !r.URL.Query().Has("encoding") {
		if h.opt.Hidden {
			h.allow(w, r)
			w.Header().Set("Allow", http.MethodPost)
			h.writeError(w, &status.Error{Code: status.Unimplemented, Fate: status.NotSent, Message: "call " + name + " with POST"}, http.StatusMethodNotAllowed)
			return
		}
		h.describe(w, r, c, []*foreign.Method{&m.Method})
		return
	}
	if e := h.judgeOrigin(r, c); e != nil {
		h.crossOrigin.Add(1)
		h.fail(w, r, e, 0)
		return
	}
	h.allow(w, r)
	kind := contentType(r)
	if kind == kindOther {
		h.fail(w, r, &status.Error{Code: status.InvalidArgument, Kind: status.Protocol, Fate: status.NotSent, Message: fmt.Sprintf(
			"the content type %q is not known here: send JSON as application/json, or speak Connect, gRPC-Web or gRPC", r.Header.Get("Content-Type"))}, http.StatusUnsupportedMediaType)
		return
	}
	if r.Method == http.MethodPost && kind == kindJSON && !m.Stream && r.Header["Connect-Protocol-Version"] == nil && r.Header["Content-Encoding"] == nil {
		h.json(w, r, m, c)
		return
	}
	switch {
	case m.Stream && kind != kindStream:
		h.writeError(w, &status.Error{Code: status.Unimplemented, Fate: status.NotSent,
			Message: name + " is a stream: call it with gRPC, gRPC-Web or Connect's streaming content types"}, http.StatusUnsupportedMediaType)
	case m.ClientStreams && m.ServerStreams && r.ProtoMajor < 2:
		w.Header().Set("Connection", "close") // or a client that has begun to send may hang
		h.writeError(w, &status.Error{Code: status.Unimplemented, Fate: status.NotSent,
			Message: name + " has messages both ways, which needs HTTP/2"}, http.StatusHTTPVersionNotSupported)
	default:
		h.byConnect(w, r, m, kind)
	}
}

// kind is what the content type of a request says.
type kind int

const (
	kindOther  kind = iota
	kindNone        // no body: GET
	kindJSON        // a unary call, plain or Connect
	kindUnary       // another unary call of Connect's
	kindStream      // enveloped messages: Connect's streams, gRPC, gRPC-Web
)

func contentType(r *http.Request) kind {
	if r.Method == http.MethodGet {
		return kindNone
	}
	ct := r.Header["Content-Type"]
	if len(ct) == 0 || ct[0] == "" {
		return unlessBrowser(r)
	}
	switch ct[0] {
	case "application/json":
		return kindJSON
	case "application/x-www-form-urlencoded":
		return unlessBrowser(r)
	}
	t, _, err := mime.ParseMediaType(ct[0])
	switch {
	case err != nil:
		return kindOther
	case t == "application/json":
		return kindJSON
	case t == "application/x-www-form-urlencoded":
		return unlessBrowser(r)
	case t == "application/proto":
		return kindUnary
	case strings.HasPrefix(t, "application/connect+"), t == "application/grpc", strings.HasPrefix(t, "application/grpc+"),
		t == "application/grpc-web", strings.HasPrefix(t, "application/grpc-web+"), strings.HasPrefix(t, "application/grpc-web-text"):
		return kindStream
	}
	return kindOther
}

// unlessBrowser reads a body as JSON although it does not say so, for curl's sake. A browser's form must not become a call: it is sent without asking first.
func unlessBrowser(r *http.Request) kind {
	if fromBrowser(r) {
		return kindOther
	}
	return kindJSON
}

// noMethod answers for a path that is no method's.
func (h *Handler) noMethod(w http.ResponseWriter, r *http.Request, name string, c net.Conn) {
	get := (r.Method == http.MethodGet || r.Method == http.MethodHead) && !h.opt.Hidden
	if get && name == "hull/methods" {
		h.describe(w, r, c, h.all())
		return
	}
	if of := h.services[name]; get && of != nil {
		h.describe(w, r, c, of)
		return
	}
	slash := strings.LastIndexByte(name, '/')
	known := slash > 0 && h.services[name[:slash]] != nil
	if r.Method == http.MethodOptions && r.Header["Origin"] != nil && slash > 0 && (known || h.opt.Next == nil) {
		h.preflight(w, r) // or a page would learn nothing of the answer below
		return
	}
	ours := known && r.Method == http.MethodPost
	if k := contentType(r); !ours && k != kindStream && (h.opt.Next != nil || k != kindUnary) {
		if h.opt.Next != nil {
			h.opt.Next.ServeHTTP(w, r)
			return
		}
		if slash <= 0 || r.Method != http.MethodPost {
			h.allow(w, r)
			e := &status.Error{Code: status.NotFound, Fate: status.Processed, Message: fmt.Sprintf("nothing is served at %q", r.URL.Path)}
			if !h.opt.Hidden {
				e.Message += "; GET /hull/methods lists what is"
			}
			h.writeError(w, e, 0)
			return
		}
	}
	h.allow(w, r)
	in := transport.Incoming{Method: name}
	h.fail(w, r, h.opt.Unknown(r.Context(), &in).Status, 0)
}

// headerSize is the size of a request's header over HTTP/1.1, without its first line. Over HTTP/2 net/http counts it itself.
func headerSize(r *http.Request) int {
	if r.ProtoMajor >= 2 {
		return 0
	}
	size := len("Host: \r\n") + len(r.Host)
	for k, vs := range r.Header {
		for _, v := range vs {
			size += len(k) + len(v) + len(": \r\n")
		}
	}
	return size
}

// fail answers in the form that the request's protocol has for errors; httpCode, if that is HTTP's own, 0 = the one that fits the error.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, e *status.Error, httpCode int) {
	if contentType(r) == kindStream {
		if asText(r) {
			r = r.WithContext(r.Context())
			t := untext(w, r)
			defer t.finish()
			w = t
		}
		if h.errors.IsSupported(r) {
			_ = h.errors.Write(w, r, toConnect(e)) // nobody is left to tell
			return
		}
	}
	h.writeError(w, e, httpCode)
}

// incoming is what all protocols of this package know of a call in the same way. The returned context carries the deadline.
func (h *Handler) incoming(r *http.Request, m *served, c net.Conn) (context.Context, context.CancelFunc, *transport.Incoming, *status.Error) {
	in := &transport.Incoming{Method: m.Name, Metadata: foreign.FromHeader(r.Header, r.Host), Received: policy.Now(), TLS: r.TLS}
	if c != nil {
		in.Peer = c.RemoteAddr()
	}
	in.PathAttempt, in.Criticality = transport.ReadHop(r.Header.Get)
	ctx, cancel := r.Context(), context.CancelFunc(func() {})
	d, ok, e := foreign.Timeout(r.Header)
	if e != nil {
		return ctx, cancel, in, e
	}
	if ok {
		in.Deadline = in.Received.Add(d)
		ctx, cancel = context.WithDeadline(ctx, in.Deadline.Clock())
	}
	return ctx, cancel, in, nil
}
