package hull_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/idempotency/storetest"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// TestOneCallOverrides is what options say of one call against what its document says of all.
func TestOneCallOverrides(t *testing.T) {
	const document = `
services:
  greeter:
    breaker: {mode: off}
    retry: {attempts: 4, backoff: constant, base: 10ms}
    hedge: {mode: on, delay: 50ms, hedges: 2}
    methods:
      greeter.Greeter/Hello: {timeout: 1s, attempt_timeout: {mode: off}}
      greeter.Greeter/Once: {timeout: 1s, idempotent: false}
`
	type made struct {
		attempts, hedges int
		took             time.Duration
		class            policy.Class
	}
	for _, tt := range []struct {
		name, method string
		takes        time.Duration
		err          error // the handler's
		opts         []hull.CallOption
		want         made
	}{
		{"the document's attempts", greet, 0, status.Errorf(status.Unavailable, "no"), nil, made{4, 0, 30 * time.Millisecond, policy.ClassUnavailable}},
		{"fewer", greet, 0, status.Errorf(status.Unavailable, "no"), []hull.CallOption{hull.MaxAttempts(2)}, made{2, 0, 10 * time.Millisecond, policy.ClassUnavailable}},
		{"not more", greet, 0, status.Errorf(status.Unavailable, "no"), []hull.CallOption{hull.MaxAttempts(7)}, made{4, 0, 30 * time.Millisecond, policy.ClassUnavailable}},
		{"the document's timeout", greet, time.Hour, nil, nil, made{1, 0, time.Second, policy.ClassDeadlineLate}},
		{"a shorter one", greet, time.Hour, nil, []hull.CallOption{hull.Timeout(300 * time.Millisecond)}, made{1, 0, 300 * time.Millisecond, policy.ClassDeadlineLate}},
		{"not a longer one", greet, time.Hour, nil, []hull.CallOption{hull.Timeout(time.Minute)}, made{1, 0, time.Second, policy.ClassDeadlineLate}},
		{"not idempotent, says the document", once, 0, status.Errorf(status.Unavailable, "no"), nil, made{1, 0, 0, policy.ClassUnavailable}},
		{"this call is", once, 0, status.Errorf(status.Unavailable, "no"), []hull.CallOption{hull.Idempotent()}, made{4, 0, 30 * time.Millisecond, policy.ClassUnavailable}},
		{"not free of side effects", greet, 120 * time.Millisecond, nil, nil, made{1, 0, 120 * time.Millisecond, policy.ClassOK}},
		{"this call is, and is hedged", greet, 120 * time.Millisecond, nil, []hull.CallOption{hull.SideEffectFree()}, made{3, 2, 120 * time.Millisecond, policy.ClassOK}},
		{"and has but so many attempts", greet, 120 * time.Millisecond, nil, []hull.CallOption{hull.SideEffectFree(), hull.MaxAttempts(2)}, made{2, 1, 120 * time.Millisecond, policy.ClassOK}},
		{"and has but one", greet, 120 * time.Millisecond, nil, []hull.CallOption{hull.SideEffectFree(), hull.MaxAttempts(1)}, made{1, 0, 120 * time.Millisecond, policy.ClassOK}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				var warm atomic.Bool
				for i := range 5 {
					w.Serve("greeter", fmt.Sprint("node-", i), func(s *hull.Server) {
						serve := func(ctx context.Context, _ *helloRequest) (*helloReply, error) {
							if !warm.Load() {
								return &helloReply{}, nil
							}
							select {
							case <-time.After(tt.takes):
								return &helloReply{}, tt.err
							case <-ctx.Done():
								return nil, ctx.Err()
							}
						}
						hull.Handle(s, greet, serve, hull.Idempotent())
						hull.Handle(s, once, serve)
					})
				}
				c := w.Client("caller", withDocument(t, document))
				for range 100 { // what the budget pays from, and the share of hedges
					if _, err := ask(t.Context(), c, tt.method, "Ada", tt.opts...); err != nil {
						t.Fatal(err)
					}
				}
				warm.Store(true)
				var info hull.CallInfo
				_, err := ask(t.Context(), c, tt.method, "Ada", append(tt.opts, hull.Info(&info))...)
				got := made{attempts: len(info.Attempts), took: info.Took, class: info.Class}
				nodes := map[string]bool{}
				for _, a := range info.Attempts {
					nodes[a.Node] = true
					if a.Hedge {
						got.hedges++
					}
				}
				if got != tt.want || len(nodes) != len(info.Attempts) {
					t.Errorf("%+v on %d nodes (%v): want %+v\n%v", got, len(nodes), err, tt.want, &info)
				}
			})
		})
	}
}

