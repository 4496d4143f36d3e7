package hull_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
)

func TestSelectOfAConnIsNotTakenForOneOfACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", greeter, hull.Version("1"))
		w.Serve("greeter", "b", greeter, hull.Version("2"))
		c := w.Client("caller")
		for version, want := range map[string]string{"version=1": "a", "version=2": "b"} {
			conn := c.To("greeter", hull.Select(version))
			for range 10 {
				rep, err := hull.Call[helloReply](t.Context(), conn, "greeter.Greeter/Hello", &helloRequest{Name: "Ada"})
				if err != nil || rep.From != want {
					t.Fatalf("%s: %v, %v; want an answer of %s", version, rep, err, want)
				}
			}
		}
	})
}

func TestOptionsTellOfThisCallOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("greeter", "a", greeter)
		c := w.Client("caller")
		var info hull.CallInfo
		finished := ""
		opts := []hull.CallOption{hull.Info(&info),
			grpc.OnFinish(func(error) { finished += "1" }), grpc.OnFinish(func(error) { finished += "2" })}
		if _, err := hello(t.Context(), c, opts...); err != nil || info.Node != "a" || finished != "12" {
			t.Fatalf("%v, node %q, finished %q", err, info.Node, finished)
		}
		n.Kill()
		if _, err := hello(t.Context(), c, opts...); err == nil || info.Node != "" {
			t.Errorf("%v, and it was answered by %q", err, info.Node)
		}
	})
}

func TestTimeoutThatIsOverBeforeItBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", greeter)
		c := w.Client("caller")
		if _, err := hello(t.Context(), c, hull.Timeout(-time.Second)); status.CodeOf(err) != status.DeadlineExceeded {
			t.Errorf("a negative timeout: %v", err)
		}
		if _, err := hello(t.Context(), c, hull.Timeout(0)); err != nil {
			t.Errorf("none: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), -time.Second)
		defer cancel()
		_, err := hull.Call[helloReply](ctx, c.To("nobody"), "greeter.Greeter/Hello", &helloRequest{})
		if status.CodeOf(err) != status.DeadlineExceeded || status.FateOf(err) != status.NotSent {
			t.Errorf("a deadline that had passed, and an unknown service: %v", err)
		}
	})
}

// TestHedgedRequestIsTheCallersAgain: losers must not read the request when the call is over. The race detector looks on.
func TestHedgedRequestIsTheCallersAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		for _, n := range []string{"a", "b"} {
			w.Serve("greeter", n, greeter)
			w.Node(n).Slow(5 * time.Millisecond)
		}
		c := w.Client("caller", hull.WithSpec(hedged(5*time.Millisecond)))
		req := &helloRequest{Name: "Ada"}
		for i := range 300 {
			if _, err := hull.Call[helloReply](t.Context(), c.To("greeter"), "greeter.Greeter/Hello", req, hull.SideEffectFree()); err != nil {
				t.Fatal(err)
			}
			req.Name = fmt.Sprint(i)
		}
		time.Sleep(time.Second)
	})
}

func TestFallbackIsNotForACallerThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", greeter)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("a cause of its own"))
		_, err := hull.CallElse(ctx, w.Client("caller").To("greeter"), "greeter.Greeter/Hello", &helloRequest{Name: "Ada"},
			func(context.Context, error) (*helloReply, error) { t.Error("the fallback ran"); return nil, nil })
		if status.CodeOf(err) != status.Canceled {
			t.Errorf("%v", err)
		}
	})
}

// streams serves methods for tests of streams.
func streams(s *hull.Server) {
	hull.HandleStream(s, "s.S/Three", func(st *hull.ServerStream[helloRequest, helloReply]) error {
		m, err := st.Recv()
		if err != nil {
			return err
		}
		for range 3 {
			if err := st.Send(&helloReply{}); err != nil {
				return err
			}
		}
		if m.Name == "fail" {
			return status.Errorf(status.Unavailable, "out of order")
		}
		return nil
	})
	hull.HandleStream(s, "s.S/Hang", func(st *hull.ServerStream[helloRequest, helloReply]) error {
		<-st.Context().Done()
		return st.Context().Err()
	})
	hull.HandleStream(s, "s.S/None", func(*hull.ServerStream[helloRequest, helloReply]) error { return nil })
}

