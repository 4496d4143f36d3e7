package hull_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
	"github.com/hull-go/hull/registry/staticregistry"
	"github.com/hull-go/hull/status"
)

// phases notes a server's phases and when they began.
type phases struct {
	mu    sync.Mutex
	names []string
	at    []time.Time
}

func (p *phases) option() hull.ServerOption {
	return hull.OnPhase(func(c hull.PhaseChange) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.names, p.at = append(p.names, c.Phase.String()), append(p.at, time.Now())
	})
}

func (p *phases) list() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.names, " ")
}

func TestLifeOfAServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		var p phases
		web := dialHTTP(t, w, false)
		get := func(path string) string {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://a:80"+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := web.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			var text string
			if _, err := fmt.Fscanln(res.Body, &text); err != nil {
				t.Fatal(err)
			}
			return fmt.Sprint(res.StatusCode, " ", text)
		}
		var warm []string
		n := w.Serve("greeter", "a", greeter, p.option(), hull.WarmUp(func(context.Context) error {
			warm = append(warm, get("/hull/ready"), get("/hull/live")) // the port is open already
			return nil
		}, 0))
		if want := []string{"503 warming-up", "200 warming-up"}; !slices.Equal(warm, want) {
			t.Errorf("while it warms up: %q, want %q", warm, want)
		}
		if got := get("/hull/ready"); got != "200 ready" || n.Server.Phase() != hull.Ready {
			t.Errorf("%q, %v", got, n.Server.Phase())
		}
		c := w.Client("caller")
		if _, err := hello(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(500*time.Millisecond, func() {
			if got := get("/hull/ready"); got != "503 leaving" {
				t.Errorf("while it leaves: %q", got)
			}
		})
		n.Stop()
		if got, want := p.list(), "listening warming-up registering ready leaving deregistering draining closed"; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		if spread := p.at[5].Sub(p.at[4]); spread < time.Second || spread > 3*time.Second {
			t.Errorf("callers were given %v to hear of it", spread)
		}
	})
}

// ownRegistry is a registry whose engine is not the world's, so that it can be slow for one server, and a listener for that.
func ownRegistry(t *testing.T, w *hulltest.World) (*memregistry.Engine, *registry.Registry, net.Listener) {
	t.Helper()
	engine := memregistry.New()
	reg, err := registry.New(engine, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	ln, err := w.Network.Host("a").Listen("a:80")
	if err != nil {
		t.Fatal(err)
	}
	return engine, reg, ln
}

// TestStopWhileRegistering: a server that is asked to stop while it registers never says that it is ready, and nobody finds it afterwards.
func TestStopWhileRegistering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Registry.SetSlow(3 * time.Second)
		ln, err := w.Network.Host("a").Listen("a:80")
		if err != nil {
			t.Fatal(err)
		}
		reg, err := registry.New(w.Registry, registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer reg.Close()
		var p phases
		s, err := hull.NewServer("greeter", hull.WithRegistry(reg), hull.Listener(ln), p.option())
		if err != nil {
			t.Fatal(err)
		}
		greeter(s)
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
		if got, want := p.list(), "listening registering closed"; got != want {
			t.Errorf("phases %q, want %q", got, want)
		}
		w.Registry.SetSlow(0)
		time.Sleep(5 * time.Second)
		if _, err := hello(t.Context(), w.Client("caller"), hull.Timeout(time.Second)); status.From(err).Kind != status.NoNode {
			t.Errorf("%v, want that there is no node", err)
		}
	})
}

// TestStopBeforeReady: a server that is asked to stop before it is ready does not announce itself any more.
func TestStopBeforeReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		engine, reg, ln := ownRegistry(t, w)
		var p phases
		ctx, stop := context.WithCancel(t.Context())
		s, err := hull.NewServer("greeter", hull.WithRegistry(reg), hull.Listener(ln), p.option(), hull.WarmUp(func(context.Context) error { stop(); return nil }, 0))
		if err != nil {
			t.Fatal(err)
		}
		greeter(s)
		began := time.Now()
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
		if n := engine.Requests().Announce; n != 0 {
			t.Errorf("announced %d times after it was asked to stop; phases: %s; it took %v", n, p.list(), time.Since(began))
		}
	})
}

