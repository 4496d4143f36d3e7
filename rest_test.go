package hull_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/status"
)

// TestManyServices is that a client which is asked for ever new names keeps few, and none that it needs less than before.
func TestManyServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", greeter)
		c := w.Client("caller")
		flood := func(round int) {
			for i := range 3 * hull.MaxServices {
				c.To(fmt.Sprintf("name-%d-%d", round, i))
				if n := c.Services(); n > hull.MaxServices {
					t.Fatalf("%d services are watched", n)
				}
			}
		}
		conn := c.To("greeter")
		call := func() {
			t.Helper()
			rep, err := hull.Call[helloReply](t.Context(), conn, "greeter.Greeter/Hello", &helloRequest{Name: "Ada"})
			if err != nil || rep.From != "a" {
				t.Fatalf("%v, %v", rep, err)
			}
		}
		call()
		flood(0)
		call()
		if c.To("greeter") != conn {
			t.Error("another Conn under the same name, while the first is there")
		}
		st, err := hull.OpenStream[helloRequest, helloReply](t.Context(), conn, "greeter.Greeter/Chat")
		if err != nil {
			t.Fatal(err)
		}
		flood(1)
		flood(2)
		if err := st.Send(&helloRequest{Name: "Ada"}); err != nil {
			t.Error(err)
		}
		if _, err := st.Recv(); err != nil {
			t.Error("a stream under way:", err)
		}
		if err := st.CloseSend(); err != nil {
			t.Error(err)
		}
		for err == nil {
			_, err = st.Recv()
		}
		flood(3)
		flood(4)
		w.Node("a").Stop() // while nobody watches
		w.Serve("greeter", "b", greeter)
		synctest.Wait() // for the news, if it does not rest after all: which names do is left to chance
		rep, err := hull.Call[helloReply](t.Context(), conn, "greeter.Greeter/Hello", &helloRequest{Name: "Ada"})
		if err != nil || rep.From != "b" {
			t.Errorf("%v, %v", rep, err)
		}
		flood(5)
		flood(6)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if _, err := hello(t.Context(), c); status.CodeOf(err) != status.Canceled {
			t.Errorf("after Close: %v", err)
		}
	})
}

// TestCalledServicesDoNotRest: among ever new names, those that are called stay, and what rests has its connections back when it is called again.
func TestCalledServicesDoNotRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", greeter)
		c := w.Client("caller")
		conn := c.To("greeter")
		names := 0
		flood := func(n int) {
			for range n {
				c.To(fmt.Sprintf("name-%d", names))
				names++
			}
		}
		call := func() {
			t.Helper()
			if rep, err := hull.Call[helloReply](t.Context(), conn, "greeter.Greeter/Hello", &helloRequest{Name: "Ada"}); err != nil {
				t.Fatalf("%v, %v", rep, err)
			}
		}
		flood(hull.MaxServices + 1) // once all have been new, and one as good as the other
		call()
		for round := range 200 { // of as many names as are put to rest together
			flood(hull.RestAtOnce)
			if conn.Rests() {
				t.Fatalf("round %d: put to rest though it is called", round)
			}
			call()
		}
		for !conn.Rests() {
			flood(hull.RestAtOnce)
		}
		synctest.Wait()
		if up := c.Connected(); up != 0 {
			t.Errorf("%d nodes are connected while the service rests", up)
		}
		call()
		if up := c.Connected(); up != 1 {
			t.Errorf("%d nodes are connected after a call, want 1", up)
		}
	})
}

// TestManyMethods is the same for names of methods.
func TestManyMethods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", greeter)
		conn := w.Client("caller").To("greeter")
		for i := range 2*hull.MaxMethods + 10 {
			_, err := hull.Call[helloReply](t.Context(), conn, fmt.Sprintf("greeter.Greeter/Hello%d", i), &helloRequest{Name: "Ada"}, hull.Timeout(0))
			if status.CodeOf(err) != status.Unimplemented && status.CodeOf(err) != status.Unavailable {
				t.Fatalf("method %d: %v", i, err)
			}
			if _, err := hull.Call[helloReply](t.Context(), conn, "greeter.Greeter/Hello", &helloRequest{Name: "Ada"}); err != nil {
				t.Fatal(err)
			}
			if n := conn.KeptMethods(); n > hull.MaxMethods {
				t.Fatalf("%d methods are kept", n)
			}
		}
	})
}
