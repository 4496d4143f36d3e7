package hull_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
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
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/hull-go/hull"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/hulltest"
)

// answer is what a foreign client saw of a call.
type answer struct {
	code    codes.Code
	message string
	reason  string // of the ErrorInfo among the details
	text    string // of the reply
	n       int    // messages of a stream
	header  string // x-head
	trailer string // x-trail-bin
}

// foreigner is a client that is not Hull's.
type foreigner struct {
	name string
	// mayCancel: grpc-go's server resets a stream when its deadline passes, and this client calls that a cancellation unless its own timer fires
	// first, at the same instant.
	mayCancel bool
	hello     func(ctx context.Context, name string) answer
	// count receives a stream; nil if the protocol has none.
	count func(ctx context.Context, n int64) answer
}

// foreigners are clients of the node "a", one for each protocol it speaks.
func foreigners(t *testing.T, w *hulltest.World) []foreigner {
	list := []foreigner{grpcForeigner("gRPC", dialGRPC(t, w)),
		grpcForeigner("gRPC through a proxy", dialGRPC(t, w), "x-forwarded-for", "10.0.0.1")}
	h1, h2 := dialHTTP(t, w, false), dialHTTP(t, w, true)
	list = append(list,
		connectForeigner("Connect over HTTP/1.1", h1),
		connectForeigner("Connect over HTTP/2", h2),
		connectForeigner("Connect with JSON", h1, connect.WithProtoJSON()),
		connectForeigner("Connect with gzip", h2, connect.WithSendGzip()),
		connectForeigner("gRPC-Web over HTTP/1.1", h1, connect.WithGRPCWeb()),
		connectForeigner("gRPC-Web over HTTP/2", h2, connect.WithGRPCWeb()),
		connectForeigner("gRPC-Web with JSON", h1, connect.WithGRPCWeb(), connect.WithProtoJSON()),
		connectForeigner("connect-go's gRPC", dialHTTP(t, w, true), connect.WithGRPC()),
		connectForeigner("connect-go's gRPC with JSON", dialHTTP(t, w, true), connect.WithGRPC(), connect.WithProtoJSON()),
		jsonForeigner("JSON over HTTP/1.1", h1),
		jsonForeigner("JSON over HTTP/2", h2))
	for i := range list {
		list[i].mayCancel = strings.HasPrefix(list[i].name, "connect-go's gRPC")
	}
	return list
}

func grpcForeigner(name string, conn grpc.ClientConnInterface, kv ...string) foreigner {
	c := pb.NewGreeterClient(conn)
	outcome := func(a answer, err error, head, trail metadata.MD) answer {
		st := grpcstatus.Convert(err)
		a.code, a.message = st.Code(), st.Message()
		for _, d := range st.Details() {
			if info, ok := d.(*errdetails.ErrorInfo); ok {
				a.reason = info.GetReason()
			}
		}
		a.header, a.trailer = first(head["x-head"]), first(trail["x-trail-bin"])
		return a
	}
	return foreigner{name: name,
		hello: func(ctx context.Context, name string) answer {
			var head, trail metadata.MD
			rep, err := c.Hello(metadata.AppendToOutgoingContext(ctx, kv...), &pb.HelloRequest{Name: name}, grpc.Header(&head), grpc.Trailer(&trail))
			return outcome(answer{text: rep.GetMessage()}, err, head, trail)
		},
		count: func(ctx context.Context, n int64) (a answer) {
			s, err := c.Count(metadata.AppendToOutgoingContext(ctx, kv...), &pb.CountRequest{UpTo: n})
			if err != nil {
				return outcome(a, err, nil, nil)
			}
			for {
				if _, err = s.Recv(); err != nil {
					break
				}
				a.n++
			}
			if errors.Is(err, io.EOF) {
				err = nil
			}
			head, _ := s.Header()
			return outcome(a, err, head, s.Trailer())
		}}
}

