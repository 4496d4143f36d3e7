package hull_test

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/status"
)

// TestGRPCShapes: a plain grpc-go client uses all shapes of methods, over grpc-go's server and, as a proxy does, over net/http.
func TestGRPCShapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		var seen []string
		w.Serve("greeter", "a", both,
			hull.Intercept(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				seen = append(seen, info.FullMethod)
				return next(ctx, req)
			}),
			hull.InterceptStream(func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
				seen = append(seen, info.FullMethod)
				return next(srv, ss)
			}))
		for _, proxy := range []bool{false, true} {
			seen = nil
			conn := dialGRPC(t, w)
			c := pb.NewGreeterClient(conn)
			ctx := t.Context()
			if proxy {
				ctx = metadata.AppendToOutgoingContext(ctx, "via", "1.1 proxy")
			}
			for _, n := range []int{0, 1 << 10, 3 << 20} {
				name := strings.Repeat("x", n)
				for _, opts := range [][]grpc.CallOption{nil, {grpc.UseCompressor(gzip.Name)}} {
					rep, err := c.Hello(ctx, &pb.HelloRequest{Name: name}, opts...)
					if err != nil || rep.GetMessage() != "Hello, "+name {
						t.Errorf("%d bytes: %v", n, err)
					}
				}
			}
			if _, err := c.Hello(ctx, &pb.HelloRequest{Name: strings.Repeat("x", 5<<20)}); grpcstatus.Code(err) != codes.ResourceExhausted {
				t.Errorf("5 MiB: %v", err)
			}
			if _, err := c.Hello(ctx, &pb.HelloRequest{Name: strings.Repeat("x", 5<<20)}, grpc.UseCompressor(gzip.Name)); grpcstatus.Code(err) != codes.ResourceExhausted {
				t.Errorf("5 MiB in few: %v", err)
			}
			count, err := c.Count(ctx, &pb.CountRequest{UpTo: 1000})
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for {
				if _, err = count.Recv(); err != nil {
					break
				}
				n++
			}
			if n != 1000 || !errors.Is(err, io.EOF) {
				t.Errorf("server stream: %d, %v", n, err)
			}
			sum, err := c.Sum(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for i := range int64(100) {
				if err := sum.Send(&pb.SumRequest{N: i}); err != nil {
					t.Fatal(err)
				}
			}
			if rep, err := sum.CloseAndRecv(); err != nil || rep.GetSum() != 4950 {
				t.Errorf("client stream: %v, %v", rep, err)
			}
			chat, err := c.Chat(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for range 10 {
				if err := chat.Send(&pb.ChatMessage{Text: "a"}); err != nil {
					t.Fatal(err)
				}
				if m, err := chat.Recv(); err != nil || m.GetText() != "re: a" {
					t.Fatalf("both ways: %v, %v", m, err)
				}
			}
			if err := chat.CloseSend(); err != nil {
				t.Error(err)
			}
			if _, err := chat.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("the end: %v", err)
			}
			var rep []byte
			if err := conn.Invoke(ctx, "/typed.Greeter/Hello", []byte(`{"Name":"Ada"}`), &rep, jsonCalls()); err != nil || !strings.Contains(string(rep), "typed Ada") {
				t.Errorf("a Go function: %s, %v", rep, err)
			}
			if err := conn.Invoke(ctx, "/typed.Greeter/Hello", &pb.HelloRequest{}, &pb.HelloReply{}); grpcstatus.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "speaks JSON") {
				t.Errorf("protobuf to a Go function: %v", err)
			}
			if err := conn.Invoke(ctx, "/greeter.Greeter/Helo", &pb.HelloRequest{}, &pb.HelloReply{}); grpcstatus.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "did you mean") {
				t.Errorf("an unknown method: %v", err)
			}
			if want := "/greeter.Greeter/Hello /greeter.Greeter/Count /greeter.Greeter/Sum /greeter.Greeter/Chat /typed.Greeter/Hello"; compact(seen) != want {
				t.Errorf("middleware saw %s, want %s", compact(seen), want)
			}
		}
	})
}

