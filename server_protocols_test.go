package hull_test

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/spec"
)

// slowImpl is a greeter whose answers wait for release.
type slowImpl struct {
	impl
	release chan struct{}
	started atomic.Int64
}

func (s *slowImpl) Hello(ctx context.Context, r *pb.HelloRequest) (*pb.HelloReply, error) {
	s.started.Add(1)
	<-s.release
	return s.impl.Hello(ctx, r)
}

// TestEveryProtocolIsShed: a full server refuses calls whatever they come by, says in each protocol's words that it did and when to come
// back, and goes on answering health checks.
func TestEveryProtocolIsShed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		g := &slowImpl{release: make(chan struct{})}
		off := false
		n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, g) },
			limited(1, func(s *spec.Service) { s.ServerLimit.Reserve = &off }))
		plain := dialGRPC(t, w)
		go func() { _, _ = pb.NewGreeterClient(plain).Hello(t.Context(), &pb.HelloRequest{Name: "Ada"}) }()
		synctest.Wait()

		millis := func(where, text string) {
			t.Helper()
			if ms, err := strconv.Atoi(text); err != nil || ms < 50 || ms > 151 {
				t.Errorf("%s: come back in %q ms", where, text)
			}
		}
		var trailer metadata.MD
		_, err := pb.NewGreeterClient(plain).Hello(t.Context(), &pb.HelloRequest{Name: "Ada"}, grpc.Trailer(&trailer))
		if grpcstatus.Code(err) != codes.ResourceExhausted || len(trailer.Get("hull-kind")) != 1 || trailer.Get("hull-kind")[0] != "shed" ||
			len(trailer.Get("grpc-retry-pushback-ms")) != 1 {
			t.Errorf("gRPC: %v, %v", err, trailer)
		} else {
			millis("gRPC", trailer.Get("grpc-retry-pushback-ms")[0])
		}
		st, err := pb.NewGreeterClient(plain).Chat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err = st.Recv(); grpcstatus.Code(err) != codes.ResourceExhausted {
			t.Errorf("a stream over gRPC: %v", err)
		}
		for _, h2 := range []bool{false, true} {
			web := dialHTTP(t, w, h2)
			res, body := post(t, web, "/greeter.Greeter/Hello", `{"name":"Ada"}`)
			if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") != "1" || res.Header.Get("X-Envoy-Overloaded") != "true" ||
				res.Header.Get("Hull-Fate") != "not-sent" || !strings.Contains(body, "overloaded") {
				t.Errorf("JSON: %s %v %s", res.Status, res.Header, body)
			}
			millis("JSON", res.Header.Get("Grpc-Retry-Pushback-Ms"))
			for name, opts := range map[string][]connect.ClientOption{"Connect": nil, "gRPC-Web": {connect.WithGRPCWeb()}} {
				c := connect.NewClient[pb.HelloRequest, pb.HelloReply](web, "http://a:80/greeter.Greeter/Hello", opts...)
				_, err := c.CallUnary(t.Context(), connect.NewRequest(&pb.HelloRequest{Name: "Ada"}))
				var e *connect.Error
				if !errors.As(err, &e) || e.Code() != connect.CodeResourceExhausted || e.Meta().Get("Hull-Kind") != "shed" {
					t.Errorf("%s: %v", name, err)
					continue
				}
				millis(name, e.Meta().Get("Grpc-Retry-Pushback-Ms"))
			}
		}
		if _, err := healthpb.NewHealthClient(plain).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
			t.Errorf("health: %v", err)
		}
		if s := n.Server.Snapshot().Admission; g.started.Load() != 1 || s.Refused.Limit != 8 || s.Running != 1 {
			t.Errorf("%d started, %+v", g.started.Load(), s)
		}
		close(g.release)
		time.Sleep(time.Second)
		if s := n.Server.Snapshot().Admission; s.Running != 0 {
			t.Errorf("when all is over: %+v", s)
		}
	})
}

// TestEveryProtocolWaits: a call that finds no place waits for one in the same line, by criticality, whatever it came by.
func TestEveryProtocolWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		g := &slowImpl{release: make(chan struct{})}
		queue := 10
		n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, g) },
			limited(1, func(s *spec.Service) { s.ServerLimit.Queue = &queue }))
		plain, web := pb.NewGreeterClient(dialGRPC(t, w)), dialHTTP(t, w, false)
		native := pb.NewGreeterClient(w.Client("native", bare()).To("greeter"))
		done := make(chan string, 4)
		call := func(name string, f func() error) {
			go func() {
				if err := f(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				done <- name
			}()
			time.Sleep(5 * time.Millisecond)
		}
		grpcCall := func(c pb.GreeterClient, criticality string) func() error {
			return func() error {
				ctx := t.Context()
				if criticality != "" {
					ctx = metadata.AppendToOutgoingContext(ctx, "hull-criticality", criticality)
				}
				_, err := c.Hello(ctx, &pb.HelloRequest{Name: "Ada"})
				return err
			}
		}
		call("first", grpcCall(plain, ""))
		call("gRPC", grpcCall(plain, "sheddable"))
		call("JSON", func() error {
			if res, body := post(t, web, "/greeter.Greeter/Hello", `{"name":"Ada"}`, "Hull-Criticality", "sheddable-plus"); res.StatusCode != http.StatusOK {
				return errors.New(body)
			}
			return nil
		})
		call("native", grpcCall(native, ""))
		if s := n.Server.Snapshot().Admission; s.Waiting != 3 || s.Running != 1 {
			t.Fatalf("%+v", s)
		}
		for i, want := range []string{"first", "native", "JSON", "gRPC"} {
			g.release <- struct{}{}
			if got := <-done; got != want {
				t.Errorf("number %d is %s, want %s", i, got, want)
			}
		}
	})
}