func first(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

func connectForeigner(name string, web *http.Client, opts ...connect.ClientOption) foreigner {
	unary := connect.NewClient[pb.HelloRequest, pb.HelloReply](web, "http://a:80/greeter.Greeter/Hello", opts...)
	stream := connect.NewClient[pb.CountRequest, pb.CountReply](web, "http://a:80/greeter.Greeter/Count", opts...)
	outcome := func(a answer, err error, head, trail http.Header) answer {
		var e *connect.Error
		if errors.As(err, &e) {
			a.code, a.message = codes.Code(e.Code()), e.Message()
			for _, d := range e.Details() {
				if v, derr := d.Value(); derr == nil {
					if info, ok := v.(*errdetails.ErrorInfo); ok {
						a.reason = info.GetReason()
					}
				}
			}
			head, trail = e.Meta(), e.Meta()
		}
		b, _ := connect.DecodeBinaryHeader(trail.Get("X-Trail-Bin"))
		a.header, a.trailer = head.Get("X-Head"), string(b)
		return a
	}
	return foreigner{name: name,
		hello: func(ctx context.Context, name string) (a answer) {
			res, err := unary.CallUnary(ctx, connect.NewRequest(&pb.HelloRequest{Name: name}))
			if err != nil {
				return outcome(a, err, nil, nil)
			}
			a.text = res.Msg.GetMessage()
			return outcome(a, nil, res.Header(), res.Trailer())
		},
		count: func(ctx context.Context, n int64) (a answer) {
			s, err := stream.CallServerStream(ctx, connect.NewRequest(&pb.CountRequest{UpTo: n}))
			if err != nil {
				return outcome(a, err, nil, nil)
			}
			for s.Receive() {
				a.n++
			}
			a = outcome(a, s.Err(), s.ResponseHeader(), s.ResponseTrailer())
			if err := s.Close(); err != nil {
				a.message += err.Error()
			}
			return a
		}}
}

// connectCodes returns the codes by their names in JSON.
func connectCodes() map[string]codes.Code {
	m := map[string]codes.Code{}
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		m[connect.Code(c).String()] = c
	}
	return m
}

func jsonForeigner(name string, web *http.Client) foreigner {
	names := connectCodes()
	return foreigner{name: name, hello: func(ctx context.Context, name string) (a answer) {
		body, err := protojson.Marshal(&pb.HelloRequest{Name: name})
		if err != nil {
			return answer{code: codes.Unknown, message: err.Error()}
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://a:80/greeter.Greeter/Hello", bytes.NewReader(body))
		if err != nil {
			return answer{code: codes.Unknown, message: err.Error()}
		}
		req.Header.Set("Content-Type", "application/json")
		if d, ok := ctx.Deadline(); ok {
			req.Header.Set("Connect-Timeout-Ms", fmt.Sprint(time.Until(d).Milliseconds()))
		}
		res, err := web.Do(req)
		if err != nil {
			if ctx.Err() == nil {
				return answer{code: codes.Unavailable, message: err.Error()}
			}
			return answer{code: grpcstatus.FromContextError(ctx.Err()).Code(), message: err.Error()}
		}
		defer res.Body.Close()
		a.header = res.Header.Get("X-Head")
		b, _ := base64.RawStdEncoding.DecodeString(res.Header.Get("Trailer-X-Trail-Bin"))
		a.trailer = string(b)
		var rep struct {
			Message, Code string
			Details       []struct {
				Type  string
				Value string
			}
		}
		if err := json.NewDecoder(res.Body).Decode(&rep); err != nil {
			if ctx.Err() != nil { // the answer had begun when the time was up
				return answer{code: grpcstatus.FromContextError(ctx.Err()).Code(), message: err.Error()}
			}
			return answer{code: codes.Unknown, message: err.Error()}
		}
		if res.StatusCode == http.StatusOK {
			a.text = rep.Message
			return a
		}
		a.code, a.message = names[rep.Code], rep.Message
		for _, d := range rep.Details {
			raw, _ := base64.RawStdEncoding.DecodeString(d.Value)
			m, err := anypb.UnmarshalNew(&anypb.Any{TypeUrl: "type.googleapis.com/" + d.Type, Value: raw}, proto.UnmarshalOptions{})
			if info, ok := m.(*errdetails.ErrorInfo); ok && err == nil {
				a.reason = info.GetReason()
			}
		}
		return a
	}}
}

// TestStatusSurvivesEveryTranslation: code, message, details, header and trailer of all codes, in every protocol.
func TestStatusSurvivesEveryTranslation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		var code codes.Code
		fail := func() error {
			if code == codes.OK {
				return nil
			}
			st, err := grpcstatus.New(code, "völlig 100 % \"so\"\nüber").WithDetails(&errdetails.ErrorInfo{Reason: code.String()})
			if err != nil {
				return err
			}
			return st.Err()
		}
		i := &impl{hello: func(ctx context.Context, r *pb.HelloRequest) (*pb.HelloReply, error) {
			if err := errors.Join(grpc.SetHeader(ctx, metadata.Pairs("x-head", "h")), grpc.SetTrailer(ctx, metadata.Pairs("x-trail-bin", "\x00\xff"))); err != nil {
				return nil, err
			}
			return &pb.HelloReply{Message: "Hello, " + r.GetName()}, fail()
		}}
		counting := &countingImpl{impl: i, after: func(s grpc.ServerStream) error {
			s.SetTrailer(metadata.Pairs("x-trail-bin", "\x00\xff"))
			return fail()
		}}
		w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, counting) })
		for _, f := range foreigners(t, w) {
			for code = range codes.Unauthenticated + 1 {
				want := answer{header: "h", trailer: "\x00\xff", text: "Hello, Ada"}
				if code != codes.OK {
					want = answer{code: code, message: "völlig 100 % \"so\"\nüber", reason: code.String(), header: "h", trailer: "\x00\xff"}
				}
				if got := f.hello(t.Context(), "Ada"); got != want {
					t.Errorf("%s, %v:\n got %#v\nwant %#v", f.name, code, got, want)
				}
				if f.count == nil {
					continue
				}
				want.text, want.n = "", 3
				got := f.count(t.Context(), 3)
				got.header = "h" // of streams it went out before the failure, and connect-go does not put it into the error
				if got != want {
					t.Errorf("%s, stream, %v:\n got %#v\nwant %#v", f.name, code, got, want)
				}
			}
		}
	})
}

