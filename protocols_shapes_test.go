package hull_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
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

// shapely fails Sum and Chat at their end if it is told so, and says a trailer with both.
type shapely struct {
	impl
	fail func() error
}

func (s *shapely) Sum(st grpc.ClientStreamingServer[pb.SumRequest, pb.SumReply]) error {
	st.SetTrailer(metadata.Pairs("x-trail-bin", "\x00\xff"))
	if err := s.fail(); err != nil {
		for rerr := error(nil); rerr == nil; {
			_, rerr = st.Recv()
		}
		return err
	}
	return s.impl.Sum(st)
}

func (s *shapely) Chat(st grpc.BidiStreamingServer[pb.ChatMessage, pb.ChatMessage]) error {
	st.SetTrailer(metadata.Pairs("x-trail-bin", "\x00\xff"))
	return errors.Join(s.impl.Chat(st), s.fail())
}

// TestConnectShapes: connect-go's client sends streams of messages in each of its protocols, small and large, compressed and not, and hears how they ended.
func TestConnectShapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		failing := false
		s := &shapely{fail: func() error {
			if !failing {
				return nil
			}
			st, err := grpcstatus.New(codes.Aborted, "völlig").WithDetails(&errdetails.ErrorInfo{Reason: "R"})
			if err != nil {
				return err
			}
			return st.Err()
		}}
		w.Serve("greeter", "a", func(srv *hull.Server) { pb.RegisterGreeterServer(srv, s) })
		// ended checks the error, details and trailer that a stream ended with.
		ended := func(name string, err error, trailer http.Header) {
			t.Helper()
			var e *connect.Error
			if failing && (!errors.As(err, &e) || e.Code() != connect.CodeAborted || e.Message() != "völlig" || len(e.Details()) != 1) || !failing && err != nil {
				t.Errorf("%s, failing %v: %v", name, failing, err)
			}
			if e != nil {
				trailer = e.Meta()
			}
			if b, err := connect.DecodeBinaryHeader(trailer.Get("X-Trail-Bin")); err != nil || string(b) != "\x00\xff" {
				t.Errorf("%s, failing %v: trailer %q, %v", name, failing, b, err)
			}
		}
		for _, h2 := range []bool{false, true} {
			for name, opts := range map[string][]connect.ClientOption{"Connect": nil, "Connect with JSON": {connect.WithProtoJSON()}, "Connect with gzip": {connect.WithSendGzip()},
				"gRPC-Web": {connect.WithGRPCWeb()}, "gRPC-Web with gzip": {connect.WithGRPCWeb(), connect.WithSendGzip()},
				"gRPC": {connect.WithGRPC()}, "gRPC with gzip": {connect.WithGRPC(), connect.WithSendGzip()}} {
				if !h2 && strings.HasPrefix(name, "gRPC") && !strings.HasPrefix(name, "gRPC-Web") {
					continue // needs HTTP/2
				}
				web := dialHTTP(t, w, h2)
				for _, failing = range []bool{false, true} {
					sum := connect.NewClient[pb.SumRequest, pb.SumReply](web, "http://a:80/greeter.Greeter/Sum", opts...).CallClientStream(t.Context())
					for i := range int64(100) {
						if err := sum.Send(&pb.SumRequest{N: i}); err != nil && !errors.Is(err, io.EOF) {
							t.Fatalf("%s: %v", name, err)
						}
					}
					rep, err := sum.CloseAndReceive()
					if err == nil {
						ended(name+", many to one", err, rep.Trailer())
						if rep.Msg.GetSum() != 4950 {
							t.Errorf("%s: %v", name, rep.Msg)
						}
					} else {
						ended(name+", many to one", err, nil)
					}
					if !h2 {
						continue // messages both ways need HTTP/2
					}
					chat := connect.NewClient[pb.ChatMessage, pb.ChatMessage](web, "http://a:80/greeter.Greeter/Chat", opts...).CallBidiStream(t.Context())
					for _, size := range []int{0, 1, 100, 3 << 20} {
						text := strings.Repeat("x", size)
						if err := chat.Send(&pb.ChatMessage{Text: text}); err != nil {
							t.Fatalf("%s, %d bytes: %v", name, size, err)
						}
						if m, err := chat.Receive(); err != nil || m.GetText() != "re: "+text {
							t.Fatalf("%s, %d bytes: %v", name, size, err)
						}
					}
					_ = chat.CloseRequest()
					if _, err = chat.Receive(); errors.Is(err, io.EOF) {
						err = nil
					}
					ended(name+", both ways", err, chat.ResponseTrailer())
					_ = chat.CloseResponse()
				}
			}
		}
	})
}

// TestStreamsEndInEveryTranslation: a stream's handler knows when its caller stops waiting, its context ends then, or when the caller goes away, and the caller hears
// what happened.
func TestStreamsEndInEveryTranslation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		left, ended := make(chan time.Duration, 1), make(chan error, 1)
		counting := &countingImpl{impl: &impl{}, after: func(s grpc.ServerStream) error {
			d, ok := s.Context().Deadline()
			if !ok {
				d = time.Now()
			}
			left <- time.Until(d)
			<-s.Context().Done()
			ended <- s.Context().Err()
			return s.Context().Err()
		}}
		w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, counting) })
		for _, f := range foreigners(t, w) {
			if f.count == nil {
				continue
			}
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			a := f.count(ctx, 3)
			cancel()
			if d, err := <-left, <-ended; a.code != codes.DeadlineExceeded && (a.code != codes.Canceled || !f.mayCancel) || a.n != 3 ||
				d < 250*time.Millisecond || d > 300*time.Millisecond || err == nil || time.Since(start) > 301*time.Millisecond {
				t.Errorf("%s: %+v after %v; the handler had %v left and ended with %v", f.name, a, time.Since(start), d, err)
			}
			ctx, cancel = context.WithCancel(t.Context())
			done := make(chan answer)
			go func() { done <- f.count(ctx, 3) }()
			<-left
			time.Sleep(time.Second)
			start = time.Now()
			cancel()
			if a, err := <-done, <-ended; a.code != codes.Canceled || a.n != 3 || !errors.Is(err, context.Canceled) || time.Since(start) > time.Second {
				t.Errorf("%s, cancelled: %+v after %v; the handler ended with %v", f.name, a, time.Since(start), err)
			}
		}
	})
}
