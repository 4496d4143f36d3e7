package hull_test

import (
	"context"
	"errors"
	"io"
	"sort"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/grpctransport"
	"github.com/hull-go/hull/transport/httptransport"
	"github.com/hull-go/hull/transport/muxtransport"
)

// farAway is a node whose name alone needs more room than what a request's time and attempt number do, which differ from call to call.
var farAway = strings.Repeat("far-", 25) + "away"

const ownRoom = 64

// TestDoubtNeedsNoRoom is a regression test: while discovery was silent each request said whom it was meant for, and each answer whose it was. Calls failed whose own
// metadata had left no room for that. Nor does whoever asks for a call's story lose its answer.
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
				trailing := 0
				w.Serve("greeter", farAway, func(s *hull.Server) {
					greeter(s)
					hull.Handle(s, "greeter.Greeter/Much", func(ctx context.Context, _ *helloRequest) (*helloReply, error) {
						return &helloReply{}, grpc.SetTrailer(ctx, metadata.Pairs("x-pad", strings.Repeat("p", trailing)))
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
				calls := map[string]func(n int) error{
					"a request": func(n int) error { _, err := hello(padded(n), c); return err },
					"an answer": func(n int) error {
						trailing = n
						_, err := hull.Call[helloReply](t.Context(), c.To("greeter"), "greeter.Greeter/Much", &helloRequest{})
						return err
					},
					"an explained answer": func(n int) error {
						trailing = n
						var story hull.CallInfo
						_, err := hull.Call[helloReply](t.Context(), c.To("greeter"), "greeter.Greeter/Much", &helloRequest{}, hull.Explain(&story))
						return err
					},
				}
				if name != "JSON" { // which has no streams
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
					if what == "an explained answer" {
						continue
					}
					most[what] = sort.Search(40<<10, func(n int) bool { return call(n) != nil }) - 1
					if most[what] < 10<<10 {
						t.Fatalf("%s has room for %d bytes only", what, most[what])
					}
				}
				most["an explained answer"] = most["an answer"]
				w.Registry.SetDown(true)
				time.Sleep(2 * time.Minute)
				for what, call := range calls {
					for _, n := range []int{0, most[what] - 2*ownRoom, most[what] - ownRoom - 10, most[what] - ownRoom} {
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
