package hull_test

import (
	"context"
	"errors"
	"io"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/grpctransport"
	"github.com/hull-go/hull/transport/httptransport"
	"github.com/hull-go/hull/transport/muxtransport"
)

// farAway is a node whose name alone needs more room than what a request's time and attempt number do, which differ from call to call.
var farAway = strings.Repeat("far-", 25) + "away"

const ownRoom = 64

// TestDoubtNeedsNoRoom is a regression test: while discovery was silent each request said whom it was meant for, and each answer whose it was. Calls failed whose own
// metadata had left no room for that, also when it was binary, which is longer over HTTP. Nor does whoever asks for a call's story lose its answer.
func TestDoubtNeedsNoRoom(t *testing.T) {
	for name, dialer := range map[string]func(*hulltest.World) (transport.Dialer, error){
		"native": func(w *hulltest.World) (transport.Dialer, error) {
			return muxtransport.NewDialer(muxtransport.Options{Dial: w.Network.Host("caller").Dial})
		},
		"gRPC": func(w *hulltest.World) (transport.Dialer, error) {
			return grpctransport.NewDialer(grpctransport.Options{Dial: w.Network.Host("caller").Dial})
		},
		"JSON": func(w *hulltest.World) (transport.Dialer, error) {
			return httptransport.NewDialer(httptransport.Options{Dial: w.Network.Host("caller").Dial})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				trailing, padding, fails := 0, "", false
				w.Serve("greeter", farAway, func(s *hull.Server) {
					greeter(s)
					hull.Handle(s, "greeter.Greeter/Much", func(ctx context.Context, _ *helloRequest) (*helloReply, error) {
						if err := grpc.SetTrailer(ctx, metadata.Pairs(padding, strings.Repeat("p", trailing))); err != nil || !fails {
							return &helloReply{}, err
						}
						return nil, status.Errorf(status.NotFound, "%s", strings.Repeat("n", 500))
					})
				})
				d, err := dialer(w)
				if err != nil {
					t.Fatal(err)
				}
				c := w.Client("caller", hull.WithDialer(d))
				padded := func(n int) context.Context {
					return metadata.AppendToOutgoingContext(t.Context(), "x-pad", strings.Repeat("p", n))
				}
				much := func(key string, failing bool, opts ...hull.CallOption) func(n int) error {
					return func(n int) error {
						trailing, padding, fails = n, key, failing
						_, err := hull.Call[helloReply](t.Context(), c.To("greeter"), "greeter.Greeter/Much", &helloRequest{}, opts...)
						if failing && status.CodeOf(err) == status.NotFound {
							return nil
						}
						return err
					}
				}
				var story hull.CallInfo
				explained := hull.Explained(&story)
				calls := map[string]func(n int) error{
					"an answer": much("x-pad", false), "an explained answer": much("x-pad", false, explained),
					"a binary answer": much("x-pad-bin", false), "an explained binary answer": much("x-pad-bin", false, explained),
					"a failure": much("x-pad", true), "an explained failure": much("x-pad", true, explained),
					"a binary failure": much("x-pad-bin", true), "an explained binary failure": much("x-pad-bin", true, explained),
				}
				// JSON has no streams, and a request that does not say whom it is meant for may take another connection than who has just said that it is there.
				if name != "JSON" {
					calls["a request"] = func(n int) error { _, err := hello(padded(n), c); return err }
					calls["a stream"] = func(n int) error {
						s, err := hull.OpenStream[helloRequest, helloReply](padded(n), c.To("greeter"), "greeter.Greeter/Chat")
						if err == nil {
							if err = s.CloseSend(); err == nil {
								_, err = s.Recv()
							}
						}
						if errors.Is(err, io.EOF) {
							return nil
						}
						return err
					}
				}
				most := map[string]int{}
				for what, call := range calls {
					if strings.Contains(what, "explained") {
						continue
					}
					most[what] = sort.Search(40<<10, func(n int) bool {
						time.Sleep(20 * time.Second) // no breaker opens for calls that are too large
						return call(n) != nil
					}) - 1
					if most[what] < 10<<10 {
						t.Fatalf("%s has room for %d bytes only", what, most[what])
					}
				}
				for what := range calls {
					most[what] = most[strings.Replace(what, "an explained binary", "a binary", 1)]
				}
				most["an explained answer"], most["an explained failure"] = most["an answer"], most["a failure"]
				w.Registry.SetDown(true)
				time.Sleep(2 * time.Minute)
				for what, call := range calls {
					for _, n := range []int{0, most[what] - 4000, most[what] - 2000, most[what] - 1000, most[what] - 500, most[what] - 2*ownRoom, most[what] - ownRoom - 10, most[what] - ownRoom} {
						if err := call(n); err != nil {
							t.Errorf("%s with %d bytes of metadata, of %d that fit: %v", what, n, most[what], err)
						}
					}
				}
			})
		})
	}
}

