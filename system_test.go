package hull_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
)

// load offers calls at a steady rate, whether or not earlier ones have been answered, and waits for all of them.
type load struct {
	mu      sync.Mutex
	ok      int
	failed  []error
	longest time.Duration
	nodes   map[string]int
}

func (l *load) run(t *testing.T, c *hull.Client, perSecond int, d time.Duration, opts ...hull.CallOption) {
	t.Helper()
	var wg sync.WaitGroup
	for range int(d.Seconds() * float64(perSecond)) {
		wg.Go(func() {
			start := time.Now()
			var info hull.CallInfo
			_, err := hello(t.Context(), c, append([]hull.CallOption{hull.Info(&info)}, opts...)...)
			l.mu.Lock()
			defer l.mu.Unlock()
			l.longest = max(l.longest, time.Since(start))
			if err != nil {
				l.failed = append(l.failed, err)
				return
			}
			l.ok++
			if l.nodes == nil {
				l.nodes = map[string]int{}
			}
			l.nodes[info.Node]++
		})
		time.Sleep(time.Second / time.Duration(perSecond))
	}
	wg.Wait()
}

func (l *load) allOK(t *testing.T, what string) {
	t.Helper()
	if len(l.failed) > 0 {
		t.Errorf("%s: %d of %d calls failed, the first with: %v", what, len(l.failed), l.ok+len(l.failed), l.failed[0])
	}
}

func three(t *testing.T, opts ...hull.ServerOption) (*hulltest.World, *hull.Client) {
	w := hulltest.New(t)
	for _, n := range []string{"a", "b", "c"} {
		w.Serve("greeter", n, greeter, opts...)
	}
	return w, w.Client("caller")
}

func TestKilledNodeLosesNoIdempotentCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := three(t)
		time.AfterFunc(2*time.Second, func() { w.Node("b").Kill() })
		var l load
		l.run(t, c, 300, 10*time.Second)
		l.allOK(t, "killing one of three")
		if l.nodes["a"] == 0 || l.nodes["c"] == 0 {
			t.Errorf("nodes that answered: %v", l.nodes)
		}
		t.Logf("%d ok, longest %v, by node %v", l.ok, l.longest, l.nodes)
	})
}

func TestFrozenNodeLosesNoIdempotentCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := three(t)
		for range 300 { // let attempt timeouts be learned
			if _, err := hello(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Millisecond)
		}
		w.Node("b").Freeze()
		var l load
		l.run(t, c, 300, 10*time.Second)
		l.allOK(t, "freezing one of three")
		if l.longest > 2*time.Second {
			t.Errorf("the longest call took %v", l.longest)
		}
		t.Logf("%d ok, longest %v, by node %v", l.ok, l.longest, l.nodes)
		w.Node("b").Thaw()
		var after load
		after.run(t, c, 300, 15*time.Second)
		after.allOK(t, "after the thaw")
		if after.nodes["b"] == 0 {
			t.Errorf("the thawed node got no calls back: %v", after.nodes)
		}
	})
}

func TestRegistryLossGoesUnnoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := three(t)
		if _, err := hello(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		w.Registry.SetDown(true)
		var l load
		l.run(t, c, 5, 10*time.Minute)
		l.allOK(t, "ten minutes without a registry")
		w.Registry.SetDown(false)
		w.Registry.SetEmpty(true)
		var e load
		e.run(t, c, 5, time.Minute)
		e.allOK(t, "a registry that answers with nothing")
		w.Registry.SetEmpty(false)
		w.Serve("greeter", "d", greeter)
		var n load
		n.run(t, c, 50, 20*time.Second)
		n.allOK(t, "afterwards")
		if n.nodes["d"] == 0 {
			t.Errorf("the new node was not found: %v", n.nodes)
		}
	})
}

func TestSlowNodeGetsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := three(t)
		w.Node("b").Slow(200 * time.Millisecond)
		var l load
		l.run(t, c, 100, 20*time.Second)
		l.allOK(t, "one slow node")
		if share := float64(l.nodes["b"]) / float64(l.ok); share > 0.05 {
			t.Errorf("the slow node got %.1f %% of the calls", 100*share)
		}
	})
}

func TestBudgetBoundsRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		var served atomic.Int64
		for _, n := range []string{"a", "b", "c"} {
			w.Serve("greeter", n, func(s *hull.Server) {
				hull.Handle(s, "greeter.Greeter/Hello", func(context.Context, *helloRequest) (*helloReply, error) {
					served.Add(1)
					return nil, status.Errorf(status.Unavailable, "out of order")
				}, hull.Idempotent())
			})
		}
		off := &spec.Spec{Defaults: spec.Service{Policy: spec.Policy{Breaker: spec.Breaker{Mode: spec.Off}}, Ejection: spec.Ejection{Mode: spec.Off}, Throttle: spec.Throttle{Mode: spec.Off}}}
		c := w.Client("caller", hull.WithSpec(off))
		var l load
		l.run(t, c, 200, 30*time.Second)
		calls := int64(len(l.failed))
		// The budget starts with 1000 tokens, and a retry costs 10: a hundred extra attempts, however many calls fail.
		if extra := served.Load() - calls; l.ok != 0 || extra > 110 {
			t.Errorf("%d calls became %d attempts: %d extra", calls, served.Load(), extra)
		}
	})
}

func TestBreakerSparesAMethodThatFailsAnyway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		var served atomic.Int64
		var broken atomic.Bool
		broken.Store(true)
		for _, n := range []string{"a", "b", "c"} {
			w.Serve("greeter", n, func(s *hull.Server) {
				hull.Handle(s, "greeter.Greeter/Hello", func(context.Context, *helloRequest) (*helloReply, error) {
					served.Add(1)
					if broken.Load() {
						return nil, status.Errorf(status.Unavailable, "out of order")
					}
					return &helloReply{}, nil
				}, hull.Idempotent())
			})
		}
		c := w.Client("caller")
		var l load
		l.run(t, c, 100, 20*time.Second)
		if n := served.Load(); n > 600 {
			t.Errorf("2000 calls reached the nodes %d times", n)
		}
		broken.Store(false)
		start := time.Now()
		for {
			if _, err := hello(t.Context(), c); err == nil {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		if d := time.Since(start); d > 40*time.Second {
			t.Errorf("it took %v until a call went through again", d)
		}
		var recovering, after load
		recovering.run(t, c, 100, 2*time.Second)
		after.run(t, c, 100, 5*time.Second)
		after.allOK(t, "after the recovery")
	})
}

func TestAllDownThenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := three(t)
		var l load
		l.run(t, c, 100, 2*time.Second)
		for _, n := range []string{"a", "b", "c"} {
			w.Node(n).Kill()
		}
		stale := func(ctx context.Context, err error) (*helloReply, error) { return &helloReply{Text: "stale"}, nil }
		for range 500 {
			rep, err := hull.CallElse(t.Context(), c.To("greeter"), "greeter.Greeter/Hello", &helloRequest{Name: "Ada"}, stale)
			if err != nil || rep.Text != "stale" {
				t.Fatalf("all down: %v, %v; want the fallback", rep, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		for _, n := range []string{"a", "b", "c"} {
			w.Node(n).Restart()
		}
		back := time.Now()
		for {
			if _, err := hello(t.Context(), c); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if d := time.Since(back); d > 2*time.Second {
			t.Errorf("service was back %v after the nodes", d)
		}
		var recovering, after load
		recovering.run(t, c, 100, 2*time.Second-time.Since(back))
		after.run(t, c, 100, 5*time.Second)
		after.allOK(t, "2 s after the return")
	})
}

// TestDeadlineThroughTheChain: a deadline of 300 ms through three services. Each sees less than the one above had, and nobody
// works when it is gone.
func TestDeadlineThroughTheChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		left := make([]time.Duration, 3)
		var late atomic.Int32
		var stopped sync.WaitGroup
		stopped.Add(1)
		for i, name := range []string{"one", "two", "three"} {
			down := w.Client("client-of-" + name)
			w.Serve(name, name, func(s *hull.Server) {
				hull.Handle(s, "chain.Chain/Go", func(ctx context.Context, r *helloRequest) (*helloReply, error) {
					d, ok := ctx.Deadline()
					if !ok {
						return nil, status.Errorf(status.Internal, "no deadline at hop %d", i)
					}
					left[i] = time.Until(d)
					if left[i] <= 0 {
						late.Add(1)
					}
					time.Sleep(50 * time.Millisecond)
					if i == 2 {
						defer stopped.Done()
						<-ctx.Done() // works until nobody waits any more
						if over := -time.Until(d); over > 5*time.Millisecond {
							t.Errorf("the leaf learned of the end %v late", over)
						}
						return nil, ctx.Err()
					}
					next := fmt.Sprint([]string{"two", "three"}[i])
					return hull.Call[helloReply](ctx, down.To(next), "chain.Chain/Go", r)
				})
			})
		}
		c := w.Client("caller")
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := hull.Call[helloReply](ctx, c.To("one"), "chain.Chain/Go", &helloRequest{})
		if status.CodeOf(err) != status.DeadlineExceeded {
			t.Errorf("%v", err)
		}
		if d := time.Since(start); d < 300*time.Millisecond || d > 350*time.Millisecond {
			t.Errorf("the call ended after %v, want its 300ms", d)
		}
		stopped.Wait()
		if !(left[0] <= 300*time.Millisecond && left[1] <= left[0]-50*time.Millisecond && left[2] <= left[1]-50*time.Millisecond && left[2] > 0) {
			t.Errorf("left at each hop: %v", left)
		}
		if late.Load() != 0 {
			t.Errorf("%d handlers began after the deadline", late.Load())
		}
		time.Sleep(time.Second)
		t.Logf("left at each hop: %v", left)
	})
}

