package hull_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// TestZoneFails: calls stay in their zone while it lives, and none fails when it dies or hangs: the same call goes to another zone, in what is left of its
// time. Its story says why the zone was left.
func TestZoneFails(t *testing.T) {
	for name, fail := range map[string]func(*hulltest.Node){"killed": (*hulltest.Node).Kill, "frozen": (*hulltest.Node).Freeze} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				for _, zone := range []string{"a", "b"} {
					for i := range 3 {
						w.Serve("greeter", fmt.Sprint(zone, i), greeter, hull.Zone(zone, "north"))
					}
				}
				c := w.Client("caller", withDocument(t, `services: {greeter: {locality: {zone: a, region: north}}}`))
				for range 300 {
					var info hull.CallInfo
					if _, err := hello(t.Context(), c, hull.Info(&info)); err != nil || info.Attempts[0].Zone != "a" {
						t.Fatalf("in the calm: %v\n%v", err, &info)
					}
					time.Sleep(3 * time.Millisecond)
				}
				left := 0
				call := func() bool {
					var info hull.CallInfo
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					defer cancel()
					_, err := hello(ctx, c, hull.Explained(&info))
					if err != nil || !strings.HasPrefix(info.Node, "b") || info.Took > 5*time.Second {
						t.Errorf("%v\n%v", err, &info)
						return false
					}
					if len(info.Attempts) > 1 {
						left++
						if first := info.Attempts[0]; first.Zone != "a" || first.Class == policy.ClassOK || info.Attempts[len(info.Attempts)-1].Zone != "b" {
							t.Errorf("why the zone was left:\n%v", &info)
						}
						if story := info.String(); !strings.Contains(story, "in zone a") || !strings.Contains(story, "in zone b") {
							t.Errorf("the story names no zones:\n%v", story)
						}
					}
					return true
				}
				// One call is on its way into the zone. When the others begin the client may have heard already that the nodes have died.
				for i := range 3 {
					w.Network.Link("caller", fmt.Sprint("a", i)).Delay(10*time.Millisecond, 0)
				}
				var first sync.WaitGroup
				first.Go(func() { call() })
				time.Sleep(time.Millisecond)
				for i := range 3 {
					fail(w.Node(fmt.Sprint("a", i)))
				}
				first.Wait()
				for range 100 {
					if !call() {
						t.FailNow()
					}
					time.Sleep(10 * time.Millisecond)
				}
				if left == 0 {
					t.Error("no call had to leave its zone")
				}
				t.Logf("%d of 101 calls began in the zone that failed", left)
				if name == "frozen" {
					for i := range 3 {
						w.Node(fmt.Sprint("a", i)).Thaw()
					}
				}
			})
		})
	}
}

// TestStoryOfAnotherService is that the story of a call which another service answered tells why the first was left, and of both.
func TestStoryOfAnotherService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "first", func(s *hull.Server) {
			hull.Handle(s, greet, func(context.Context, *helloRequest) (*helloReply, error) {
				return nil, status.Errorf(status.Unavailable, "out of order")
			}, hull.Idempotent())
		})
		w.Serve("backup", "second", greeter)
		c := w.Client("caller", withDocument(t, `services: {greeter: {fallback: {service: backup}, retry: {attempts: 2}}}`))
		for range 10 { // the budget of a service without successes
			_, _ = hull.Call[helloReply](t.Context(), c.To("backup"), greet, &helloRequest{Name: "Ada"})
		}
		var info hull.CallInfo
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := ask(ctx, c, greet, "Ada", hull.Explained(&info)); err != nil {
			t.Fatal(err)
		}
		last := info.Attempts[len(info.Attempts)-1]
		if info.Class != policy.ClassUnavailable || info.Err == nil || info.Attempts[0].Service != "" || last.Service != "backup" || last.Node != "second" ||
			last.Began < info.Attempts[0].Began+info.Attempts[0].Took || info.Node != "second" || info.Took > time.Second {
			t.Errorf("%+v", info)
		}
		if i := info.Instead; i == nil || i.Service != "backup" || i.Class != policy.ClassOK || len(i.Attempts) != 1 || len(i.Nodes) != 1 || i.Budget == nil {
			t.Errorf("the other service's story: %+v", i)
		}
		for _, want := range []string{"out of order", "then service backup", "to second of backup", "instead\n    backup greeter.Greeter/Hello: ok"} {
			if story := info.String(); !strings.Contains(story, want) {
				t.Errorf("%q is not told:\n%s", want, story)
			}
		}
		if b, err := info.MarshalJSON(); err != nil || !strings.Contains(string(b), `"instead":{"service":"backup"`) {
			t.Errorf("%s, %v", b, err)
		}
		if _, err := ask(ctx, c, once, "Ada", hull.Info(&info)); info.Instead != nil {
			t.Errorf("the story of an earlier call is left: %v, %+v", err, info)
		}
	})
}

// TestKeyOfAProcessThatDied: a process that was started under the name of one that died knows nothing of its keys, and is not asked.
func TestKeyOfAProcessThatDied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		var ran atomic.Int64
		again := make(chan struct{})
		w.Serve("till", "a", func(s *hull.Server) {
			hull.Handle(s, "till.Till/Pay", func(context.Context, *helloRequest) (*helloReply, error) {
				if ran.Add(1) == 1 {
					go func() {
						defer close(again)
						w.Node("a").Kill()
						w.Node("a").Restart()
					}()
					time.Sleep(10 * time.Millisecond)
				}
				return &helloReply{Text: "paid"}, nil
			})
		})
		c := w.Client("caller")
		var info hull.CallInfo
		_, err := hull.Call[helloReply](t.Context(), c.To("till"), "till.Till/Pay", &helloRequest{}, hull.IdempotencyKey("one"), hull.Info(&info))
		<-again
		if e := status.From(err); e == nil || e.Fate != status.Maybe || e.Kind != status.Reset || ran.Load() != 1 {
			t.Errorf("%v, it ran %d times\n%v", err, ran.Load(), &info)
		}
		time.Sleep(5 * time.Second)
		if rep, err := hull.Call[helloReply](t.Context(), c.To("till"), "till.Till/Pay", &helloRequest{}, hull.IdempotencyKey("one")); err != nil || rep.Text != "paid" || ran.Load() != 2 {
			t.Errorf("the caller's own try: %v, %v, it ran %d times", rep, err, ran.Load())
		}
	})
}
