package hull_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

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

// asked is what a server of any kind is asked, and answers: the header x-head, the trailer x-trail-bin, and the error of do.
type asked struct {
	do func(context.Context) error
}

func (a asked) greeter() pb.GreeterServer {
	i := &impl{hello: func(ctx context.Context, r *pb.HelloRequest) (*pb.HelloReply, error) {
		if err := errors.Join(grpc.SetHeader(ctx, metadata.Pairs("x-head", "h")), grpc.SetTrailer(ctx, metadata.Pairs("x-trail-bin", "\x00\xff"))); err != nil {
			return nil, err
		}
		return &pb.HelloReply{Message: "Hello, " + r.GetName()}, a.do(ctx)
	}}
	return &countingImpl{impl: i, after: func(s grpc.ServerStream) error {
		s.SetTrailer(metadata.Pairs("x-trail-bin", "\x00\xff"))
		return a.do(s.Context())
	}}
}

// toConnectGo is an error as users of connect-go make it.
func toConnectGo(err error) error {
	if err == nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err // connect-go knows these
	}
	st := grpcstatus.Convert(err)
	e := connect.NewError(connect.Code(st.Code()), errors.New(st.Message()))
	for _, a := range st.Proto().GetDetails() {
		if d, derr := connect.NewErrorDetail(a); derr == nil {
			e.AddDetail(d)
		}
	}
	return e
}

// connectGo serves on "a" by connect-go alone.
func (a asked) connectGo(t *testing.T, w *hulltest.World) {
	t.Helper()
	mux := http.NewServeMux()
	say := func(head, trail http.Header) {
		head.Set("X-Head", "h")
		trail.Set("X-Trail-Bin", connect.EncodeBinaryHeader([]byte("\x00\xff")))
	}
	mux.Handle("/greeter.Greeter/Hello", connect.NewUnaryHandler("/greeter.Greeter/Hello",
		func(ctx context.Context, r *connect.Request[pb.HelloRequest]) (*connect.Response[pb.HelloReply], error) {
			if info, ok := connect.CallInfoForHandlerContext(ctx); ok {
				say(info.ResponseHeader(), info.ResponseTrailer())
			}
			if err := a.do(ctx); err != nil {
				return nil, toConnectGo(err)
			}
			return connect.NewResponse(&pb.HelloReply{Message: "Hello, " + r.Msg.GetName()}), nil
		}))
	mux.Handle("/greeter.Greeter/Count", connect.NewServerStreamHandler("/greeter.Greeter/Count",
		func(ctx context.Context, r *connect.Request[pb.CountRequest], s *connect.ServerStream[pb.CountReply]) error {
			say(s.ResponseHeader(), s.ResponseTrailer())
			for i := range r.Msg.GetUpTo() {
				if err := s.Send(&pb.CountReply{N: i + 1}); err != nil {
					return err
				}
			}
			return toConnectGo(a.do(ctx))
		}))
	ln, err := w.Network.Host("a").Listen(":80")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute, Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close() })
}

// serve starts a server of that kind on "a", and returns Hull's clients of it, one for each protocol that it speaks.
func (a asked) serve(t *testing.T, w *hulltest.World, kind string) (callers []foreigner) {
	t.Helper()
	protocols := []string{"gRPC", "JSON", "native"}
	switch kind {
	case "Hull":
		w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, a.greeter()) })
	case "grpc-go":
		ln, err := w.Network.Host("a").Listen(":80")
		if err != nil {
			t.Fatal(err)
		}
		g := grpc.NewServer()
		pb.RegisterGreeterServer(g, a.greeter())
		go func() { _ = g.Serve(ln) }()
		t.Cleanup(g.Stop)
		protocols = protocols[:1]
	case "connect-go":
		a.connectGo(t, w)
		protocols = protocols[:2]
	}
	for _, protocol := range protocols {
		c := w.Client(protocol, hull.WithDialer(dialers(t, w, protocol)[protocol]))
		f := grpcForeigner(protocol, c.To("hull://a:80"))
		if protocol == "JSON" {
			f.count = nil // unary calls only
		}
		callers = append(callers, f)
	}
	return callers
}

// kinds are the servers that Hull's client is tried with.
var kinds = []string{"Hull", "grpc-go", "connect-go"}

// TestStatusReachesHullsClient: code, message, details, header and trailer of all codes, from every kind of server, over each protocol that it speaks.
func TestStatusReachesHullsClient(t *testing.T) {
	for _, kind := range kinds {
		synctest.Test(t, func(t *testing.T) {
			w := hulltest.New(t)
			var code codes.Code
			callers := asked{func(context.Context) error {
				if code == codes.OK {
					return nil
				}
				st, err := grpcstatus.New(code, "völlig 100 % \"so\"\nüber").WithDetails(&errdetails.ErrorInfo{Reason: code.String()})
				if err != nil {
					return err
				}
				return st.Err()
			}}.serve(t, w, kind)
			for _, f := range callers {
				for code = range codes.Unauthenticated + 1 {
					want := answer{header: "h", trailer: "\x00\xff", text: "Hello, Ada"}
					if code != codes.OK {
						want.code, want.message, want.reason, want.text = code, "völlig 100 % \"so\"\nüber", code.String(), ""
					}
					if got := f.hello(t.Context(), "Ada"); got != want {
						t.Errorf("%s, %s, %v:\n got %#v\nwant %#v", kind, f.name, code, got, want)
					}
					if f.count == nil {
						continue
					}
					want.text, want.n = "", 3
					got := f.count(t.Context(), 3)
					if got.header = "h"; got != want { // the handler of Count says none
						t.Errorf("%s, %s, a stream, %v:\n got %#v\nwant %#v", kind, f.name, code, got, want)
					}
					time.Sleep(time.Minute) // what one failure does to the next call is not what is tested here
				}
			}
		})
	}
}

// TestEndsReachEveryServer: a server learns how long Hull's client waits, and when it stops waiting, whatever the server is; the client says what happened.
func TestEndsReachEveryServer(t *testing.T) {
	for _, kind := range kinds {
		for _, cancelled := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				left, ended := make(chan time.Duration, 10), make(chan time.Duration, 10)
				callers := asked{func(ctx context.Context) error {
					start := time.Now()
					d, _ := ctx.Deadline()
					left <- time.Until(d)
					<-ctx.Done()
					ended <- time.Since(start)
					return ctx.Err()
				}}.serve(t, w, kind)
				for _, f := range callers {
					calls := []func(context.Context) answer{func(ctx context.Context) answer { return f.hello(ctx, "Ada") }}
					if f.count != nil {
						calls = append(calls, func(ctx context.Context) answer { return f.count(ctx, 3) })
					}
					for _, call := range calls {
						ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
						want := codes.DeadlineExceeded
						if cancelled {
							want = codes.Canceled
							time.AfterFunc(100*time.Millisecond, cancel)
						}
						start := time.Now()
						a := call(ctx)
						if took := time.Since(start); a.code != want || took > 301*time.Millisecond {
							t.Errorf("%s, %s, cancelled %v: %v %q after %v", kind, f.name, cancelled, a.code, a.message, took)
						}
						cancel()
						if d := <-left; d <= 0 || d > 300*time.Millisecond {
							t.Errorf("%s, %s: the handler had %v left of 300 ms", kind, f.name, d)
						}
						if d := <-ended; d > 301*time.Millisecond || cancelled && d > 101*time.Millisecond {
							t.Errorf("%s, %s, cancelled %v: the handler's context ended after %v", kind, f.name, cancelled, d)
						}
						time.Sleep(time.Minute)
					}
				}
			})
		}
	}
}
