package hull_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/hulltest"
)

// TestErrorsWithMuchToSayKeepTheirCode is a regression test: details that were more than a caller takes of a trailer cost it the whole answer, and the code.
func TestErrorsWithMuchToSayKeepTheirCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		fail := func(kib int) error {
			infos := []*errdetails.ErrorInfo{{Reason: "first"}}
			st, err := grpcstatus.New(codes.FailedPrecondition, "no").WithDetails(infos[0], &errdetails.DebugInfo{Detail: strings.Repeat("x", kib<<10)})
			if err != nil {
				return err
			}
			return st.Err()
		}
		kib := 0
		i := &impl{hello: func(context.Context, *pb.HelloRequest) (*pb.HelloReply, error) { return nil, fail(kib) }}
		counting := &countingImpl{impl: i, after: func(grpc.ServerStream) error { return fail(kib) }}
		w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, counting) })
		callers := foreigners(t, w)
		for _, limit := range []uint32{4 << 10, 8 << 10, 64 << 10} {
			conn := dialGRPC(t, w, grpc.WithMaxHeaderListSize(limit))
			callers = append(callers, grpcForeigner(fmt.Sprintf("gRPC that takes %d KiB", limit>>10), conn),
				grpcForeigner(fmt.Sprintf("gRPC through a proxy that takes %d KiB", limit>>10), dialGRPC(t, w, grpc.WithMaxHeaderListSize(limit)), "via", "1.1 proxy"))
		}
		for _, kib = range []int{1, 7, 30, 60, 300} {
			for _, f := range callers {
				a := f.hello(t.Context(), "Ada")
				if a.code != codes.FailedPrecondition || a.reason != "first" || !strings.HasPrefix(a.message, "no") {
					t.Errorf("%s, %d KiB: %v %q, reason %q", f.name, kib, a.code, a.message, a.reason)
				}
				if left := strings.Contains(a.message, "details left out"); left != (kib > 40 && (strings.Contains(f.name, "gRPC"))) && !strings.Contains(f.name, "takes") {
					t.Errorf("%s, %d KiB: %q", f.name, kib, a.message)
				}
				if f.count == nil {
					continue
				}
				if a := f.count(t.Context(), 3); a.code != codes.FailedPrecondition || a.reason != "first" || a.n != 3 {
					t.Errorf("%s, a stream, %d KiB: %v %q, reason %q", f.name, kib, a.code, a.message, a.reason)
				}
			}
		}
	})
}

// TestMetadataThatTheCallerDoesNotTake is a regression test: grpc-go resets a stream on which it may not send what a handler says, and tells nobody why.
func TestMetadataThatTheCallerDoesNotTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		var header, trailer metadata.MD
		var fail error
		i := &impl{hello: func(ctx context.Context, _ *pb.HelloRequest) (*pb.HelloReply, error) {
			_, _ = grpc.SetHeader(ctx, header), grpc.SetTrailer(ctx, trailer)
			return &pb.HelloReply{Message: "Hello"}, fail
		}}
		counting := &countingImpl{impl: i, after: func(s grpc.ServerStream) error {
			s.SetTrailer(trailer)
			return fail
		}}
		n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, counting) })
		modest := &http.Transport{DialContext: w.Network.Host("modest").DialContext, Protocols: new(http.Protocols), MaxResponseHeaderBytes: 8 << 10}
		modest.Protocols.SetUnencryptedHTTP2(true)
		defer modest.CloseIdleConnections()
		web := &http.Client{Transport: modest}
		large, small := metadata.Pairs("x-large", strings.Repeat("x", 9<<10)), metadata.Pairs("x-head", "h")
		f := grpcForeigner("", dialGRPC(t, w, grpc.WithMaxHeaderListSize(8<<10)))
		for _, tt := range []struct {
			name            string
			header, trailer metadata.MD
			fail            error
			code, stream    codes.Code
			counted         int64 // by the unary call and the stream
		}{
			{"neither is large", small, small, nil, codes.OK, codes.OK, 0},
			{"a large header", large, small, nil, codes.ResourceExhausted, codes.OK, 1},
			{"a large trailer", small, large, nil, codes.ResourceExhausted, codes.ResourceExhausted, 2},
			{"a failure with a large trailer", small, large, grpcstatus.Error(codes.NotFound, "who?"), codes.NotFound, codes.NotFound, 2},
			{"a failure with a large header", large, small, grpcstatus.Error(codes.NotFound, "who?"), codes.NotFound, codes.NotFound, 1},
		} {
			header, trailer, fail = tt.header, tt.trailer, tt.fail
			if a := jsonForeigner("", web).hello(t.Context(), "Ada"); a.code != tt.code {
				t.Errorf("%s, JSON: %v %q", tt.name, a.code, a.message)
			}
			for _, f := range []foreigner{connectForeigner("Connect", web), connectForeigner("gRPC-Web", web, connect.WithGRPCWeb()),
				grpcForeigner("gRPC through a proxy", dialGRPC(t, w, grpc.WithMaxHeaderListSize(8<<10)), "via", "1.1 proxy")} {
				if a := f.hello(t.Context(), "Ada"); a.code != tt.code {
					t.Errorf("%s, %s: %v %q", tt.name, f.name, a.code, a.message)
				}
				if a := f.count(t.Context(), 3); a.code != tt.stream {
					t.Errorf("%s, %s, a stream: %v %q", tt.name, f.name, a.code, a.message)
				}
			}
			counted := n.Server.Snapshot().Port.TooLarge + tt.counted
			a, s := f.hello(t.Context(), "Ada"), f.count(t.Context(), 3)
			if p := n.Server.Snapshot().Port; a.code != tt.code || s.code != tt.stream || s.n != 3 || p.TooLarge != counted {
				t.Errorf("%s: %v %q; a stream: %v %q, %d messages; %d were counted, want %d", tt.name, a.code, a.message, s.code, s.message, s.n, p.TooLarge, counted)
			}
			if a.code == codes.ResourceExhausted && !strings.Contains(a.message, "over the limit of 8192") {
				t.Errorf("%s: %q", tt.name, a.message)
			}
		}
	})
}

