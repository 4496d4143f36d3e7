package registry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
)

func node(id string) registry.Node {
	return registry.Node{ID: id, Service: "greeter", Address: fmt.Sprintf("192.0.2.1:%d", 1000+len(id)*100+int(id[len(id)-1]))}
}

func newRegistry(t *testing.T, d registry.Driver, o registry.Options) *registry.Registry {
	t.Helper()
	r, err := registry.New(d, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// watched returns the IDs the engine lists now.
func watched(t *testing.T, e *memregistry.Engine) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var ids []string
	_ = e.Watch(ctx, "greeter", func(up registry.Update) {
		for _, n := range up.Nodes {
			ids = append(ids, n.ID)
		}
		cancel()
	})
	slices.Sort(ids)
	return ids
}

func TestRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memregistry.New()
		r := newRegistry(t, e, registry.Options{})
		g, err := r.Register(t.Context(), registry.Node{Service: "greeter", Address: "h:1"})
		if err != nil || g.Err() != nil || g.Node().ID == "" || g.Node().Started.IsZero() {
			t.Fatal(err, g.Err(), g.Node())
		}
		last, when := e.Requests().Renew, time.Now()
		for range 50 {
			for e.Requests().Renew == last {
				time.Sleep(time.Millisecond)
			}
			if d := time.Since(when); d < 8*time.Second-time.Millisecond || d > 12*time.Second+2*time.Millisecond {
				t.Errorf("renewed after %v, want 10s ± 20 %%", d)
			}
			last, when = e.Requests().Renew, time.Now()
		}
		if n := e.Requests(); n.Announce != 1 || n.Update != 0 {
			t.Errorf("%+v", n)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if ids := watched(t, e); len(ids) != 0 {
			t.Errorf("after Close: %v", ids)
		}
		if err := g.Close(t.Context()); err != nil {
			t.Error("closing twice:", err)
		}
		if err := g.Update(t.Context(), func(*registry.Node) {}); !errors.Is(err, registry.ErrClosed) {
			t.Error(err)
		}
		if _, err := r.Register(t.Context(), node("a")); !errors.Is(err, registry.ErrClosed) {
			t.Error(err)
		}
	})
}

func TestRegisteringWhileTheEngineIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memregistry.New()
		r := newRegistry(t, e, registry.Options{})
		e.SetDown(true)
		g, err := r.Register(t.Context(), node("a"))
		if err != nil || !errors.Is(g.Err(), memregistry.ErrDown) {
			t.Fatal(err, g.Err())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := g.Wait(ctx); !errors.Is(err, memregistry.ErrDown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		cancel()
		if n := e.Requests().Announce; n < 30 || n > 200 {
			t.Errorf("%d tries in a minute", n)
		}
		if err := g.Update(t.Context(), func(n *registry.Node) { n.Draining = true }); !errors.Is(err, memregistry.ErrDown) {
			t.Error(err)
		}
		e.SetDown(false)
		back := time.Now()
		if err := g.Wait(t.Context()); err != nil || g.Err() != nil || time.Since(back) > 2*time.Second {
			t.Errorf("%v, %v, after %v", err, g.Err(), time.Since(back))
		}
		s, err := r.Lookup(t.Context(), "greeter")
		if err != nil || !s.Nodes[0].Draining {
			t.Error(s, err)
		}
		// Closing while it is down says so, and takes no longer than asked for.
		e.SetDown(true)
		if err := g.Close(t.Context()); !errors.Is(err, memregistry.ErrDown) {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestWithdrawAndReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memregistry.New()
		r := newRegistry(t, e, registry.Options{})
		defer r.Close()
		g, err := r.Register(t.Context(), node("a"))
		if err != nil {
			t.Fatal(err)
		}
		step := func(what string, err error, want ...string) {
			t.Helper()
			if ids := watched(t, e); err != nil || !slices.Equal(ids, want) {
				t.Errorf("%s: %v, %v", what, ids, err)
			}
		}
		step("withdraw", g.Withdraw(t.Context()))
		step("withdraw twice", g.Withdraw(t.Context()))
		step("update while withdrawn", g.Update(t.Context(), func(n *registry.Node) { n.Zone = "z"; n.ID = "other" }))
		time.Sleep(time.Hour)
		step("an hour later", nil)
		step("return", g.Return(t.Context()), "a")
		if g.Node().Zone != "z" || g.Node().ID != "a" {
			t.Errorf("%+v", g.Node())
		}
		if err := g.Update(t.Context(), func(n *registry.Node) { n.Address = "nonsense" }); err == nil {
			t.Error("an invalid change was taken")
		}
		step("after an invalid change", g.Wait(t.Context()), "a")
	})
}

