package hull_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
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
					s, err := hull.OpenStream[helloRequest, helloReply](t.Context(), conn, "greeter.Greeter/Chat", hull.Explained(&info))
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
				s, err := hull.OpenStream[helloRequest, helloReply](t.Context(), conn, "greeter.Greeter/None", hull.Explained(&info))
				for err == nil {
					_, err = s.Recv()
				}
				if info.Class != policy.ClassNoMethod || protocol == "native" && !strings.Contains(string(info.Server), `"refused":"service \"greeter\" has no method`) {
					t.Errorf("an unknown method: %+v, %s", info, info.Server)
				}
				s, err = hull.OpenStream[helloRequest, helloReply](t.Context(), conn, "greeter.Greeter/Chat", hull.Explained(&info), hull.Select("zone=none"))
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

// TestExplainContext is that all calls of a context tell their stories, whoever makes them and however they end, each once, and no others.
func TestExplainContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", both)
		w.Serve("other", "b", both)
		c := w.Client("caller", withDocument(t, `
services:
  shut:
    fallback: {service: other}
`))
		ctx, story := hull.Explain(t.Context())
		say := func(ctx context.Context, service, method string, opts ...hull.CallOption) error {
			_, err := hull.Call[helloReply](ctx, c.To(service), method, &helloRequest{Name: "Ada"}, opts...)
			return err
		}
		const hello = "typed.Greeter/Hello"
		var own hull.CallInfo
		under, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		for i, err := range []error{
			say(ctx, "greeter", hello),
			say(under, "greeter", hello, hull.Info(&own)),
			say(ctx, "shut", hello),
			say(t.Context(), "greeter", hello),
		} {
			if err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		}
		if say(ctx, "greeter", "typed.Greeter/None") == nil || say(ctx, "greeter", hello, hull.Select("zone in")) == nil || say(ctx, "none", hello) == nil {
			t.Error("calls that fail did not")
		}
		if say(t.Context(), "greeter", "typed.Greeter/None", hull.Info(&own)) == nil { // uses the room of own again
			t.Error("a call that fails did not")
		}
		s, err := hull.OpenStream[helloRequest, helloReply](ctx, c.To("greeter"), "typed.Greeter/Chat")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(&helloRequest{Name: "Ada"}); err != nil {
			t.Fatal(err)
		}
		if n := len(story.Calls()); n != 6 {
			t.Errorf("%d calls have ended:\n%v", n, story)
		}
		for err == nil {
			_, err = s.Recv()
		}
		type end struct {
			service, method string
			class           policy.Class
			attempts        int
		}
		var ends []end
		for _, i := range story.Calls() {
			ends = append(ends, end{i.Service, i.Method, i.Class, len(i.Attempts)})
		}
		want := []end{
			{"greeter", hello, policy.ClassOK, 1},
			{"greeter", hello, policy.ClassOK, 1},
			{"shut", hello, policy.ClassRefused, 1},
			{"greeter", "typed.Greeter/None", policy.ClassNoMethod, 1},
			{"greeter", hello, policy.ClassRefused, 0},
			{"none", hello, policy.ClassRefused, 0},
			{"greeter", "typed.Greeter/Chat", policy.ClassOK, 1},
		}
		if !slices.Equal(ends, want) {
			t.Errorf("ends are\n%v, want\n%v:\n%v", ends, want, story)
		}
		inner, part := hull.Explain(ctx)
		if err := say(inner, "greeter", hello); err != nil || len(part.Calls()) != 1 || len(story.Calls()) != len(want)+1 {
			t.Errorf("%v: a context within tells %d calls to its own and %d in all", err, len(part.Calls()), len(story.Calls()))
		}
		calls := story.Calls()
		if i := calls[2]; i.Instead == nil || i.Fallback != "service other" || i.Node != "b" {
			t.Errorf("a call that another stood in for: %+v", i)
		}
		if i := calls[1]; len(i.Nodes) != 1 || i.Breaker == nil || i.Attempts[0].Node != "a" || i.Attempts[0].Class != policy.ClassOK {
			t.Errorf("a call that tells its caller too: %+v", i)
		}
		if text := story.String(); strings.Count(text, "\n  node ") < 5 || !strings.Contains(text, "\nnone typed.Greeter/Hello: ") {
			t.Error(text)
		}
	})
}

// TestManyExplained is that no number of calls makes an Explanation grow without end, and that calls at the same time do not disturb one another.
func TestManyExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		for i := range 30 {
			w.Serve("greeter", fmt.Sprint("n", i), greeter)
		}
		c := w.Client("caller")
		ctx, story := hull.Explain(t.Context())
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				for range 12 {
					if _, err := hello(ctx, c); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		nodes := 0
		for _, i := range story.Calls() {
			if i.Class != policy.ClassOK || len(i.Attempts) == 0 {
				t.Errorf("%+v", i)
			}
			nodes += len(i.Nodes)
		}
		if n := len(story.Calls()); n != 100 || story.Omitted() != 20 || nodes != 990 || !strings.HasSuffix(story.String(), "\nand 20 more calls\n") {
			t.Errorf("%d calls, %d omitted, %d nodes", n, story.Omitted(), nodes)
		}
	})
}