// TestOnlyTheLayerNextToTheFailureRetries: a leaf that always fails under three layers is called three times per root call, not
// twenty-seven.
func TestOnlyTheLayerNextToTheFailureRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		var leaf atomic.Int64
		layer := func(name, next string) {
			down := w.Client("client-of-" + name)
			for _, host := range []string{"1", "2", "3"} {
				w.Serve(name, name+host, func(s *hull.Server) {
					hull.Handle(s, "chain.Chain/Go", func(ctx context.Context, r *helloRequest) (*helloReply, error) {
						if next == "" {
							leaf.Add(1)
							return nil, status.Errorf(status.Unavailable, "out of order")
						}
						return hull.Call[helloReply](ctx, down.To(next), "chain.Chain/Go", r)
					}, hull.Idempotent())
				})
			}
		}
		layer("one", "two")
		layer("two", "three")
		layer("three", "")
		c := w.Client("caller")
		for range 5 {
			_, err := hull.Call[helloReply](t.Context(), c.To("one"), "chain.Chain/Go", &helloRequest{})
			if e := status.From(err); e == nil || e.Origin != status.Downstream || e.Code != status.Unavailable {
				t.Errorf("%v (%+v)", err, e)
			}
		}
		if n := leaf.Load(); n != 15 {
			t.Errorf("5 root calls became %d at the leaf; want 15: three attempts by the layer next to it", n)
		}
	})
}

func TestDrainLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := three(t)
		time.AfterFunc(time.Second, func() {
			for _, n := range []string{"a", "b", "c"} {
				w.Node(n).Stop()
				w.Node(n).Restart()
			}
		})
		var wg sync.WaitGroup
		for range 3000 {
			wg.Go(func() {
				// Not idempotent: only what was provably not processed may be repeated.
				if _, err := hull.Call[helloReply](t.Context(), c.To("greeter"), "greeter.Greeter/Once", &helloRequest{Name: "Ada"}); err != nil {
					t.Errorf("during a rolling restart: %v", err)
				}
			})
			time.Sleep(5 * time.Millisecond)
		}
		wg.Wait()
	})
}

func hedged(after time.Duration) *spec.Spec {
	return &spec.Spec{Defaults: spec.Service{Policy: spec.Policy{Hedge: spec.Hedge{Mode: spec.On, Delay: spec.Duration(after)}}}}
}

func TestExplain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := three(t)
		conn := c.To("greeter")
		if n := conn.Explain(); len(n) != 0 {
			t.Errorf("before the first call: %v", n)
		}
		var l load
		l.run(t, c, 100, time.Second)
		w.Node("b").Kill()
		l.run(t, c, 100, time.Second)
		l.allOK(t, "one node killed")
		states := map[string]string{}
		for _, n := range conn.Explain() {
			states[n.ID] = string(n.State)
		}
		if states["a"] != "ready" || states["b"] != "down" || states["c"] != "ready" {
			t.Errorf("states %v", states)
		}
		m := conn.Methods()["greeter.Greeter/Hello"]
		if m.Unary.Calls != 200 || m.Breaker.State.String() != "closed" {
			t.Errorf("method %+v", m)
		}
		if b := conn.Budget(); b.Tokens <= 0 {
			t.Errorf("budget %+v", b)
		}
		if len(c.Connections()) != 3 {
			t.Errorf("connections %+v", c.Connections())
		}
	})
}