// unregistered returns a server whose discovery does not answer.
func unregistered(t *testing.T) (*hull.Server, *phases) {
	engine, reg, ln := ownRegistry(t, hulltest.New(t))
	engine.SetSlow(time.Hour)
	p := new(phases)
	s, err := hull.NewServer("greeter", hull.WithRegistry(reg), hull.Listener(ln), p.option())
	if err != nil {
		t.Fatal(err)
	}
	greeter(s)
	return s, p
}

// TestReadyWithAHungRegistry: a server whose discovery does not answer serves all the same, after 5 s.
func TestReadyWithAHungRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := unregistered(t)
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
		if i := slices.Index(p.names, "ready"); i < 0 || p.at[i].Sub(p.at[0]) > 5*time.Second {
			t.Errorf("%s at %v", p.list(), p.at)
		}
	})
}

// TestCloseWhileRegistering: Close ends whatever the server does at once, also while discovery does not answer.
func TestCloseWhileRegistering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := unregistered(t)
		var closed time.Time
		time.AfterFunc(time.Second, func() { closed = time.Now(); _ = s.Close() })
		err := s.Run(t.Context())
		if d := time.Since(closed); d > time.Second || err == nil || strings.Contains(p.list(), "ready") {
			t.Errorf("Run returned %v after Close: %v; phases: %s", d, err, p.list())
		}
	})
}

// TestLeavingWithAHungRegistry: a server whose discovery hangs, with a call that does not end, is gone before Kubernetes kills it.
func TestLeavingWithAHungRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, slow := range []time.Duration{4 * time.Second, time.Hour} {
			w := hulltest.New(t)
			engine, reg, ln := ownRegistry(t, w)
			var p phases
			s, err := hull.NewServer("shop", hull.WithRegistry(reg), hull.Listener(ln), p.option())
			if err != nil {
				t.Fatal(err)
			}
			began := make(chan struct{})
			hull.Handle(s, "shop.S/Get", func(ctx context.Context, _ *payRequest) (*payReply, error) {
				close(began)
				<-ctx.Done()
				return nil, ctx.Err()
			})
			ctx, stop := context.WithCancel(t.Context())
			var stopped time.Time
			c := w.Client("caller", hull.WithRegistry(reg))
			done := make(chan struct{})
			go func() {
				defer close(done)
				<-s.Ready()
				_, _ = hull.Call[payReply](t.Context(), c.To("shop"), "shop.S/Get", &payRequest{}, hull.Timeout(time.Minute))
			}()
			go func() { <-began; engine.SetSlow(slow); time.Sleep(10 * time.Second); stopped = time.Now(); stop() }()
			err = s.Run(ctx)
			if d := time.Since(stopped); d > 28500*time.Millisecond || err == nil || !strings.Contains(err.Error(), "cut off") {
				t.Errorf("registry slow by %v: it took %v to leave, and %v: Kubernetes kills after 30s", slow, d, err)
			}
			for name, most := range map[string]time.Duration{"leaving": 10 * time.Second, "deregistering": 2 * time.Second, "draining": 20 * time.Second} {
				i := slices.Index(p.names, name)
				if i < 0 || i+1 == len(p.names) {
					t.Errorf("registry slow by %v: %s: not a phase of %s", slow, name, p.list())
				} else if d := p.at[i+1].Sub(p.at[i]); d > most {
					t.Errorf("registry slow by %v: %s took %v, at most %v are promised", slow, name, d, most)
				}
			}
			<-done
			engine.SetSlow(0)
			_ = c.Close()
		}
	})
}

