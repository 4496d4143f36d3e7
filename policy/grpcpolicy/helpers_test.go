package grpcpolicy_test

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hull-go/hull/internal/echopb"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/grpcpolicy"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/transport/memnet"
)

// echo is a service whose one unary method does what f says. Its stream "/echo.Echo/Stream" sends back what it gets.
type echo struct {
	echopb.UnimplementedEchoServer
	f func(context.Context, *echopb.EchoMessage) (*echopb.EchoMessage, error)
}

func (e *echo) Echo(ctx context.Context, m *echopb.EchoMessage) (*echopb.EchoMessage, error) {
	return e.f(ctx, m)
}

// desc is the service with a stream beside its method.
func desc() *grpc.ServiceDesc {
	d := echopb.Echo_ServiceDesc
	d.Streams = []grpc.StreamDesc{{StreamName: "Stream", ServerStreams: true, ClientStreams: true, Handler: func(_ any, ss grpc.ServerStream) error {
		for {
			m := new(echopb.EchoMessage)
			if err := ss.RecvMsg(m); err != nil {
				return nil //nolint:nilerr // the client has said all
			}
			if m.Text == "panic" {
				panic("no luck")
			}
			if err := ss.SendMsg(m); err != nil {
				return err
			}
		}
	}}}
	return &d
}

type world struct {
	net  *memnet.Network
	b    *memnet.Host
	conn *grpc.ClientConn
}

// begin serves e on a network in memory and connects to it. It belongs in a synctest bubble; end ends it.
func begin(t *testing.T, e *echo, server []grpc.ServerOption, client []grpc.DialOption) (w *world, end func()) {
	t.Helper()
	w = &world{net: memnet.New(memnet.Options{})}
	a := w.net.Host("a")
	w.b = w.net.Host("b")
	l, err := w.b.Listen(":80")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(server...)
	srv.RegisterService(desc(), e)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(l)
	}()
	client = append(client, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return a.DialContext(ctx, "tcp", addr) }))
	if w.conn, err = grpc.NewClient("passthrough:///b:80", client...); err != nil {
		t.Fatal(err)
	}
	return w, func() {
		_ = w.conn.Close()
		srv.Stop()
		<-served
		<-time.After(time.Second) // handlers may outlive their calls for a moment
	}
}

func pipeline(t *testing.T, o policy.Options) *policy.Pipeline {
	t.Helper()
	p, err := policy.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func retries(t *testing.T) policy.Retries {
	t.Helper()
	r, err := retry.New(retry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func places(t *testing.T, o concurrency.Options) *concurrency.Limiter {
	t.Helper()
	l, err := concurrency.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func server(t *testing.T, o policy.Options, so grpcpolicy.ServerOptions) []grpc.ServerOption {
	t.Helper()
	s, err := grpcpolicy.NewServer(pipeline(t, o), so)
	if err != nil {
		t.Fatal(err)
	}
	return s.ServerOptions()
}