func TestStreamThatEndedBeforeItWasReadIsNotCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("s", "a", streams)
		var seen []policy.Class
		c := w.Client("caller", hull.WithObserver(func(i *hull.CallInfo) { seen = append(seen, i.Class) }))
		for name, want := range map[string]codes.Code{"ok": codes.OK, "fail": codes.Unavailable} {
			var finished error
			var info hull.CallInfo
			s, err := hull.OpenStream[helloRequest, helloReply](t.Context(), c.To("s"), "s.S/Three", hull.Info(&info), grpc.OnFinish(func(err error) { finished = err }))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Send(&helloRequest{Name: name}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second) // it ends meanwhile
			for range 3 {
				if _, err := s.Recv(); err != nil {
					t.Fatal(err)
				}
			}
			_, err = s.Recv()
			if want == codes.OK && !errors.Is(err, io.EOF) || want != codes.OK && grpcstatus.Code(err) != want {
				t.Errorf("%s: %v", name, err)
			}
			if grpcstatus.Code(finished) != want || info.Node != "a" || info.Method != "s.S/Three" {
				t.Errorf("%s: OnFinish was told %v, Info %+v", name, finished, info)
			}
			if got := seen[len(seen)-1]; want == codes.OK && got != policy.ClassOK || want != codes.OK && got != policy.ClassUnavailable {
				t.Errorf("%s: counted as %v", name, got)
			}
		}
	})
}

func TestAbandonedStreamsGiveTheirPlaceBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("s", "a", streams)
		c := w.Client("caller", hull.WithSpec(&spec.Spec{Defaults: spec.Service{Concurrency: spec.Concurrency{Limit: 1}}}))
		conn := c.To("s")
		open := func(ctx context.Context) *hull.ClientStream[chan int, helloReply] {
			t.Helper()
			s, err := hull.OpenStream[chan int, helloReply](ctx, conn, "s.S/Hang")
			if err != nil {
				t.Fatalf("the only place is still taken: %v", err)
			}
			return s
		}
		ctx, cancel := context.WithCancel(t.Context())
		open(ctx)
		cancel()
		synctest.Wait()
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		open(ctx)
		time.Sleep(time.Second)
		synctest.Wait()
		s := open(t.Context())
		if err := s.Send(new(chan int)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("sending what cannot be encoded: %v", err)
		}
		s = open(t.Context()) // the failed Send has ended the other
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := hull.OpenStream[helloRequest, helloReply](gone, conn, "s.S/Hang"); status.CodeOf(err) != status.Canceled {
			t.Errorf("for a caller that is gone: %v", err)
		}
		w.Node("a").Kill()
		if _, err := s.Recv(); err == nil {
			t.Error("a stream outlived its node")
		}
	})
}

func TestStreamOfOneAnswerHasExactlyOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("s", "a", streams)
		conn := w.Client("caller").To("s")
		for method, want := range map[string]string{"s.S/Three": "sent more", "s.S/None": "sent none"} {
			var finished error
			s, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, method, grpc.OnFinish(func(err error) { finished = err }), grpc.CallContentSubtype("json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.SendMsg(&helloRequest{}); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			err = s.RecvMsg(new(helloReply))
			if grpcstatus.Code(err) != codes.Internal || !strings.Contains(err.Error(), want) || grpcstatus.Code(finished) != codes.Internal {
				t.Errorf("%s: %v, OnFinish was told %v", method, err, finished)
			}
		}
	})
}

func TestHeaderAfterTheFirstMessageIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		var late error
		w.Serve("s", "a", func(s *hull.Server) {
			hull.HandleStream(s, "s.S/Head", func(st *hull.ServerStream[helloRequest, helloReply]) error {
				if err := st.Send(&helloReply{}); err != nil {
					return err
				}
				late = grpc.SetHeader(st.Context(), metadata.Pairs("too", "late"))
				return st.Send(&helloReply{})
			})
			hull.Handle(s, "s.S/Unary", func(ctx context.Context, _ *helloRequest) (*helloReply, error) {
				if err := grpc.SendHeader(ctx, metadata.MD{"Mixed-Case": {"1"}}); err != nil {
					return nil, err
				}
				return &helloReply{}, grpc.SendHeader(ctx, metadata.Pairs("again", "1"))
			})
		})
		conn := w.Client("caller").To("s")
		s, err := hull.OpenStream[helloRequest, helloReply](t.Context(), conn, "s.S/Head")
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := s.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Recv(); !errors.Is(err, io.EOF) || late == nil {
			t.Errorf("the stream ended with %v, SetHeader said %v", err, late)
		}
		var header metadata.MD
		_, err = hull.Call[helloReply](t.Context(), conn, "s.S/Unary", &helloRequest{}, grpc.Header(&header))
		if err == nil || len(header["mixed-case"]) != 1 {
			t.Errorf("a second SendHeader: %v, header %v", err, header)
		}
	})
}

