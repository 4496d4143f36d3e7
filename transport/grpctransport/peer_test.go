package grpctransport_test

import (
	"context"
	"net"
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

// TestUnix is a server behind a Unix socket.
func TestUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
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
		t.Fatal(e)
	}
	defer c.Close()
	if err := check(t.Context(), c, 20*time.Second); err != nil {
		t.Error(err)
	}
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
		d, err := grpctransport.NewDialer(grpctransport.Options{Dial: n.Host("client").Dial})
		if err != nil {
			t.Fatal(err)
		}
		c, e := d.Dial(t.Context(), ln.Addr().String())
		if e != nil {
			t.Fatal(e)
		}
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
		d, err := grpctransport.NewDialer(grpctransport.Options{Dial: n.Host("client").Dial, MaxMessage: 1000})
		if err != nil {
			t.Fatal(err)
		}
		c, e := d.Dial(t.Context(), ln.Addr().String())
		if e != nil {
			t.Fatal(e)
		}
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
