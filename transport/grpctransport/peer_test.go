package grpctransport_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/grpctransport"
	"github.com/hull-go/hull/transport/memnet"
)

const checkMethod = "grpc.health.v1.Health/Check"

func check(ctx context.Context, c transport.Conn, within time.Duration) *status.Error {
	var rep healthpb.HealthCheckResponse
	err := c.Call(ctx, &transport.Request{Method: checkMethod, Codec: codec.Proto{}, Message: &healthpb.HealthCheckRequest{}, PathAttempt: 1,
		Deadline: policy.Now().Add(within)}, &transport.Reply{Message: &rep})
	if err == nil && rep.Status != healthpb.HealthCheckResponse_SERVING {
		err = &status.Error{Message: rep.Status.String()}
	}
	return err
}

// serve starts a plain grpc-go server.
func serve(t *testing.T, ln net.Listener) {
	t.Helper()
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, health.NewServer())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	t.Cleanup(func() { s.Stop(); <-done })
}

// TestUnix is a server behind a Unix socket, whose path is no part of a URL.
func TestUnix(t *testing.T) {
	for _, name := range []string{"s", "a b", "a%b", "a?b", "a#b"} {
		path := filepath.Join(t.TempDir(), name)
		ln, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		serve(t, ln)
		d, err := grpctransport.NewDialer(grpctransport.Options{})
		if err != nil {
			t.Fatal(err)
		}
		c, e := d.Dial(t.Context(), "unix://"+path)
		if e != nil {
			t.Errorf("%q: %v", name, e)
			continue
		}
		if err := check(t.Context(), c, 20*time.Second); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		c.Close()
	}
}

// dialed is a connection to a server on n.
func dialed(t *testing.T, n *memnet.Network, ln net.Listener, o grpctransport.Options) transport.Conn {
	t.Helper()
	o.Dial = n.Host("client").Dial
	d, err := grpctransport.NewDialer(o)
	if err != nil {
		t.Fatal(err)
	}
	c, e := d.Dial(t.Context(), ln.Addr().String())
	if e != nil {
		t.Fatal(e)
	}
	return c
}

// TestSilence is a connection that died without a word: the call that ran out of time on it is the last.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Options{})
		ln, err := n.Host("server").Listen(":80")
		if err != nil {
			t.Fatal(err)
		}
		serve(t, ln)
		c := dialed(t, n, ln, grpctransport.Options{})
		defer func() { c.Close(); <-c.Done() }()
		if err := check(t.Context(), c, time.Second); err != nil {
			t.Fatal(err)
		}
		n.Pair("client", "server").Drop(true)
		if err := check(t.Context(), c, 500*time.Millisecond); err == nil || err.Kind != status.Timeout || err.Fate != status.Maybe || !c.Usable() {
			t.Errorf("a short silence: %+v, usable %v", err, c.Usable())
		}
		if err := check(t.Context(), c, 2*time.Second); err == nil || err.Kind != status.Timeout || c.Usable() {
			t.Errorf("a long silence: %+v, usable %v", err, c.Usable())
		}
	})
}