// TestDrainShorterThanDiscovery: calls under way when nobody sends any more have the time that Drain says, however slow discovery was.
func TestDrainShorterThanDiscovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		engine, reg, ln := ownRegistry(t, w)
		s, err := hull.NewServer("shop", hull.WithRegistry(reg), hull.Listener(ln), hull.Drain(time.Second, 2*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		hull.Handle(s, "shop.S/Get", func(context.Context, *payRequest) (*payReply, error) {
			time.Sleep(500 * time.Millisecond)
			return &payReply{}, nil
		})
		ctx, stop := context.WithCancel(t.Context())
		c := w.Client("caller", hull.WithRegistry(reg))
		call := func() error {
			_, err := hull.Call[payReply](t.Context(), c.To("shop"), "shop.S/Get", &payRequest{}, hull.Timeout(5*time.Second))
			return err
		}
		var calls sync.WaitGroup
		made := 0
		calls.Go(func() {
			<-s.Ready()
			if err := call(); err != nil {
				t.Error(err)
			}
			engine.SetSlow(4 * time.Second)
			stop()
			for time.Sleep(50 * time.Millisecond); s.Phase() < hull.Draining; time.Sleep(100 * time.Millisecond) { // as callers do who have not heard of it
				made++
				calls.Go(func() {
					if err := call(); err != nil {
						t.Error(err)
					}
				})
			}
		})
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
		calls.Wait()
		if made < 50 {
			t.Errorf("%d calls while it left", made)
		}
		engine.SetSlow(0)
		_ = c.Close()
	})
}

// readOnly is a driver without what its engine can do beside being read.
type readOnly struct{ registry.Driver }

// lagging is an engine of which one hears late.
type lagging struct {
	*memregistry.Engine
	by time.Duration
}

// Watch implements registry.Driver.
func (l lagging) Watch(ctx context.Context, service string, emit func(registry.Update)) error {
	return l.Engine.Watch(ctx, service, func(up registry.Update) {
		time.Sleep(l.by)
		emit(up)
	})
}

// TestLeavingTakesTwiceAsLongAsHearing: calls are served for twice the time in which discovery comes back with what the server has told it. One that has not
// listened before may hear first what was so before that, which takes as long.
func TestLeavingTakesTwiceAsLongAsHearing(t *testing.T) {
	for _, listens := range []bool{true, false} {
		for by, want := range map[time.Duration]time.Duration{10 * time.Millisecond: time.Second, 1500 * time.Millisecond: 3 * time.Second, time.Minute: 5 * time.Second} {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				engine, _, ln := ownRegistry(t, w)
				reg, err := registry.New(lagging{engine, by}, registry.Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer reg.Close()
				most := want + want/10
				if listens {
					defer reg.Open("greeter").Close()
				} else {
					most *= 2
				}
				if got := leaves(t, reg, ln, func() {}); got < want || got > most {
					t.Errorf("listens %v: heard after %v, it served for %v, want %v", listens, by, got, want)
				}
				if left, err := engine.List(t.Context()); len(left) > 0 || err != nil { // its registry is still open
					t.Errorf("discovery still knows %q, %v", left, err)
				}
			})
		}
	}
}

// leaves runs a server, stops it when it has been ready for a while, and returns how long it serves all calls after that. Beside it, stopping runs.
func leaves(t *testing.T, reg *registry.Registry, ln net.Listener, stopping func()) time.Duration {
	t.Helper()
	var p phases
	s, err := hull.NewServer("greeter", hull.WithRegistry(reg), hull.Listener(ln), p.option())
	if err != nil {
		t.Fatal(err)
	}
	greeter(s)
	ctx, stop := context.WithCancel(t.Context())
	var stopped time.Time
	var wg sync.WaitGroup
	wg.Go(func() {
		<-s.Ready()
		time.Sleep(10 * time.Minute)
		stopped = time.Now()
		stop()
		stopping()
	})
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if got := p.list(); !strings.HasSuffix(got, "ready leaving deregistering draining closed") {
		t.Error(got)
	}
	return p.at[slices.Index(p.names, "draining")].Sub(stopped)
}