type nilStatusError struct{}

func (nilStatusError) Error() string                  { return "no status" }
func (nilStatusError) GRPCStatus() *grpcstatus.Status { return nil }

func TestErrorsThatSayOKAreErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errs := map[string]error{
			"nil":  (*status.Error)(nil),
			"ok":   &status.Error{},
			"wrap": fmt.Errorf("wrapped: %w", &status.Error{}),
			"grpc": nilStatusError{},
		}
		w := hulltest.New(t)
		w.Serve("s", "a", func(s *hull.Server) {
			hull.Handle(s, "s.S/Fail", func(_ context.Context, r *helloRequest) (*helloReply, error) { return &helloReply{}, errs[r.Name] })
		})
		c := w.Client("caller")
		for name := range errs {
			_, err := hull.Call[helloReply](t.Context(), c.To("s"), "s.S/Fail", &helloRequest{Name: name})
			var e *status.Error
			if !errors.As(err, &e) || e.Code != status.Unknown || e.Kind == status.Panicked || e.Message == "" {
				t.Errorf("%s: %v, want Unknown", name, err)
			}
		}
	})
}

func TestAnswersFromBelowAreNotItsFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("store", "store", func(s *hull.Server) {
			hull.Handle(s, "s.S/Get", func(context.Context, *helloRequest) (*helloReply, error) {
				return nil, status.Errorf(status.NotFound, "no such thing")
			})
		})
		down := w.Client("client-of-front")
		w.Serve("front", "front", func(s *hull.Server) {
			hull.Handle(s, "s.S/Get", func(ctx context.Context, r *helloRequest) (*helloReply, error) {
				return hull.Call[helloReply](ctx, down.To("store"), "s.S/Get", r)
			})
		})
		c := w.Client("caller")
		for range 100 { // as failures they would open the breaker
			_, err := hull.Call[helloReply](t.Context(), c.To("front"), "s.S/Get", &helloRequest{})
			if e := status.From(err); e.Code != status.NotFound || e.Origin != status.Self {
				t.Fatalf("%v (origin %v)", err, e.Origin)
			}
		}
	})
}

func TestServicesThatShareAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", greeter)
		twin := registry.Node{ID: "twin", Service: "twin", Address: w.Node("a").Server.Addr()}
		other := registry.Node{ID: "other", Service: "twin", Address: "nowhere:1"}
		w.Registry.Put(twin)
		w.Registry.Put(other)
		c := w.Client("caller")
		call := func(service string) error {
			_, err := hull.Call[helloReply](t.Context(), c.To(service), "greeter.Greeter/Hello", &helloRequest{Name: "Ada"}, hull.Idempotent())
			return err
		}
		if err := errors.Join(call("greeter"), call("twin")); err != nil {
			t.Fatal(err)
		}
		w.Registry.Remove("twin", "twin", "moved")
		time.Sleep(2 * time.Minute) // it is forgotten
		_ = call("twin")
		if err := call("greeter"); err != nil {
			t.Errorf("after the other service left the address: %v", err)
		}
		w.Registry.Put(twin)
		time.Sleep(time.Second)
		if err := call("twin"); err != nil {
			t.Errorf("after the other service came back: %v", err)
		}
	})
}

func TestCallsAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", greeter)
		c := w.Client("caller")
		if _, err := hello(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"greeter", "another", "", "../../etc", strings.Repeat("x", 1<<16)} {
			_, err := hull.Call[helloReply](t.Context(), c.To(name), "greeter.Greeter/Hello", &helloRequest{Name: "Ada"})
			if err == nil || status.FateOf(err) != status.NotSent {
				t.Errorf("calling %.10q after Close: %v", name, err)
			}
		}
	})
}

// listener is a net.Listener that notes that it was closed, and can fail.
type listener struct {
	net.Listener
	closed atomic.Bool
	broken chan struct{}
}

func (l *listener) Close() error { l.closed.Store(true); return l.Listener.Close() }

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	select {
	case <-l.broken:
		return nil, errors.New("broken")
	default:
		return c, err
	}
}