// TestTooLargeKeepsWhatIsSaid is a regression test: of an answer that called something too large only the message was kept.
func TestTooLargeKeepsWhatIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Options{})
		ln, err := n.Host("server").Listen(":80")
		if err != nil {
			t.Fatal(err)
		}
		refuses := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			switch req.(*healthpb.HealthCheckRequest).GetService() {
			case "refused":
				_ = grpc.SetTrailer(ctx, metadata.Pairs("hull-fate", "not-sent", "hull-kind", "too-large", "x-mine", "1"))
				st, err := grpcstatus.New(codes.ResourceExhausted, "grpc: received message larger than max (9 vs. 4)").WithDetails(&healthpb.HealthCheckRequest{Service: "why"})
				if err != nil {
					t.Error(err)
				}
				return nil, st.Err()
			case "large":
				_ = grpc.SetTrailer(ctx, metadata.Pairs("x-mine", "1"))
				return &healthpb.HealthListResponse{Statuses: map[string]*healthpb.HealthCheckResponse{strings.Repeat("x", 2000): nil}}, nil
			}
			return next(ctx, req)
		}
		s := grpc.NewServer(grpc.UnaryInterceptor(refuses))
		healthpb.RegisterHealthServer(s, health.NewServer())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = s.Serve(ln)
		}()
		defer func() { s.Stop(); <-done }()
		c := dialed(t, n, ln, grpctransport.Options{MaxMessage: 1000})
		defer func() { c.Close(); <-c.Done() }()
		for name, want := range map[string]struct {
			fate    status.Fate
			details int
		}{"refused": {status.NotSent, 1}, "large": {status.Processed, 0}} {
			e := c.Call(t.Context(), &transport.Request{Method: checkMethod, Codec: codec.Proto{}, Message: &healthpb.HealthCheckRequest{Service: name}, PathAttempt: 1},
				&transport.Reply{Message: new(healthpb.HealthCheckResponse)})
			if e == nil || e.Code != status.ResourceExhausted || e.Kind != status.TooLarge || e.Fate != want.fate || len(e.Details) != want.details ||
				!strings.Contains(e.Message, "larger than max") {
				t.Errorf("%s: %+v", name, e)
			}
		}
	})
}

// answering answers calls as it is told.
type answering struct {
	healthpb.UnimplementedHealthServer
	check func(ctx context.Context) error
}

func (a answering) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return &healthpb.HealthCheckResponse{}, a.check(ctx)
}

// answered is what a call of a plain grpc-go server comes to.
func answered(t *testing.T, check func(ctx context.Context) error, o ...grpc.ServerOption) (e *status.Error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Options{})
		ln, err := n.Host("server").Listen(":80")
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer(o...)
		healthpb.RegisterHealthServer(s, answering{check: check})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = s.Serve(ln)
		}()
		defer func() { s.Stop(); <-done }()
		c := dialed(t, n, ln, grpctransport.Options{})
		defer func() { c.Close(); <-c.Done() }()
		e = c.Call(t.Context(), &transport.Request{Method: checkMethod, Codec: codec.Proto{}, Message: &healthpb.HealthCheckRequest{}, PathAttempt: 1},
			&transport.Reply{Message: new(healthpb.HealthCheckResponse)})
	})
	return e
}

// TestAnswerThatSpeaksOfSizes: what a handler says is what arrives, whatever its words are. Only what gRPC's libraries say is taken for theirs.
func TestAnswerThatSpeaksOfSizes(t *testing.T) {
	for message, want := range map[string]status.Kind{
		"the batch is larger than max_batch of this tenant":        status.Answered,
		"upload: grpc: received message larger than max (9 vs. 4)": status.Answered,
		"grpc: received message larger than max (9 vs. 4)":         status.TooLarge,
		"SERVER: Received message larger than max (9 vs. 4)":       status.TooLarge,
	} {
		e := answered(t, func(ctx context.Context) error {
			_ = grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", "1500"))
			return grpcstatus.Error(codes.ResourceExhausted, message)
		})
		if e == nil || e.Kind != want || e.Fate != status.Processed || e.Pushback != 1500*time.Millisecond {
			t.Errorf("%q: %+v, want %v", message, e, want)
		}
	}
}

// TestAnswerTooLargeForItsServer: an answer that its own server may not send for its size is one that is too large.
func TestAnswerTooLargeForItsServer(t *testing.T) {
	e := answered(t, func(context.Context) error { return nil }, grpc.MaxSendMsgSize(1),
		grpc.UnaryInterceptor(func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
			return &healthpb.HealthListResponse{Statuses: map[string]*healthpb.HealthCheckResponse{strings.Repeat("x", 2000): nil}}, nil
		}))
	if e == nil || e.Code != status.ResourceExhausted || e.Kind != status.TooLarge || e.Fate != status.Processed {
		t.Errorf("%+v", e)
	}
}