// TestLeavingWhereDiscoveryIsRead: where others say who is there, as in Kubernetes, they also say that a server leaves. It waits until they have, and as long
// again, but not for ever, and not where nobody ever says so.
func TestLeavingWhereDiscoveryIsRead(t *testing.T) {
	const never = time.Hour
	list, err := staticregistry.New([]string{"a:80"}, staticregistry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		driver registry.Driver // nil = an engine
		listed string          // in it
		said   time.Duration   // after which it is said there that the server leaves
		want   time.Duration   // until its calls are refused
	}{
		{"said soon", nil, "a:80", 200 * time.Millisecond, time.Second},
		{"said late", nil, "a:80", 1500 * time.Millisecond, 3 * time.Second},
		{"never said", nil, "a:80", never, 5 * time.Second},
		{"not listed", nil, "b:80", never, time.Second},
		{"fixed", list, "b:80", never, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				engine, writer, ln := ownRegistry(t, w)
				pod, err := writer.Register(t.Context(), registry.Node{ID: "pod", Service: "greeter", Address: tt.listed})
				if err != nil {
					t.Fatal(err)
				}
				if tt.driver == nil {
					tt.driver = readOnly{engine}
				}
				reg, err := registry.New(tt.driver, registry.Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer reg.Close()
				got := leaves(t, reg, ln, func() {
					if tt.said == never {
						return
					}
					time.Sleep(tt.said)
					if err := pod.Update(t.Context(), func(n *registry.Node) { n.Draining = true }); err != nil {
						t.Error(err)
					}
				})
				if got < tt.want || got > tt.want+tt.want/10 {
					t.Errorf("it served for %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestWarmUpThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		for name, f := range map[string]func(context.Context) error{
			"no cache":   func(context.Context) error { return errors.New("no cache") },
			"5s at most": func(ctx context.Context) error { <-ctx.Done(); time.Sleep(time.Hour); return nil },
		} {
			ln, err := w.Network.Host("a").Listen("a:80")
			if err != nil {
				t.Fatal(err)
			}
			reg := memory(t)
			s, err := hull.NewServer("greeter", hull.WithRegistry(reg), hull.Listener(ln), hull.WarmUp(f, 5*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			greeter(s)
			if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%v, want %q", err, name)
			}
			if s.Phase() != hull.Closed {
				t.Error(s.Phase())
			}
		}
		time.Sleep(2 * time.Hour)
	})
}

// memory returns a registry in memory.
func memory(t *testing.T) *registry.Registry {
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	return reg
}

// TestStuckServerIsUnready: when as many handlers as there are places run on after their time, callers are asked to go elsewhere, until the handlers end.
func TestStuckServerIsUnready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		release, other := make(chan struct{}), make(chan struct{})
		var p phases
		n := w.Serve("plant", "a", hanging(release, new(atomic.Int64)), limited(4), p.option())
		w.Serve("plant", "b", hanging(other, new(atomic.Int64)))
		direct := healthpb.NewHealthClient(dialGRPC(t, w))
		check := func(want healthpb.HealthCheckResponse_ServingStatus) {
			t.Helper()
			if r, err := direct.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil || r.GetStatus() != want {
				t.Errorf("%v, %v; want %v", r, err, want)
			}
		}
		watch, err := direct.Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		c := w.Client("caller", bare())
		check(healthpb.HealthCheckResponse_SERVING)
		var wg sync.WaitGroup
		for range 200 { // to both nodes; b hangs too but has more places
			wg.Go(func() { _ = callPlant(t.Context(), c, "Hang", hull.Timeout(time.Second)) })
			time.Sleep(50 * time.Millisecond)
			if n.Server.Phase() == hull.Unready {
				break
			}
		}
		wg.Wait()
		time.Sleep(time.Second) // until callers know
		if n.Server.Phase() != hull.Unready {
			t.Fatalf("%v: %+v", n.Server.Phase(), n.Server.Snapshot().Admission)
		}
		check(healthpb.HealthCheckResponse_NOT_SERVING)
		for range 20 { // all calls go to the other one
			var info hull.CallInfo
			if err := callPlant(t.Context(), c, "Work", hull.Info(&info)); err != nil || info.Node != "b" {
				t.Errorf("%v by %s", err, info.Node)
			}
		}
		close(release)
		time.Sleep(time.Second)
		check(healthpb.HealthCheckResponse_SERVING)
		for i, want := range []healthpb.HealthCheckResponse_ServingStatus{1, 2, 1} {
			if r, err := watch.Recv(); err != nil || r.GetStatus() != want {
				t.Errorf("change %d: %v, %v; want %v", i, r, err, want)
			}
		}
		if got := p.list(); !strings.HasSuffix(got, "ready unready ready") {
			t.Error(got)
		}
		close(other)
		time.Sleep(time.Second)
	})
}