func TestWithdrawAndReturnWhileTheEngineIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memregistry.New()
		r := newRegistry(t, e, registry.Options{})
		defer r.Close()
		g, err := r.Register(t.Context(), node("a"))
		if err != nil {
			t.Fatal(err)
		}
		e.SetDown(true)
		if err := g.Withdraw(t.Context()); !errors.Is(err, memregistry.ErrDown) {
			t.Error(err)
		}
		e.SetDown(false)
		if err := g.Wait(t.Context()); err != nil || len(watched(t, e)) != 0 {
			t.Errorf("the withdrawal is not made good: %v, %v", err, watched(t, e))
		}
		if err := g.Return(t.Context()); err != nil {
			t.Error(err)
		}
		e.SetDown(true)
		_ = g.Withdraw(t.Context())
		_ = g.Return(t.Context())
		e.SetDown(false)
		if err := g.Wait(t.Context()); err != nil || !slices.Equal(watched(t, e), []string{"a"}) {
			t.Errorf("%v, %v", err, watched(t, e))
		}
		if n := e.Requests().Announce; n != 2 {
			t.Errorf("%d announcements, want 2", n)
		}
	})
}

func TestSlowEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memregistry.New()
		r := newRegistry(t, e, registry.Options{})
		e.SetSlow(time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		g, err := r.Register(ctx, node("a"))
		if err != nil || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		time.Sleep(10 * time.Second)
		if !errors.Is(g.Err(), context.DeadlineExceeded) {
			t.Errorf("%v", g.Err())
		}
		began = time.Now()
		_ = g.Close(ctx)
		_ = r.Close()
		if time.Since(began) > 5*time.Second {
			t.Errorf("Close took %v", time.Since(began))
		}
	})
}

// lossy is a driver whose leases say that they are lost.
type lossy struct {
	*memregistry.Engine
	mu      sync.Mutex
	lost    chan struct{}
	renewed int
}

type lossyLease struct {
	registry.Lease
	d    *lossy
	lost chan struct{}
}

func (d *lossy) Announce(ctx context.Context, n *registry.Node, ttl time.Duration) (registry.Lease, error) {
	l, err := d.Engine.Announce(ctx, n, ttl)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost = make(chan struct{})
	return &lossyLease{Lease: l, d: d, lost: d.lost}, err
}

func (l *lossyLease) Lost() <-chan struct{} { return l.lost }

func (l *lossyLease) Renew(ctx context.Context) error {
	l.d.mu.Lock()
	l.d.renewed++
	l.d.mu.Unlock()
	return l.Lease.Renew(ctx)
}

func TestALossIsMendedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &lossy{Engine: memregistry.New()}
		r := newRegistry(t, d, registry.Options{})
		defer r.Close()
		if _, err := r.Register(t.Context(), node("a")); err != nil {
			t.Fatal(err)
		}
		d.Wipe()
		close(d.lost)
		synctest.Wait()
		if ids := watched(t, d.Engine); !slices.Equal(ids, []string{"a"}) {
			t.Errorf("%v", ids)
		}
		// A driver that cries wolf is not asked without end.
		d.mu.Lock()
		before := d.renewed
		d.mu.Unlock()
		close(d.lost)
		time.Sleep(time.Second)
		d.mu.Lock()
		defer d.mu.Unlock()
		if n := d.renewed - before; n != 1 {
			t.Errorf("%d renewals after a false alarm", n)
		}
	})
}

// fleet is some servers and a client around one engine.
func fleet(t *testing.T, n int) (e *memregistry.Engine, client *registry.Registry, servers []*registry.Registry, ids []string) {
	t.Helper()
	e = memregistry.New()
	client = newRegistry(t, e, registry.Options{})
	for i := range n {
		id := fmt.Sprintf("n%02d", i)
		s := newRegistry(t, e, registry.Options{})
		if _, err := s.Register(t.Context(), node(id)); err != nil {
			t.Fatal(err)
		}
		ids, servers = append(ids, id), append(servers, s)
	}
	return e, client, servers, ids
}