// countingImpl is impl with something to do after the count.
type countingImpl struct {
	*impl
	after func(grpc.ServerStream) error
}

func (s *countingImpl) Count(r *pb.CountRequest, st grpc.ServerStreamingServer[pb.CountReply]) error {
	if err := s.impl.Count(r, st); err != nil {
		return err
	}
	return s.after(st)
}

// TestTimeoutsSurviveEveryTranslation: the handler knows when its caller stops waiting, and its context ends then.
func TestTimeoutsSurviveEveryTranslation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		left := make(chan time.Duration, 1)
		ended := make(chan time.Duration, 1)
		i := &impl{hello: func(ctx context.Context, _ *pb.HelloRequest) (*pb.HelloReply, error) {
			start := time.Now()
			d, ok := ctx.Deadline()
			if !ok {
				return nil, errors.New("no deadline")
			}
			left <- time.Until(d)
			<-ctx.Done()
			ended <- time.Since(start)
			return nil, ctx.Err()
		}}
		w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, i) })
		for _, f := range foreigners(t, w) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			if a := f.hello(ctx, "Ada"); a.code != codes.DeadlineExceeded && (a.code != codes.Canceled || !f.mayCancel) {
				t.Errorf("%s: %+v", f.name, a)
			}
			cancel()
			if d := <-left; d < 250*time.Millisecond || d > 300*time.Millisecond {
				t.Errorf("%s: the handler had %v left of 300 ms", f.name, d)
			}
			if d := <-ended; d > 301*time.Millisecond {
				t.Errorf("%s: the handler's context ended after %v", f.name, d)
			}
		}
	})
}

// TestCancellationSurvivesEveryTranslation: a caller who goes away ends the handler's context.
func TestCancellationSurvivesEveryTranslation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		started, ended := make(chan struct{}), make(chan error)
		i := &impl{hello: func(ctx context.Context, _ *pb.HelloRequest) (*pb.HelloReply, error) {
			started <- struct{}{}
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		}}
		w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, i) })
		for _, f := range foreigners(t, w) {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan answer)
			go func() { done <- f.hello(ctx, "Ada") }()
			<-started
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("%s: the handler's context ended with %v", f.name, err)
			}
			if a := <-done; a.code != codes.Canceled {
				t.Errorf("%s: %+v", f.name, a)
			}
		}
	})
}