// TestFarDeadlines: who has all the time that there is to say is served, whatever it speaks.
func TestFarDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", both)
		long, cancel := context.WithTimeout(t.Context(), math.MaxInt64)
		defer cancel()
		far, cancel := context.WithDeadline(t.Context(), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC))
		defer cancel()
		native, foreign := pb.NewGreeterClient(w.Client("caller").To("greeter")), pb.NewGreeterClient(dialGRPC(t, w))
		for name, ctx := range map[string]context.Context{"292 years": long, "the year 9999": far} {
			if _, err := native.Hello(ctx, &pb.HelloRequest{Name: "Ada"}); err != nil {
				t.Errorf("native, %s: %v", name, err)
			}
			if _, err := foreign.Hello(ctx, &pb.HelloRequest{Name: "Ada"}); err != nil {
				t.Errorf("gRPC, %s: %v", name, err)
			}
			if _, err := foreign.Hello(metadata.AppendToOutgoingContext(ctx, "via", "1.1 proxy"), &pb.HelloRequest{Name: "Ada"}); err != nil {
				t.Errorf("gRPC through a proxy, %s: %v", name, err)
			}
		}
		for _, timeout := range []string{"99999999H", "2562047H", "2100000H"} {
			if res, body := post(t, dialHTTP(t, w, false), "/typed.Greeter/Hello", `{"Name":"Ada"}`, "Grpc-Timeout", timeout); res.StatusCode != http.StatusOK {
				t.Errorf("JSON, %s: %s %s", timeout, res.Status, body)
			}
		}
	})
}

// compact joins names, neighbours that are the same once.
func compact(names []string) string {
	var b strings.Builder
	for i, n := range names {
		if i == 0 || n != names[i-1] {
			b.WriteString(" " + n)
		}
	}
	return strings.TrimSpace(b.String())
}

// TestFactsOverForeignProtocols: what retry decides from travels in trailers and headers.
func TestFactsOverForeignProtocols(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("leaf", "b", func(s *hull.Server) {
			hull.Handle(s, "leaf.Leaf/Fail", func(context.Context, *helloRequest) (*helloReply, error) {
				return nil, status.Errorf(status.Internal, "broken")
			})
		})
		inner := w.Client("a-client")
		w.Serve("greeter", "a", func(s *hull.Server) {
			both(s)
			hull.Handle(s, "typed.Greeter/Below", func(ctx context.Context, r *helloRequest) (*helloReply, error) {
				return hull.Call[helloReply](ctx, inner.To("leaf"), "leaf.Leaf/Fail", r)
			})
		})
		for _, proxy := range []bool{false, true} {
			conn := dialGRPC(t, w)
			ctx := t.Context()
			if proxy {
				ctx = metadata.AppendToOutgoingContext(ctx, "via", "1.1 proxy")
			}
			var trail metadata.MD
			var rep []byte
			_ = conn.Invoke(ctx, "/typed.Greeter/Hello", []byte(`{"Name":"busy"}`), &rep, jsonCalls(), grpc.Trailer(&trail))
			if got := strings.Join(trail["grpc-retry-pushback-ms"], ","); got != "1500" {
				t.Errorf("proxy %v: pushback %q in %v", proxy, got, trail)
			}
			_ = conn.Invoke(ctx, "/typed.Greeter/Below", []byte(`{}`), &rep, jsonCalls(), grpc.Trailer(&trail))
			if got := strings.Join(trail["hull-origin"], ","); got != "downstream" {
				t.Errorf("proxy %v: origin %q in %v", proxy, got, trail)
			}
		}
		res, body := post(t, dialHTTP(t, w, false), "/typed.Greeter/Below", `{}`)
		if res.Header.Get("Hull-Origin") != "downstream" || res.StatusCode != http.StatusInternalServerError {
			t.Errorf("%s %v: %s", res.Status, res.Header, body)
		}
	})
}