// TestMuchToSay: an error with long words and many details keeps its code.
func TestMuchToSay(t *testing.T) {
	for _, size := range []int{8 << 10, 16 << 10, 24 << 10} {
		e := answered(t, func(context.Context) error {
			st, err := grpcstatus.New(codes.FailedPrecondition, "no").WithDetails(&healthpb.HealthCheckRequest{Service: strings.Repeat("x", size)})
			if err != nil {
				return err
			}
			return st.Err()
		})
		if e == nil || e.Code != status.FailedPrecondition || e.Fate != status.Processed || len(e.Details) != 1 {
			t.Errorf("details of %d bytes: %v", size, e)
		}
	}
	for _, letters := range []string{"x", "é"} { // a byte that is not ASCII takes three
		message := strings.Repeat(letters, 16<<10/len(letters))
		e := answered(t, func(context.Context) error { return grpcstatus.Error(codes.NotFound, message) })
		if e == nil || e.Code != status.NotFound || e.Fate != status.Processed || e.Message != message {
			t.Errorf("a message of %d bytes %q: %.100v", len(message), letters, e)
		}
	}
}

// TestHeaderOverTheLimit: what a server says beside its answer may be too large, which is no failure of its own. Whether the call was carried out nobody knows.
func TestHeaderOverTheLimit(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		for i := range 7 { // 70 KiB, which are 62 on the wire; of more frames than four grpc-go reads no more
			w.Header().Set(fmt.Sprint("X-Large-", i), strings.Repeat("x", 10<<10))
		}
	}))
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	defer srv.Close()
	d, err := grpctransport.NewDialer(grpctransport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, e := d.Dial(t.Context(), srv.Listener.Addr().String())
	if e != nil {
		t.Fatal(e)
	}
	defer c.Close()
	e = check(t.Context(), c, time.Minute)
	if e == nil || e.Code != status.ResourceExhausted || e.Kind != status.TooLarge || e.Fate != status.Maybe || !c.Usable() {
		t.Errorf("%+v, usable %v", e, c.Usable())
	}
}

// TestZone is a server at an IPv6 address with a zone.
func TestZone(t *testing.T) {
	for _, tt := range []struct{ addr, want string }{
		{"[fe80::1%eth0]:80", "[fe80::1]:80"}, {"[fe80::1]:80", "[fe80::1]:80"}, {"a:80", "a:80"},
	} {
		ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var authority []string
		s := grpc.NewServer()
		healthpb.RegisterHealthServer(s, answering{check: func(ctx context.Context) error {
			authority = metadata.ValueFromIncomingContext(ctx, ":authority")
			return nil
		}})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = s.Serve(ln)
		}()
		d, err := grpctransport.NewDialer(grpctransport.Options{Dial: func(ctx context.Context, to string) (net.Conn, error) {
			if to != tt.addr {
				t.Errorf("dials %s, want %s", to, tt.addr)
			}
			return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
		}})
		if err != nil {
			t.Fatal(err)
		}
		c, e := d.Dial(t.Context(), tt.addr)
		if e != nil {
			t.Fatal(e)
		}
		e = c.Call(t.Context(), &transport.Request{Method: checkMethod, Codec: codec.Proto{}, Message: &healthpb.HealthCheckRequest{}, PathAttempt: 1},
			&transport.Reply{Message: new(healthpb.HealthCheckResponse)})
		c.Close()
		s.Stop()
		<-done
		if e != nil || len(authority) != 1 || authority[0] != tt.want {
			t.Errorf("%s: the server is called %q, want %q; %v", tt.addr, authority, tt.want, e)
		}
	}
}

func TestBadOptions(t *testing.T) {
	for want, o := range map[string]grpctransport.Options{
		"MaxMessage": {MaxMessage: -1}, "MaxRequest": {MaxRequest: 1 << 31}, "MaxHeader": {MaxHeader: -1}, "Keepalive": {Keepalive: time.Second},
		"KeepaliveTimeout": {KeepaliveTimeout: -1}, "HandshakeTimeout": {HandshakeTimeout: -1},
	} {
		if _, err := grpctransport.NewDialer(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
