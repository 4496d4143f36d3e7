package hull_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/status"
)

// impl is a service as anybody who uses grpc writes it.
type impl struct {
	pb.UnimplementedGreeterServer
	hello func(context.Context, *pb.HelloRequest) (*pb.HelloReply, error)
}

func (s *impl) Hello(ctx context.Context, r *pb.HelloRequest) (*pb.HelloReply, error) {
	if s.hello != nil {
		return s.hello(ctx, r)
	}
	return &pb.HelloReply{Message: "Hello, " + r.GetName()}, nil
}

func (s *impl) Count(r *pb.CountRequest, st grpc.ServerStreamingServer[pb.CountReply]) error {
	for i := range r.GetUpTo() {
		if err := st.Send(&pb.CountReply{N: i + 1}); err != nil {
			return err
		}
	}
	return nil
}

func (s *impl) Sum(st grpc.ClientStreamingServer[pb.SumRequest, pb.SumReply]) error {
	var sum int64
	for {
		m, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return st.SendAndClose(&pb.SumReply{Sum: sum})
		}
		if err != nil {
			return err
		}
		sum += m.GetN()
	}
}

func (s *impl) Chat(st grpc.BidiStreamingServer[pb.ChatMessage, pb.ChatMessage]) error {
	for {
		m, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := st.Send(&pb.ChatMessage{Text: "re: " + m.GetText()}); err != nil {
			return err
		}
	}
}

func generated(t *testing.T, i *impl, opts ...hull.ServerOption) pb.GreeterClient {
	w := hulltest.New(t)
	w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, i) }, opts...)
	return pb.NewGreeterClient(w.Client("caller").To("greeter"))
}

func TestGeneratedUnary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := generated(t, &impl{hello: func(ctx context.Context, r *pb.HelloRequest) (*pb.HelloReply, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			if p, ok := peer.FromContext(ctx); !ok || p.Addr == nil {
				t.Error("no peer")
			}
			if err := grpc.SetHeader(ctx, metadata.Pairs("seen", md["mark"][0])); err != nil {
				t.Error(err)
			}
			if err := grpc.SetTrailer(ctx, metadata.Pairs("bytes-bin", "\x00\xff")); err != nil {
				t.Error(err)
			}
			return &pb.HelloReply{Message: "Hello, " + r.GetName()}, nil
		}})
		ctx := metadata.AppendToOutgoingContext(t.Context(), "Mark", "yes")
		var header, trailer metadata.MD
		var p peer.Peer
		rep, err := c.Hello(ctx, &pb.HelloRequest{Name: "Ada"}, grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&p))
		if err != nil || rep.GetMessage() != "Hello, Ada" {
			t.Fatalf("%v, %v", rep, err)
		}
		if header.Get("seen")[0] != "yes" || trailer.Get("bytes-bin")[0] != "\x00\xff" || p.Addr == nil {
			t.Errorf("header %v, trailer %v, peer %v", header, trailer, p.Addr)
		}
	})
}

func TestGeneratedErrorsKeepTheirDetails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := generated(t, &impl{hello: func(context.Context, *pb.HelloRequest) (*pb.HelloReply, error) {
			st, err := grpcstatus.New(codes.FailedPrecondition, "not today").WithDetails(&errdetails.ErrorInfo{Reason: "HOLIDAY"})
			if err != nil {
				t.Fatal(err)
			}
			return nil, st.Err()
		}})
		_, err := c.Hello(t.Context(), &pb.HelloRequest{})
		st := grpcstatus.Convert(err)
		if st.Code() != codes.FailedPrecondition || st.Message() != "not today" || len(st.Details()) != 1 {
			t.Fatalf("%v, details %v", err, st.Details())
		}
		if d, ok := st.Details()[0].(*errdetails.ErrorInfo); !ok || d.GetReason() != "HOLIDAY" {
			t.Errorf("detail %v", st.Details()[0])
		}
	})
}

func TestGeneratedServerStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := generated(t, &impl{})
		s, err := c.Count(t.Context(), &pb.CountRequest{UpTo: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for want := int64(1); ; want++ {
			m, err := s.Recv()
			if errors.Is(err, io.EOF) {
				if want != 1001 {
					t.Errorf("the stream ended before %d", want)
				}
				break
			}
			if err != nil || m.GetN() != want {
				t.Fatalf("%v, %v; want %d", m, err, want)
			}
		}
	})
}

func TestGeneratedClientStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := generated(t, &impl{})
		s, err := c.Sum(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range int64(100) {
			if err := s.Send(&pb.SumRequest{N: i}); err != nil {
				t.Fatal(err)
			}
		}
		if m, err := s.CloseAndRecv(); err != nil || m.GetSum() != 4950 {
			t.Errorf("%v, %v", m, err)
		}
	})
}

func TestGeneratedBidiStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := generated(t, &impl{})
		s, err := c.Chat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			text := fmt.Sprint("message ", i)
			if err := s.Send(&pb.ChatMessage{Text: text}); err != nil {
				t.Fatal(err)
			}
			if m, err := s.Recv(); err != nil || m.GetText() != "re: "+text {
				t.Fatalf("%v, %v", m, err)
			}
		}
		if err := s.CloseSend(); err != nil {
			t.Error(err)
		}
		if _, err := s.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("%v, want io.EOF", err)
		}
	})
}

func TestGeneratedStreamGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := generated(t, &impl{})
		ctx, cancel := context.WithCancel(t.Context())
		s, err := c.Chat(ctx)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := s.Recv(); grpcstatus.Code(err) != codes.Canceled {
			t.Errorf("%v", err)
		}
	})
}

// TestProtoSaysWhatIsIdempotent: Hello is declared idempotent in the proto file, SayOnce is not.
func TestProtoSaysWhatIsIdempotent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, &impl{}) })
		c := w.Client("caller")
		sv, err := c.Registry().Lookup(t.Context(), "greeter")
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]bool{"greeter.Greeter/Hello": true, "greeter.Greeter/SayOnce": false} {
			if m, ok := sv.Nodes[0].Method(name); !ok || m.Idempotent != want {
				t.Errorf("%s: %+v, %v", name, m, ok)
			}
		}
	})
}

func TestMiddleware(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		server := func(name string) grpc.UnaryServerInterceptor {
			return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				order = append(order, name)
				return next(ctx, req)
			}
		}
		client := func(name string) hull.UnaryMiddleware {
			return func(ctx context.Context, method string, req, reply any, next hull.UnaryInvoker, opts ...hull.CallOption) error {
				order = append(order, name)
				return next(ctx, method, req, reply, opts...)
			}
		}
		w := hulltest.New(t)
		w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, &impl{}) }, hull.Intercept(server("s1"), server("s2"), server("s3")))
		c := pb.NewGreeterClient(w.Client("caller", hull.WithMiddleware(client("c1"), client("c2"))).To("greeter"))
		if _, err := c.Hello(t.Context(), &pb.HelloRequest{}); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(order); got != "[c1 c2 s1 s2 s3]" {
			t.Error(got)
		}
	})
}

// TestHedge: a method without side effects is asked of a second node when the first takes long.
func TestHedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		for _, n := range []string{"a", "b"} {
			w.Serve("greeter", n, greeter)
		}
		sp := hedged(20 * time.Millisecond)
		c := w.Client("caller", hull.WithSpec(sp))
		for range 200 { // hedges are paid from what calls have earned
			if _, err := hello(t.Context(), c, hull.SideEffectFree()); err != nil {
				t.Fatal(err)
			}
		}
		w.Node("a").Slow(time.Second)
		hedges := 0
		for range 20 {
			start := time.Now()
			var info hull.CallInfo
			if _, err := hello(t.Context(), c, hull.SideEffectFree(), hull.Info(&info)); err != nil {
				t.Error(err)
			}
			if len(info.Attempts) > 1 {
				hedges++
			}
			if d := time.Since(start); d > 30*time.Millisecond {
				t.Errorf("a call took %v: %+v", d, info)
			}
		}
		if hedges == 0 {
			t.Error("no call was hedged")
		}
		time.Sleep(3 * time.Second) // losers end
	})
}

func TestFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", greeter)
		c := w.Client("caller")
		rep, err := hull.CallElse(t.Context(), c.To("greeter"), "greeter.Greeter/Hello", &helloRequest{}, func(_ context.Context, err error) (*helloReply, error) {
			return &helloReply{Text: "instead of " + status.CodeOf(err).String()}, nil
		})
		if err != nil || rep.Text != "instead of InvalidArgument" {
			t.Errorf("%v, %v", rep, err)
		}
	})
}
