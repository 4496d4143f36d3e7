package hull_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/hull-go/hull"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/grpctransport"
	"github.com/hull-go/hull/transport/httptransport"
)

// TestLoadOverForeignProtocols is that a caller which asks is told the node's load, in each protocol, and one that does not is not.
func TestLoadOverForeignProtocols(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, &impl{}) })
		c := pb.NewGreeterClient(dialGRPC(t, w))
		const key = transport.HeaderLoadFormat
		for format, answer := range map[string]string{"TEXT": "endpoint-load-metrics", "BIN": "endpoint-load-metrics-bin", "": ""} {
			ctx := t.Context()
			if format != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, key, format)
			}
			var trailer metadata.MD
			if _, err := c.Hello(ctx, &pb.HelloRequest{Name: "Ada"}, grpc.Trailer(&trailer)); err != nil {
				t.Fatal(err)
			}
			said := ""
			for k := range trailer {
				if strings.HasPrefix(k, "endpoint-load") {
					said += k
				}
			}
			if said != answer {
				t.Errorf("gRPC, %q: %v", format, trailer)
			}
		}
		for _, connect := range []string{"", "1"} {
			res, _ := post(t, dialHTTP(t, w, false), "/greeter.Greeter/Hello", `{"name":"Ada"}`, key, "TEXT", "Connect-Protocol-Version", connect)
			if got := res.Header.Get("endpoint-load-metrics"); !strings.HasPrefix(got, "TEXT named_metrics.in_flight=") {
				t.Errorf("HTTP, Connect %q: %v", connect, res.Header)
			}
			res, _ = post(t, dialHTTP(t, w, false), "/greeter.Greeter/Hello", `{"name":"Ada"}`, "Connect-Protocol-Version", connect)
			if got := res.Header.Get("endpoint-load-metrics"); got != "" {
				t.Errorf("HTTP, Connect %q, not asked: %q", connect, got)
			}
		}
	})
}

// TestLoadIsAskedFor is that a client asks for load if its balancer goes by it, whatever carries the calls, and takes it.
func TestLoadIsAskedFor(t *testing.T) {
	for _, strategy := range []string{"prequal", "p2c"} {
		for _, protocol := range []string{"grpc", "http"} {
			t.Run(strategy+" "+protocol, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := hulltest.New(t)
					asked := 0
					w.Serve("greeter", "a", func(s *hull.Server) {
						hull.Handle(s, "greeter.Greeter/Hello", func(ctx context.Context, _ *pb.HelloRequest) (*pb.HelloReply, error) {
							if md, _ := metadata.FromIncomingContext(ctx); len(md.Get(transport.HeaderLoadFormat)) > 0 {
								asked++
							}
							return &pb.HelloReply{}, nil
						})
					})
					dial := w.Network.Host("caller").Dial
					var d transport.Dialer
					d, err := grpctransport.NewDialer(grpctransport.Options{Dial: dial})
					if protocol == "http" {
						d, err = httptransport.NewDialer(httptransport.Options{Dial: dial})
					}
					if err != nil {
						t.Fatal(err)
					}
					doc, err := spec.Parse("test", fmt.Appendf(nil, `{"services": {"greeter": {"balancer": %q}}}`, strategy))
					if err != nil {
						t.Fatal(err)
					}
					c := w.Client("caller", hull.WithDialer(d), hull.WithSpec(doc))
					for range 3 {
						if _, err := hull.Call[pb.HelloReply](t.Context(), c.To("greeter"), "greeter.Greeter/Hello", &pb.HelloRequest{}); err != nil {
							t.Fatal(err)
						}
					}
					want := 0
					if strategy == "prequal" {
						want = 3
					}
					if asked != want {
						t.Errorf("asked %d times, want %d", asked, want)
					}
				})
			})
		}
	}
}