// TestSelectOfOneCall: a call that chooses its nodes goes to those that its Conn may choose as well.
func TestSelectOfOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		for _, n := range []struct{ name, version, zone string }{{"a1", "1", "a"}, {"a2", "2", "a"}, {"b1", "1", "b"}, {"b2", "2", "b"}} {
			w.Serve("greeter", n.name, greeter, hull.Version(n.version), hull.Zone(n.zone, ""))
		}
		c := w.Client("caller")
		conns := map[string]*hull.Conn{"": c.To("greeter"), "version=2": c.To("greeter", hull.Select("version=2"))}
		for _, tt := range []struct {
			conn, call string
			want       string
		}{
			{"", "zone=a", "a1 a2"},
			{"", "zone=a,version=2", "a2"},
			{"version=2", "zone=b", "b2"},
			{"version=2", "version=1", ""},
			{"", "", "a1 a2 b1 b2"},
		} {
			seen := map[string]bool{}
			for range 100 {
				var opts []hull.CallOption
				if tt.call != "" {
					opts = append(opts, hull.Select(tt.call))
				}
				rep, err := hull.Call[helloReply](t.Context(), conns[tt.conn], greet, &helloRequest{Name: "Ada"}, opts...)
				switch {
				case err == nil:
					seen[rep.From] = true
				case tt.want != "" || status.From(err).Kind != status.NoNode || !strings.Contains(err.Error(), "none of 4 nodes matches"):
					t.Fatal(err)
				}
			}
			var got []string
			for n := range seen {
				got = append(got, n)
			}
			slices.Sort(got)
			if strings.Join(got, " ") != tt.want {
				t.Errorf("%q of a conn with %q: %v", tt.call, tt.conn, got)
			}
		}
		for i := range 1000 { // and no more is kept than what is of use
			if _, err := hello(t.Context(), c, hull.Select(fmt.Sprintf("id!=%d", i))); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := hello(t.Context(), c, hull.Select("=")); status.CodeOf(err) != status.InvalidArgument {
			t.Errorf("a wrong selector: %v", err)
		}
	})
}

// TestKeyOfOneCall: a call with a key is repeated where nodes share their keys, and runs once.
func TestKeyOfOneCall(t *testing.T) {
	for name, shared := range map[string]bool{"store": true, "memory": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				var o idempotency.Options
				if shared {
					o.Store = storetest.NewMem()
				}
				var ran atomic.Int64
				for _, n := range []string{"a", "b", "c"} {
					w.Serve("till", n, func(s *hull.Server) {
						hull.Handle(s, "till.Till/Pay", func(context.Context, *helloRequest) (*helloReply, error) {
							if ran.Add(1) == 1 {
								w.Network.Pair(s.NodeID(), "caller").Cut() // what it answers does not arrive
							}
							return &helloReply{Text: "paid"}, nil
						})
					}, hull.WithIdempotency(o))
				}
				c := w.Client("caller")
				pay := func(opts ...hull.CallOption) (info hull.CallInfo, rep *helloReply, err error) {
					rep, err = hull.Call[helloReply](t.Context(), c.To("till"), "till.Till/Pay", &helloRequest{Name: "Ada"}, append(opts, hull.Info(&info))...)
					return info, rep, err
				}
				info, rep, err := pay(hull.IdempotencyKey("one"))
				want := [2]int{2, 0} // another node knows of the key
				if !shared {
					want = [2]int{1, 1} // no other does
				}
				if err != nil || rep.Text != "paid" || ran.Load() != 1 || want != [2]int{len(info.Attempts), info.Repeated} {
					t.Errorf("%v, %v, it ran %d times, %d times repeated\n%v", rep, err, ran.Load(), info.Repeated, &info)
				}
				ran.Store(0)
				if info, _, err := pay(); err == nil || len(info.Attempts) != 1 || ran.Load() != 1 {
					t.Errorf("without a key: %v, it ran %d times\n%v", err, ran.Load(), &info)
				}
			})
		})
	}
}
