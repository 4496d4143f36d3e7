package hull_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
)

// A reload reaches the retry budget of a service that is in use, and leaves it alone when something else changes.
func TestReloadReachesTheBudget(t *testing.T) {
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	c, err := hull.NewClient(hull.WithRegistry(reg))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn := c.To("greeter")
	if n := conn.Budget(); n.Capacity != 1000 || n.Tokens != 1000 {
		t.Errorf("%+v", n)
	}
	for _, capacity := range []int{3000, 3000} {
		doc := &spec.Spec{Defaults: spec.Service{RetryBudget: spec.RetryBudget{Capacity: capacity}}}
		if err := c.Apply(doc); err != nil {
			t.Fatal(err)
		}
		if n := conn.Budget(); n.Capacity != 3000 {
			t.Errorf("after the reload: %+v", n)
		}
	}
}

// What callers may do with a method is what the nodes say of it now, and the document.
func TestFlagsFollowDiscovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		serve := func(name string, opts ...hull.HandleOption) {
			w.Serve("shop", name, func(s *hull.Server) {
				hull.Handle(s, "shop.S/Get", func(context.Context, *payRequest) (*payReply, error) {
					return nil, status.Errorf(status.Unavailable, "not now")
				}, opts...)
			})
			time.Sleep(time.Second)
		}
		c := w.Client("caller")
		again := func(what string, want bool) {
			t.Helper()
			var info hull.CallInfo
			_, err := hull.Call[payReply](t.Context(), c.To("shop"), "shop.S/Get", &payRequest{}, hull.Info(&info))
			if got := len(info.Attempts) > 1; err == nil || got != want {
				t.Errorf("%s: repeated: %v, %v\n%v", what, got, err, &info)
			}
		}
		serve("a", hull.Idempotent())
		again("idempotent", true)
		serve("b")
		again("with a node that knows better", false)
		doc, err := spec.Parse("", []byte("services: {shop: {methods: {shop.S/Get: {idempotent: true}}}}"))
		if err == nil {
			err = c.Apply(doc)
		}
		if err != nil {
			t.Fatal(err)
		}
		again("by the document", true)
		if err := c.Apply(nil); err != nil {
			t.Fatal(err)
		}
		again("by the nodes again", false)
		w.Node("b").Kill()
		time.Sleep(time.Minute)
		again("without that node", true)
	})
}

// Methods are told apart, however many there are and however alike their names.
func TestMethodsAlike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("shop", "a", greeter)
		conn := w.Client("caller").To("shop")
		names := []string{"", "S/A", "shop.S/Ask", "shop.S/Tsk"}
		for i := range 100 { // more than there is room for where one look is enough
			names = append(names, fmt.Sprintf("shop.Methods/Ask%dShop", i))
		}
		for range 2 {
			for i, name := range names {
				for range i%3 + 1 {
					_ = conn.Invoke(t.Context(), name, &payRequest{}, new(payReply))
				}
			}
		}
		ms := conn.Methods()
		for i, name := range names {
			if n, want := ms[name].Unary.Calls, 2*int64(i%3+1); n != want {
				t.Errorf("%d calls of %q, want %d", n, name, want)
			}
		}
	})
}

// A call that is kept for the next one holds nothing of what was said of it, whatever that was.
func TestNothingIsLeftOfCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", greeter)
		c := w.Client("caller", withDocument(t, "services: {greeter: {methods: {greeter.Greeter/Once: {fallback: {answer: '{}'}}}}}"))
		var info hull.CallInfo
		var md metadata.MD
		explained, _ := hull.Explain(t.Context())
		short, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		ctxs := []context.Context{t.Context(), short, metadata.AppendToOutgoingContext(t.Context(), "k", "v"), explained}
		opts := [][]hull.CallOption{nil, {grpc.StaticMethod()}, {hull.Info(&info)}, {grpc.Header(&md), grpc.Trailer(&md)}, {hull.Key("ada")}, {hull.Timeout(time.Second)},
			{hull.Criticality(policy.Sheddable)}, {hull.IdempotencyKey("k")}, {hull.MaxAttempts(1)}, {hull.Idempotent()}, {hull.SideEffectFree()},
			{grpc.MaxCallSendMsgSize(1000)}, {grpc.MaxCallRecvMsgSize(1000)}, {grpc.CallAuthority("a")}, {grpc.UseCompressor("gzip")}, {hull.MaxAttempts(0)}}
		for _, ctx := range ctxs {
			for i, o := range opts {
				for _, name := range []string{"greeter.Greeter/Hello", "greeter.Greeter/Once", "greeter.Greeter/None"} {
					_ = c.To("greeter").Invoke(ctx, name, &helloRequest{Name: "Ada"}, new(helloReply), o...)
					if left := c.Leftover(); left != nil {
						t.Fatalf("of %s with options %d: %+v", name, i, left)
					}
				}
			}
		}
	})
}