// TestIllServerIsUnready: callers leave a server alone whose own check says that it is ill, until it is well again; what it is called for all the same it serves.
func TestIllServerIsUnready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		var p phases
		var ill atomic.Bool
		n := w.Serve("plant", "a", hanging(nil, new(atomic.Int64)), p.option(), hull.WithHealth(registry.Health{Every: time.Second, Check: func(context.Context) error {
			if ill.Load() {
				return errors.New("the disk is full")
			}
			return nil
		}}))
		w.Serve("plant", "b", hanging(nil, new(atomic.Int64)))
		c := w.Client("caller", bare())
		nodes := func() map[string]int {
			seen := map[string]int{}
			for range 50 {
				var info hull.CallInfo
				if err := callPlant(t.Context(), c, "Work", hull.Info(&info)); err != nil {
					t.Error(err)
				}
				seen[info.Node]++
			}
			return seen
		}
		time.Sleep(10 * time.Second)
		if got := nodes(); got["a"] == 0 || got["b"] == 0 {
			t.Errorf("both are well: %v", got)
		}
		ill.Store(true)
		time.Sleep(10 * time.Second)
		if got := nodes(); got["a"] != 0 {
			t.Errorf("a is ill: %v", got)
		}
		ill.Store(false)
		time.Sleep(10 * time.Second)
		if got := nodes(); got["a"] == 0 {
			t.Errorf("a is well again: %v", got)
		}
		ill.Store(true)
		time.Sleep(5 * time.Second)
		n.Stop() // leaving while ill
		if got := p.list(); !strings.Contains(got, "ready unready ready unready leaving") {
			t.Error(got)
		}
	})
}

// TestHealthOptions: what makes no sense is said at once.
func TestHealthOptions(t *testing.T) {
	if _, err := hull.NewServer("plant", hull.WithHealth(registry.Health{})); err == nil {
		t.Error("a check of nothing")
	}
}

// TestCloseCutsShort: leaving gently takes as long as its calls; Close does not wait for them.
func TestCloseCutsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		release := make(chan struct{})
		n := w.Serve("plant", "a", hanging(release, new(atomic.Int64)))
		c := w.Client("caller", bare())
		go func() { _ = callPlant(t.Context(), c, "Hang", hull.Timeout(time.Hour)) }()
		time.Sleep(time.Second)
		began := time.Now()
		time.AfterFunc(5*time.Second, func() { _ = n.Server.Close(); _ = n.Server.Close() })
		n.Stop()
		if took := time.Since(began); took < 5*time.Second || took > 8*time.Second || n.Err() == nil {
			t.Errorf("%v, %v", took, n.Err())
		}
		close(release)
		time.Sleep(time.Second)
	})
}
