package hull_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/status"
)

type helloRequest struct{ Name string }
type helloReply struct{ Text, From string }

// greeter serves greetings that say who answered.
func greeter(s *hull.Server) {
	hull.Handle(s, "greeter.Greeter/Hello", func(ctx context.Context, r *helloRequest) (*helloReply, error) {
		if r.Name == "" {
			return nil, status.Errorf(status.InvalidArgument, "who is it? set Name")
		}
		return &helloReply{Text: "Hello, " + r.Name, From: s.NodeID()}, nil
	}, hull.Idempotent())
	hull.Handle(s, "greeter.Greeter/Once", func(ctx context.Context, r *helloRequest) (*helloReply, error) {
		return &helloReply{Text: "Once, " + r.Name}, nil
	})
	hull.Handle(s, "greeter.Greeter/Panic", func(context.Context, *helloRequest) (*helloReply, error) { panic("boom") })
	hull.HandleStream(s, "greeter.Greeter/Chat", func(st *hull.ServerStream[helloRequest, helloReply]) error {
		for {
			m, err := st.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := st.Send(&helloReply{Text: "Hello, " + m.Name}); err != nil {
				return err
			}
		}
	})
}

func hello(ctx context.Context, c *hull.Client, opts ...hull.CallOption) (*helloReply, error) {
	return hull.Call[helloReply](ctx, c.To("greeter"), "greeter.Greeter/Hello", &helloRequest{Name: "Ada"}, opts...)
}

func TestCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", greeter)
		c := w.Client("caller")
		var info hull.CallInfo
		rep, err := hello(t.Context(), c, hull.Info(&info))
		if err != nil {
			t.Fatal(err)
		}
		if rep.Text != "Hello, Ada" || rep.From != "a" {
			t.Errorf("%+v", rep)
		}
		if info.Node != "a" || len(info.Attempts) != 1 || info.Method != "greeter.Greeter/Hello" {
			t.Errorf("info %+v", info)
		}
	})
}

func TestErrorsReachTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", greeter)
		c := w.Client("caller")
		_, err := hull.Call[helloReply](t.Context(), c.To("greeter"), "greeter.Greeter/Hello", &helloRequest{})
		var e *status.Error
		if !errors.As(err, &e) || e.Code != status.InvalidArgument || e.Fate != status.Processed {
			t.Errorf("%v (%+v)", err, e)
		}
		if grpcstatus.Code(err) != codes.InvalidArgument {
			t.Errorf("grpc's code is %v", grpcstatus.Code(err))
		}
		_, err = hull.Call[helloReply](t.Context(), c.To("greeter"), "greeter.Greeter/Helo", &helloRequest{})
		if status.CodeOf(err) != status.Unimplemented || !strings.Contains(err.Error(), "did you mean greeter.Greeter/Hello") {
			t.Errorf("%v", err)
		}
		_, err = hull.Call[helloReply](t.Context(), c.To("greeter"), "greeter.Greeter/Panic", &helloRequest{})
		if !errors.As(err, &e) || e.Code != status.Internal || e.Kind != status.Panicked {
			t.Errorf("%v", err)
		}
		if _, err := hello(t.Context(), c); err != nil {
			t.Errorf("after the panic: %v", err)
		}
	})
}

func TestUnknownService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", greeter)
		c := w.Client("caller")
		start := time.Now()
		var info hull.CallInfo
		_, err := hull.Call[helloReply](t.Context(), c.To("greter"), "greeter.Greeter/Hello", &helloRequest{}, hull.Info(&info))
		var e *status.Error
		if !errors.As(err, &e) || e.Code != status.Unavailable || e.Kind != status.NoNode || e.Fate != status.NotSent {
			t.Errorf("%v", err)
		}
		if !strings.Contains(err.Error(), "did you mean greeter?") || time.Since(start) > time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if info.Service != "greter" || info.Err == nil {
			t.Errorf("info %+v", info)
		}
	})
}

func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", greeter)
		c := w.Client("caller")
		s, err := hull.OpenStream[helloRequest, helloReply](t.Context(), c.To("greeter"), "greeter.Greeter/Chat")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"Ada", "Grace"} {
			if err := s.Send(&helloRequest{Name: name}); err != nil {
				t.Fatal(err)
			}
			if m, err := s.Recv(); err != nil || m.Text != "Hello, "+name {
				t.Errorf("%v, %v", m, err)
			}
		}
		if err := s.CloseSend(); err != nil {
			t.Error(err)
		}
		if m, err := s.Recv(); err == nil {
			t.Errorf("after the end: %v", m)
		}
	})
}