// TestMuchMetadataComesToNoStranger: such a request does not go unaddressed to another service that has got the address of a node.
func TestMuchMetadataComesToNoStranger(t *testing.T) {
	for _, native := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := hulltest.New(t)
			w.Serve("greeter", farAway, greeter)
			w.Serve("greeter", "b"+farAway, greeter)
			var opts []hull.ClientOption
			if !native {
				d, err := grpctransport.NewDialer(grpctransport.Options{Dial: w.Network.Host("caller").Dial})
				if err != nil {
					t.Fatal(err)
				}
				opts = append(opts, hull.WithDialer(d))
			}
			c := w.Client("caller", opts...)
			call := func(n int) error {
				_, err := hello(metadata.AppendToOutgoingContext(t.Context(), "x-pad", strings.Repeat("p", n)), c)
				return err
			}
			most := sort.Search(40<<10, func(n int) bool { return call(n) != nil }) - 1 - ownRoom
			w.Registry.SetDown(true)
			time.Sleep(2 * time.Minute)
			w.Node(farAway).Kill()
			calls := bank(t, w, farAway)
			for range 100 {
				if err := call(most); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Second)
			}
			if n := calls.Load(); n != 0 {
				t.Errorf("%d calls reached another service", n)
			}
		})
	}
}

// between is a Dialer whose connections do something after each question who is there.
type between struct {
	transport.Dialer
	then func()
}

func (d between) Dial(ctx context.Context, addr string) (transport.Conn, *status.Error) {
	c, err := d.Dialer.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return betweenConn{c, d.then}, nil
}

type betweenConn struct {
	transport.Conn
	then func()
}

// Single says what the connection that it stands for does.
func (c betweenConn) Single() bool {
	s, ok := c.Conn.(interface{ Single() bool })
	return ok && s.Single()
}

func (c betweenConn) Call(ctx context.Context, req *transport.Request, rep *transport.Reply) *status.Error {
	err := c.Conn.Call(ctx, req, rep)
	if req.Method == "grpc.health.v1.Health/Check" {
		c.then()
	}
	return err
}

// TestWhoIsThereHoldsForItsConnection is a regression test: a request that had no room to say whom it was meant for went to the address of a node that had just said that
// it was there. Over HTTP it may take another network connection, and reached another service if that had got the address meanwhile.
func TestWhoIsThereHoldsForItsConnection(t *testing.T) {
	for _, name := range []string{"gRPC", "JSON"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				w.Serve("greeter", farAway, greeter)
				var calls *atomic.Int64
				armed := false
				c := w.Client("caller", hull.WithDialer(between{dialers(t, w, "caller")[name], func() {
					if armed {
						armed = false
						w.Node(farAway).Kill()
						calls = bank(t, w, farAway)
						synctest.Wait() // until the client knows that its connection has ended
					}
				}}))
				call := func(n int) error {
					_, err := hello(metadata.AppendToOutgoingContext(t.Context(), "x-pad", strings.Repeat("p", n)), c)
					return err
				}
				most := sort.Search(40<<10, func(n int) bool { return call(n) != nil }) - 1 - ownRoom
				w.Registry.SetDown(true)
				time.Sleep(2 * time.Minute)
				armed = true
				err := call(most)
				if err == nil {
					t.Error("it was answered by nobody knows whom")
				}
				if name == "JSON" { // nobody need be asked
					if calls == nil {
						if e := status.From(err); e == nil || e.Kind != status.TooLarge || e.Fate != status.NotSent {
							t.Errorf("%v, want that it is too large", err)
						}
						return
					}
				} else if calls == nil {
					t.Fatal("nobody asked who is there: the test does not test that")
				}
				if n := calls.Load(); n != 0 {
					t.Errorf("%d calls reached another service, whose answer was taken: %v", n, err)
				}
			})
		})
	}
}
