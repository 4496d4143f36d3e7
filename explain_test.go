package hull_test

import (
	"testing"
	"testing/synctest"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
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