// TestRefusalsThatPagesMayRead is a regression test: a page of an allowed origin could not read why its request was refused for the size of its header.
func TestRefusalsThatPagesMayRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, &impl{}) }, hull.AllowOrigins("https://page.example"),
			hull.WithLimits(hull.Limits{Header: 4 << 10}), hull.MaxRequest(1<<10), hull.HideMethods())
		web := dialHTTP(t, w, false)
		for _, tt := range []struct {
			name, method, path, body string
			header                   []string
			status                   int
		}{
			{"a large header", http.MethodPost, "/greeter.Greeter/Hello", `{}`, []string{"Content-Type", "application/json", "X-Large", strings.Repeat("x", 5<<10)}, 431},
			{"a large header of gRPC-Web", http.MethodPost, "/greeter.Greeter/Hello", enveloped(nil),
				[]string{"Content-Type", "application/grpc-web", "X-Large", strings.Repeat("x", 5<<10)}, 200},
			{"a large header for a page", http.MethodGet, "/page", "", []string{"X-Large", strings.Repeat("x", 5<<10)}, 431},
			{"a large body", http.MethodPost, "/greeter.Greeter/Hello", `{"name":"` + strings.Repeat("x", 2<<10) + `"}`, []string{"Content-Type", "application/json"}, 413},
			{"an unknown type", http.MethodPost, "/greeter.Greeter/Hello", `{}`, []string{"Content-Type", "text/plain"}, 415},
			{"no method", http.MethodPost, "/greeter.Greeter/Nothing", `{}`, []string{"Content-Type", "application/json"}, 404},
			{"nothing", http.MethodGet, "/nothing", "", nil, 404},
			{"a hidden description", http.MethodGet, "/greeter.Greeter/Hello", "", nil, 405},
			{"no such codec", http.MethodGet, "/greeter.Greeter/Hello?encoding=xml&message=", "", nil, 405},
		} {
			for _, origin := range []string{"https://page.example", "https://stranger.example"} {
				req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://a:80"+tt.path, strings.NewReader(tt.body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Origin", origin)
				for kv := range slices.Chunk(tt.header, 2) {
					req.Header.Set(kv[0], kv[1])
				}
				res, err := web.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				allowed, ours := res.Header.Get("Access-Control-Allow-Origin"), origin == "https://page.example"
				if ours && (allowed != origin || res.StatusCode != tt.status) || !ours && allowed != "" {
					t.Errorf("%s from %s: %s, allowed to %q", tt.name, origin, res.Status, allowed)
				}
			}
		}
	})
}

// TestCallersThatTakeLittleHeader: no metadata is never too much.
func TestCallersThatTakeLittleHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, &impl{}) })
		for _, limit := range []uint32{300, 400, 511} {
			for _, via := range [][]string{nil, {"via", "1.1 proxy"}} {
				f := grpcForeigner("", dialGRPC(t, w, grpc.WithMaxHeaderListSize(limit)), via...)
				if a := f.hello(t.Context(), "Ada"); a.code != codes.OK {
					t.Errorf("%d bytes, %v: %v %q", limit, via, a.code, a.message)
				}
				if a := f.count(t.Context(), 3); a.code != codes.OK {
					t.Errorf("%d bytes, %v, a stream: %v %q", limit, via, a.code, a.message)
				}
			}
		}
		if p := n.Server.Snapshot().Port; p.TooLarge != 0 {
			t.Errorf("%d were counted as too large", p.TooLarge)
		}
	})
}

// heady says a large header at the beginning of its streams.
type heady struct{ pb.UnimplementedGreeterServer }

func (heady) Count(_ *pb.CountRequest, s grpc.ServerStreamingServer[pb.CountReply]) error {
	return s.SendHeader(metadata.Pairs("x-large", strings.Repeat("x", 9<<10)))
}

// TestHeadersOfStreamsThatTheCallerDoesNotTake is a regression test: over HTTP they were not counted.
func TestHeadersOfStreamsThatTheCallerDoesNotTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, heady{}) })
		modest := &http.Transport{DialContext: w.Network.Host("modest").DialContext, Protocols: new(http.Protocols), MaxResponseHeaderBytes: 8 << 10}
		modest.Protocols.SetUnencryptedHTTP2(true)
		defer modest.CloseIdleConnections()
		web, counted := &http.Client{Transport: modest}, int64(0)
		for _, f := range []foreigner{grpcForeigner("gRPC", dialGRPC(t, w, grpc.WithMaxHeaderListSize(8<<10))), connectForeigner("Connect", web),
			connectForeigner("gRPC-Web", web, connect.WithGRPCWeb()), grpcForeigner("gRPC through a proxy", dialGRPC(t, w, grpc.WithMaxHeaderListSize(8<<10)), "via", "1.1 proxy")} {
			counted++
			a := f.count(t.Context(), 3)
			if p := n.Server.Snapshot().Port; a.code != codes.ResourceExhausted || !strings.Contains(a.message, "over the limit of ") || p.TooLarge != counted {
				t.Errorf("%s: %v %q; %d were counted, want %d", f.name, a.code, a.message, p.TooLarge, counted)
			}
		}
	})
}
