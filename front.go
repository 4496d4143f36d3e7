package hull

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hull-go/hull/internal/grpcfront"
	"github.com/hull-go/hull/internal/oneport"
	"github.com/hull-go/hull/internal/webfront"
	"github.com/hull-go/hull/transport/muxtransport"
)

// idleTimeout is how long an HTTP connection is kept for its next request.
const idleTimeout = 2 * time.Minute

// front serves all protocols on a server's one port: the port tells them apart, and each has a server of its own in front of
// the same handler.
type front struct {
	port  *oneport.Port
	wire  *muxtransport.Server // the native protocol
	grpc  *grpcfront.Server
	web   *webfront.Handler
	http  *http.Server
	conns *oneport.Handed // of http
	log   *slog.Logger
	wg    sync.WaitGroup
}

func newFront(ln net.Listener, s *Server) (*front, error) {
	h := &handler{s}
	mux := s.opt.mux
	mux.MaxMessage, mux.MaxHeader, mux.MaxCalls = s.opt.maxRequest(), s.opt.limits.header(), s.opt.limits.streams()
	mux.HandshakeTimeout, mux.WriteTimeout = s.opt.limits.Handshake, s.opt.limits.SlowReader
	mux.FrameTimeout, mux.MaxResets, mux.MaxPings = s.opt.limits.SlowSender, s.opt.limits.Resets, s.opt.limits.Pings
	mux.Instance = s.instance
	wire, err := muxtransport.NewServer(h, mux)
	if err != nil {
		return nil, err
	}
	panics := mux.Logger
	if panics == nil {
		panics = slog.Default()
	}
	methods := s.foreignMethods()
	f := &front{wire: wire, log: s.log, conns: oneport.NewHanded(ln.Addr())}
	f.web, err = webfront.New(h, methods, webfront.Options{MaxMessage: mux.MaxMessage, MaxHeader: mux.MaxHeader, SlowSender: s.opt.limits.slowSender(),
		SlowReader: s.opt.limits.slowReader(), Origins: s.opt.origins,
		Next: s.opt.http, Service: s.service, Hidden: s.opt.hidden, Unknown: h.unknownCall, Logger: panics})
	if err != nil {
		return nil, err
	}
	f.grpc = grpcfront.New(h, methods, ln.Addr(), grpcfront.Options{MaxMessage: mux.MaxMessage, MaxHeader: mux.MaxHeader, MaxStreams: mux.MaxCalls,
		Handshake: s.opt.limits.handshake(), Unknown: h.unknownCall, Logger: panics})
	f.http = &http.Server{Handler: s.probes(f.web), ReadHeaderTimeout: s.opt.limits.handshake(), IdleTimeout: idleTimeout, MaxHeaderBytes: mux.MaxHeader,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), ConnContext: webfront.ConnContext, ConnState: webfront.ConnState, Protocols: new(http.Protocols),
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: mux.MaxCalls, SendPingTimeout: time.Minute, PingTimeout: 10 * time.Second}}
	f.http.Protocols.SetHTTP1(true)
	f.http.Protocols.SetUnencryptedHTTP2(true) // what was encrypted has been decrypted by the port
	l := s.opt.limits
	f.port, err = oneport.New(ln, muxtransport.Magic[0], oneport.Protocols{Native: wire.ServeConn, GRPC: f.grpc.ServeConn, HTTP: f.conns.Hand},
		oneport.Options{TLS: s.opt.tls, Handshake: l.Handshake, MaxConns: l.Conns, MaxConnsPerPeer: l.ConnsPerPeer, MaxWaiting: l.WaitingConns,
			SlowReader: l.SlowReader, SlowSender: l.SlowSender, MaxResets: l.Resets, MaxControl: l.ControlFrames, MaxHeader: l.header(), MaxStreams: l.streams(), Logger: s.log})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// closeGrace is how long the goroutines of connections may take to end when these have been closed: a handler that does not
// listen to its context must not keep the program from ending.
const closeGrace = time.Second

// wait waits for the goroutines of all connections, after serve has returned and everything is closed.
func (f *front) wait() {
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	done := make(chan struct{})
	go func() {
		f.wg.Wait()
		f.port.Wait()
		close(done)
	}()
	err := errors.Join(f.wire.Wait(ctx), f.grpc.Wait(ctx), f.web.Wait(ctx))
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		f.log.Warn("a handler does not end, although its connection is closed and its context has ended; not waiting for it")
	}
}

// serve accepts until the listener is closed or fails.
func (f *front) serve() error {
	f.wg.Go(func() { _ = f.http.Serve(f.conns) }) // ends with drain or close
	return f.port.Serve()
}

// drain stops accepting and lets what is under way finish until ctx ends. The protocols do it side by side: a page that is never done must not
// hold up the calls.
func (f *front) drain(ctx context.Context) error {
	f.port.StopAccepting()
	errs := make([]error, 3)
	var wg sync.WaitGroup
	for i, drain := range []func(context.Context) error{f.wire.Drain, f.grpc.Drain, f.http.Shutdown} {
		wg.Go(func() { errs[i] = drain(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// close ends everything at once.
func (f *front) close() {
	f.port.StopAccepting()
	f.http.Close()
	f.grpc.Close()
	f.wire.Close()
}
