package hull_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/peer"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// TestMethodsOfSingleSelections is a regression test: methods that were only called with a selector of the call's own were missing.
func TestMethodsOfSingleSelections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", both)
		conn := w.Client("caller").To("greeter")
		for range 3 {
			if _, err := hull.Call[helloReply](t.Context(), conn, "typed.Greeter/Hello", &helloRequest{Name: "Ada"}, hull.Select("id=a")); err != nil {
				t.Fatal(err)
			}
		}
		ms := conn.Methods()
		if m, ok := ms["typed.Greeter/Hello"]; !ok || m.Unary.Calls != 3 || len(ms) != 1 {
			t.Errorf("%+v", ms)
		}
		if _, err := hull.Call[helloReply](t.Context(), conn, "typed.Greeter/Hello", &helloRequest{Name: "Ada"}); err != nil {
			t.Fatal(err)
		}
		if m := conn.Methods()["typed.Greeter/Hello"]; m.Unary.Calls != 4 {
			t.Errorf("%+v", m)
		}
	})
}

// TestExplainStream is that a stream tells its story when it has ended, with the server's side and what was called to serve it, well or not.
func TestExplainStream(t *testing.T) {
	for _, protocol := range []string{"native", "gRPC"} {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				everybody := hull.ExplainTo(func(*peer.Peer) bool { return true })
				w.Serve("leaf", "leaf", func(s *hull.Server) {
					hull.HandleStream(s, "leaf.Leaf/Count", func(st *hull.ServerStream[helloRequest, helloReply]) error { return st.Send(&helloReply{}) })
				}, everybody)
				below := w.Client("mid-client", hull.WithDialer(dialers(t, w, "mid-client")[protocol])).To("leaf")
				w.Serve("greeter", "a", func(s *hull.Server) {
					hull.HandleStream(s, "greeter.Greeter/Chat", func(st *hull.ServerStream[helloRequest, helloReply]) error {
						in, err := st.Recv()
						if err != nil {
							return err
						}
						time.Sleep(time.Second)
						leaf, err := hull.OpenStream[helloRequest, helloReply](st.Context(), below, "leaf.Leaf/Count")
						for err == nil {
							_, err = leaf.Recv()
						}
						if in.Name == "bad" {
							return status.Errorf(status.InvalidArgument, "no such name")
						}
						return st.Send(&helloReply{Text: in.Name})
					})
				}, everybody)
				conn := w.Client("caller", hull.WithDialer(dialers(t, w, "caller")[protocol])).To("greeter")
				for name, want := range map[string]policy.Class{"Ada": policy.ClassOK, "bad": policy.ClassCaller} {
					var info hull.CallInfo
					s, err := hull.OpenStream[helloRequest, helloReply](t.Context(), conn, "greeter.Greeter/Chat", hull.Explain(&info))
					if err != nil {
						t.Fatal(err)
					}
					if err := s.Send(&helloRequest{Name: name}); err != nil {
						t.Fatal(err)
					}
					for err == nil {
						_, err = s.Recv()
					}
					var served struct {
						Service, Code string
						RanMS         float64
						Calls         []struct{ Service, Class string }
					}
					if err := json.Unmarshal(info.Server, &served); err != nil {
						t.Fatalf("%s: %v in %+v", name, err, info)
					}
					if info.Class != want || len(info.Nodes) != 1 || info.Breaker == nil || info.Budget == nil || len(info.Attempts) != 1 || info.Node != "a" {
						t.Errorf("%s: %+v", name, info)
					}
					if served.Service != "greeter" || served.RanMS != 1000 || len(served.Calls) != 1 || served.Calls[0].Service != "leaf" || served.Calls[0].Class != "ok" {
						t.Errorf("%s: the server tells %s", name, info.Server)
					}
					if text := info.String(); !strings.Contains(text, "\n  server    a of greeter: waited 0s, ran 1s, ") || !strings.Contains(text, "    leaf leaf.Leaf/Count: ok after 0s") {
						t.Errorf("%s:\n%s", name, text)
					}
				}
				var info hull.CallInfo
				s, err := hull.OpenStream[helloRequest, helloReply](t.Context(), conn, "greeter.Greeter/None", hull.Explain(&info))
				for err == nil {
					_, err = s.Recv()
				}
				if info.Class != policy.ClassNoMethod || protocol == "native" && !strings.Contains(string(info.Server), `"refused":"service \"greeter\" has no method`) {
					t.Errorf("an unknown method: %+v, %s", info, info.Server)
				}
				s, err = hull.OpenStream[helloRequest, helloReply](t.Context(), conn, "greeter.Greeter/Chat", hull.Explain(&info), hull.Select("zone=none"))
				for err == nil {
					_, err = s.Recv()
				}
				if info.Class != policy.ClassRefused || len(info.Nodes) != 1 || info.Budget == nil {
					t.Errorf("no node: %+v", info)
				}
			})
		})
	}
}