// never asserts, until the returned function is called, that the view never loses one of the nodes.
func never(t *testing.T, v *registry.View, ids []string) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			changed := v.Changed()
			s := v.Snapshot()
			for _, id := range ids {
				if s.Node(id) == nil {
					t.Errorf("revision %d has lost %s: %s", s.Revision, id, s.Why)
				}
			}
			select {
			case <-changed:
			case <-done:
				return
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// Scenario 16: the registry is down for an hour, then answers "empty" once, and forgets everything while at it.
func TestRegistryBlackout(t *testing.T) {
	faults := map[string]func(e *memregistry.Engine){
		"down for an hour, then empty": func(e *memregistry.Engine) {
			e.SetDown(true)
			time.Sleep(time.Hour)
			e.SetEmpty(true)
			e.SetDown(false)
			time.Sleep(3 * time.Second)
			e.SetEmpty(false)
		},
		"wiped":       func(e *memregistry.Engine) { e.Wipe() },
		"silent":      func(e *memregistry.Engine) { e.SetSilent(true); time.Sleep(time.Hour); e.SetSilent(false) },
		"slow":        func(e *memregistry.Engine) { e.SetSlow(4 * time.Second); time.Sleep(time.Hour); e.SetSlow(0) },
		"mass expiry": func(e *memregistry.Engine) { e.Expire("greeter") },
		"expiry of a half": func(e *memregistry.Engine) {
			e.Expire("greeter", "n00", "n01", "n02", "n03", "n04")
		},
		"flapping": func(e *memregistry.Engine) {
			for i := range 500 {
				e.SetDown(i%2 == 0)
				e.SetEmpty(i%3 == 0)
				time.Sleep(time.Duration(i) * 7 * time.Millisecond)
			}
			e.SetDown(false)
			e.SetEmpty(false)
		},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, client, servers, ids := fleet(t, 10)
				v := client.Open("greeter")
				if _, err := v.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				stop := never(t, v, ids)
				fault(e)
				time.Sleep(30 * time.Second)
				stop()
				s := v.Snapshot()
				if len(s.Nodes) != 10 || s.Disbelieved != 0 || s.Stale {
					t.Errorf("30 s after: %d nodes, %d disbelieved, stale %v: %s", len(s.Nodes), s.Disbelieved, s.Stale, s.Why)
				}
				// New ones are found, those that leave go.
				late := newRegistry(t, e, registry.Options{})
				if _, err := late.Register(t.Context(), node("late")); err != nil {
					t.Fatal(err)
				}
				if err := servers[0].Close(); err != nil {
					t.Error(err)
				}
				time.Sleep(5 * time.Second)
				if s := v.Snapshot(); s.Node("late") == nil || s.Node("n00") != nil || len(s.Nodes) != 10 {
					t.Errorf("5 s later: %+v", s)
				}
				for _, r := range append(servers, client, late) {
					if err := r.Close(); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// An engine so slow that no renewal gets through loses one lease after the other. Few at a time are believed, but as
// long as callers vouch for the last ones the set never goes empty, and it mends itself.
func TestEveryLeaseRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, client, servers, _ := fleet(t, 10)
		v := client.Open("greeter")
		if _, err := v.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		e.SetSlow(20 * time.Second)
		for range 3600 {
			time.Sleep(time.Second)
			s := v.Snapshot()
			if len(s.Nodes) == 0 {
				t.Fatal("the set is empty though every node lives")
			}
			for _, n := range s.Nodes {
				v.Report(n.ID, true)
			}
		}
		e.SetSlow(0)
		time.Sleep(10 * time.Second) // what is under way takes 5 s to give up, and the back-off 2
		if s := v.Snapshot(); len(s.Nodes) != 10 || s.Disbelieved != 0 || s.Stale {
			t.Errorf("10 s after: %+v", s)
		}
		for _, r := range append(servers, client) {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func ExampleRegistry() {
	engine := memregistry.New() // or fileregistry, etcdregistry …
	r, err := registry.New(engine, registry.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	ctx := context.Background()
	g, err := r.Register(ctx, registry.Node{Service: "greeter", ID: "one", Address: "192.0.2.1:80"})
	if err != nil {
		fmt.Println(err)
		return
	}
	v := r.Open("greeter")
	defer v.Close()
	s, err := v.Wait(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, n := range s.Nodes {
		fmt.Println(n.ID, n.Address)
	}
	if err := g.Close(ctx); err != nil {
		fmt.Println(err)
	}
	// Output: one 192.0.2.1:80
}
