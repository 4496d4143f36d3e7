package httptransport_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// peerServer is a net/http server in front of the suite's handler: a transport.Server that is not Hull's.
type peerServer struct {
	h     transport.Handler
	srv   *http.Server
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	wg    sync.WaitGroup
}

func newPeerServer(h transport.Handler, h2c bool, maxCalls int) *peerServer {
	s := &peerServer{h: h, conns: make(chan net.Conn), done: make(chan struct{})}
	s.srv = &http.Server{Handler: http.HandlerFunc(s.serve), ErrorLog: log.New(io.Discard, "", 0), Protocols: new(http.Protocols),
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxCalls}}
	s.srv.Protocols.SetHTTP1(!h2c)
	s.srv.Protocols.SetUnencryptedHTTP2(h2c)
	s.wg.Go(func() { _ = s.srv.Serve(peerListener{s}) })
	return s
}

// peerListener hands the server the connections that it is given.
type peerListener struct{ *peerServer }

func (s peerListener) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

func (s peerListener) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

func (s peerListener) Addr() net.Addr { return &net.TCPAddr{} }

// watched is a connection whose end somebody waits for.
type watched struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (w *watched) Close() error {
	w.once.Do(func() { close(w.closed) })
	return w.Conn.Close()
}

func (s *peerServer) ServeConn(c net.Conn) {
	w := &watched{Conn: c, closed: make(chan struct{})}
	select {
	case <-s.done: // it goes first: both may be ready
		c.Close()
		return
	default:
	}
	select {
	case s.conns <- w:
		<-w.closed
	case <-s.done:
		c.Close()
	}
}

func (s *peerServer) Drain(ctx context.Context) error {
	err := s.srv.Shutdown(ctx)
	if err != nil {
		s.srv.Close()
	}
	return err
}

func (s *peerServer) Close() error {
	s.srv.Close()
	s.wg.Wait()
	return nil
}

func (s *peerServer) serve(w http.ResponseWriter, r *http.Request) {
	in := &transport.Incoming{Method: strings.TrimPrefix(r.URL.Path, "/"), Received: policy.Now(), Peer: &net.TCPAddr{}}
	in.Codec = strings.TrimPrefix(r.Header.Get("Content-Type"), "application/")
	in.PathAttempt, in.Criticality = transport.ReadHop(r.Header.Get)
	for k, vs := range r.Header {
		k = strings.ToLower(k)
		switch k {
		case "accept", "accept-encoding", "connect-timeout-ms", "content-length", "content-type", "user-agent", transport.HeaderAttempt, transport.HeaderCriticality:
			continue
		}
		for _, v := range vs {
			if strings.HasSuffix(k, "-bin") {
				b, _ := base64.RawStdEncoding.DecodeString(v)
				v = string(b)
			}
			in.Metadata = append(in.Metadata, transport.Field{Key: k, Value: v})
		}
	}
	ctx := r.Context()
	if ms, err := strconv.Atoi(r.Header.Get("Connect-Timeout-Ms")); err == nil {
		in.Deadline = in.Received.Add(time.Duration(ms) * time.Millisecond)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, in.Deadline.Clock())
		defer cancel()
	}
	var err error
	if in.Payload, err = io.ReadAll(r.Body); err != nil {
		return
	}
	out := guard(func() transport.Outgoing { return s.h.Unary(ctx, in) })
	add(w.Header(), "", out.Header)
	add(w.Header(), "Trailer-", out.Trailer)
	add(w.Header(), "", transport.AppendLoad(nil, out.Load, transport.LoadText))
	if out.Status == nil {
		b, err := out.Codec.Append(nil, out.Message)
		if err == nil {
			_, _ = w.Write(b)
			return
		}
		out.Status = &status.Error{Code: status.Internal, Cause: err}
	}
	e := *out.Status
	if e.Kind != status.Shed && e.Kind != status.NoMethod {
		e.Fate = status.Processed // what a handler says of calls below is not about this one
		if e.Kind != status.Panicked {
			e.Kind = status.Answered
		}
	}
	add(w.Header(), "", transport.AppendFacts(nil, &e))
	writeError(w, &e)
}

func writeError(w http.ResponseWriter, e *status.Error) {
	type detail struct {
		Type  string `json:"type"`
		Value []byte `json:"value"`
	}
	var body struct {
		Code    string   `json:"code"`
		Message string   `json:"message"`
		Details []detail `json:"details,omitempty"`
	}
	body.Code, body.Message = codeName(e.Code), e.Message
	for _, d := range e.Details {
		body.Details = append(body.Details, detail{strings.TrimPrefix(d.TypeURL, "type.googleapis.com/"), d.Value})
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusTeapot) // nothing follows from it
	_ = json.NewEncoder(w).Encode(body)
}

// codeName puts underscores between the words of a code's name.
func codeName(c status.Code) string {
	var b strings.Builder
	for i, r := range c.String() {
		if 'A' <= r && r <= 'Z' && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToLower(b.String())
}

func add(h http.Header, prefix string, md transport.Metadata) {
	for _, f := range md {
		v := f.Value
		if strings.HasSuffix(f.Key, "-bin") {
			v = base64.StdEncoding.EncodeToString([]byte(v))
		}
		h.Add(prefix+f.Key, v)
	}
}

// guard runs a handler that may panic or end its goroutine.
func guard(f func() transport.Outgoing) transport.Outgoing {
	result := make(chan transport.Outgoing, 1)
	go func() {
		out := transport.Outgoing{Status: &status.Error{Code: status.Internal, Kind: status.Panicked}}
		defer func() {
			_ = recover()
			result <- out
		}()
		out = f()
	}()
	return <-result
}