func TestRunThatFailsClosesItsListener(t *testing.T) {
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	tests := []struct {
		name  string
		ctx   context.Context
		spoil func(*testing.T, *hulltest.World, *registry.Registry)
		want  bool // an error
	}{
		{"cancelled before", cancelled, func(*testing.T, *hulltest.World, *registry.Registry) {}, false},
		{"closed registry", context.Background(), func(_ *testing.T, _ *hulltest.World, r *registry.Registry) { _ = r.Close() }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				ln, err := w.Network.Host("a").Listen("a:80")
				if err != nil {
					t.Fatal(err)
				}
				l := &listener{Listener: ln, broken: make(chan struct{})}
				reg, err := registry.New(memregistry.New(), registry.Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer reg.Close()
				s, err := hull.NewServer("greeter", hull.WithRegistry(reg), hull.Listener(l))
				if err != nil {
					t.Fatal(err)
				}
				greeter(s)
				tt.spoil(t, w, reg)
				if err := s.Run(tt.ctx); (err != nil) != tt.want || !l.closed.Load() {
					t.Errorf("%v, closed %v", err, l.closed.Load())
				}
			})
		})
	}
}

func TestListenerThatFailsEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		ln, err := w.Network.Host("a").Listen("a:80")
		if err != nil {
			t.Fatal(err)
		}
		l := &listener{Listener: ln, broken: make(chan struct{})}
		reg, err := registry.New(w.Registry, registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer reg.Close()
		s, err := hull.NewServer("greeter", hull.WithRegistry(reg), hull.Listener(l))
		if err != nil {
			t.Fatal(err)
		}
		greeter(s)
		ended := make(chan error, 1)
		go func() { ended <- s.Run(t.Context()) }()
		<-s.Ready()
		c := w.Client("caller")
		if _, err := hello(t.Context(), c); err != nil { // keeps its connection open
			t.Fatal(err)
		}
		close(l.broken)
		go func() {
			if nc, err := w.Network.Host("b").Dial(t.Context(), "a:80"); err == nil {
				nc.Close()
			}
		}()
		start := time.Now()
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "broken") || time.Since(start) > 10*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

func TestHandlerThatNeverEndsDoesNotKeepRunFromReturning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		release := make(chan struct{})
		n := w.Serve("greeter", "a", func(s *hull.Server) {
			hull.Handle(s, "greeter.Greeter/Hello", func(context.Context, *helloRequest) (*helloReply, error) {
				<-release
				return nil, errors.New("at last")
			})
		}, hull.Drain(time.Second, 5*time.Second))
		c := w.Client("caller")
		if _, err := hello(t.Context(), c, hull.Timeout(time.Second)); status.CodeOf(err) != status.DeadlineExceeded {
			t.Fatal(err)
		}
		start := time.Now()
		n.Stop()
		if d := time.Since(start); d > 15*time.Second {
			t.Errorf("the server took %v to end", d)
		}
		close(release)
	})
}

// TestPageThatIsNeverDoneDoesNotHoldUpTheDrain: callers are told to go elsewhere although an HTTP request goes on and on.
func TestPageThatIsNeverDoneDoesNotHoldUpTheDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		release := make(chan struct{})
		page := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(rw).Flush()
			<-release
		})
		n := w.Serve("greeter", "a", greeter, hull.HTTP(page), hull.Drain(time.Second, 20*time.Second))
		web := &http.Client{Transport: &http.Transport{DialContext: w.Network.Host("browser").DialContext}}
		res, err := web.Get("http://a:80/")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		c := w.Client("caller")
		if _, err := hello(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		go n.Stop()
		time.Sleep(5 * time.Second)
		if rep, err := hello(t.Context(), c, hull.Timeout(time.Second)); err == nil {
			t.Errorf("a server that drains since 5s still answers: %v", rep)
		}
		close(release)
		web.CloseIdleConnections()
	})
}

func TestCloseEndsCallsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("s", "a", func(s *hull.Server) {
			streams(s)
			hull.Handle(s, "s.S/Unary", func(ctx context.Context, _ *helloRequest) (*helloReply, error) { <-ctx.Done(); return nil, ctx.Err() })
		})
		c := w.Client("caller")
		st, err := hull.OpenStream[helloRequest, helloReply](t.Context(), c.To("s"), "s.S/Hang")
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := hull.Call[helloReply](t.Context(), c.To("s"), "s.S/Unary", &helloRequest{}, hull.Idempotent())
			ended <- err
		}()
		time.Sleep(time.Second)
		start := time.Now()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		_, serr := st.Recv()
		if err := <-ended; err == nil || serr == nil || time.Since(start) > time.Second {
			t.Errorf("after %v the call ended with %v, the stream with %v", time.Since(start), err, serr)
		}
	})
}

func TestMiddlewareThatPanicsSpoilsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", greeter)
		n := 0
		c := w.Client("caller", hull.WithSpec(&spec.Spec{Defaults: spec.Service{Concurrency: spec.Concurrency{Limit: 1}}}),
			hull.WithMiddleware(func(ctx context.Context, method string, req, reply any, next hull.UnaryInvoker, opts ...hull.CallOption) error {
				if n++; n%3 == 1 {
					panic("before")
				}
				err := next(ctx, method, req, reply, opts...)
				if n%3 == 2 {
					panic("after")
				}
				return err
			}))
		for i := range 9 {
			func() {
				defer func() {
					if v := recover(); (v == nil) != (i%3 == 2) {
						t.Errorf("call %d: panic %v", i, v)
					}
				}()
				rep, err := hello(t.Context(), c)
				if err != nil || rep.From != "a" {
					t.Errorf("call %d: %v, %v", i, rep, err)
				}
			}()
		}
	})
}

func TestSpecsAppliedUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := three(t)
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			for i := range 200 {
				s := &spec.Spec{Defaults: spec.Service{Concurrency: spec.Concurrency{Limit: 100 + i%2},
					Policy: spec.Policy{Retry: spec.Retry{Attempts: 2 + i%3}, Breaker: spec.Breaker{MinCalls: 20 + i%2}}}}
				if i%3 == 0 {
					s = nil
				}
				if err := c.Apply(s); err != nil {
					t.Error(err)
				}
				time.Sleep(5 * time.Millisecond)
			}
		}()
		var l load
		l.run(t, c, 500, time.Second)
		<-stop
		l.allOK(t, "while specifications change")
	})
}

// A message that cannot be decoded ends the call, and so the handler's context: before, the handler stayed for good.
func TestStreamEndsWhenAMessageDoesNotDecode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		left := make(chan struct{})
		w.Serve("greeter", "a", func(s *hull.Server) {
			hull.HandleStream(s, "greeter.Greeter/Chat", func(st *hull.ServerStream[helloRequest, helloReply]) error {
				if err := st.Send(&helloReply{Text: "no number"}); err != nil {
					return err
				}
				<-st.Context().Done()
				close(left)
				return st.Context().Err()
			})
		})
		s, err := hull.OpenStream[helloRequest, struct{ Text int }](t.Context(), w.Client("caller").To("greeter"), "greeter.Greeter/Chat")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err == nil {
			t.Fatal("text was decoded into a number")
		}
		select {
		case <-left:
		case <-time.After(time.Minute):
			t.Error("the handler is still there")
		}
	})
}

// Credentials that cannot be sent are refused rather than ignored.
func TestPerCallCredentialsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", greeter)
		_, err := hello(t.Context(), w.Client("caller"), grpc.PerRPCCredentials(nil))
		if status.CodeOf(err) != status.InvalidArgument {
			t.Errorf("%v", err)
		}
	})
}

// TestNoRetryThatCannotEndInTime is a regression test: a call was made again however little was left of its time, though nobody had ever answered within that.
func TestNoRetryThatCannotEndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		var failing atomic.Bool
		var served atomic.Int64
		for _, node := range []string{"a", "b"} {
			w.Serve("greeter", node, func(s *hull.Server) {
				hull.Handle(s, "greeter.Greeter/Hello", func(context.Context, *helloRequest) (*helloReply, error) {
					served.Add(1)
					time.Sleep(200 * time.Millisecond)
					if failing.Load() {
						return nil, status.Errorf(status.Unavailable, "out of order")
					}
					return &helloReply{}, nil
				}, hull.Idempotent())
			})
		}
		c := w.Client("caller")
		var l load
		l.run(t, c, 50, 4*time.Second)
		l.allOK(t, "before")
		failing.Store(true)
		for timeout, want := range map[time.Duration]int64{350 * time.Millisecond: 1, 2 * time.Second: 3} {
			served.Store(0)
			var info hull.CallInfo
			if _, err := hello(t.Context(), c, hull.Timeout(timeout), hull.Info(&info)); status.CodeOf(err) != status.Unavailable {
				t.Errorf("%v: %v", timeout, err)
			}
			if n := served.Load(); n != want || want == 1 && (info.Stopped != "the next attempt would take longer than is left" || info.StoppedBy != "retry") {
				t.Errorf("with %v: %d attempts, stopped by %s: %s", timeout, n, info.StoppedBy, info.Stopped)
			}
		}
	})
}
