package hull_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
)

func TestCallsOutliveTheRegistryByAnHour(t *testing.T) {
	for name, fault := range map[string]func(e *memregistry.Engine, on bool){
		"down":   (*memregistry.Engine).SetDown,
		"silent": (*memregistry.Engine).SetSilent,
		"empty":  (*memregistry.Engine).SetEmpty,
	} {
		for what, perSecond := range map[string]int{"busy": 2, "idle": 0} {
			t.Run(name+", "+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w, c := three(t)
					var before, l, after load
					before.run(t, c, 50, time.Second)
					fault(w.Registry, true)
					if perSecond > 0 {
						l.run(t, c, perSecond, time.Hour)
					} else {
						time.Sleep(time.Hour)
						l.run(t, c, 100, time.Second)
					}
					l.allOK(t, "without the registry")
					if len(l.nodes) != 3 {
						t.Errorf("nodes that answered: %v", l.nodes)
					}
					fault(w.Registry, false)
					w.Serve("greeter", "d", greeter)
					after.run(t, c, 20, 20*time.Second)
					after.allOK(t, "afterwards")
					if after.nodes["d"] == 0 {
						t.Errorf("the new node was not found: %v", after.nodes)
					}
				})
			})
		}
	}
}

// bank is another service that happens to have the same method, on the address of a node that has died.
func bank(t *testing.T, w *hulltest.World, host string) (calls *atomic.Int64) {
	t.Helper()
	calls = new(atomic.Int64)
	ln, err := w.Network.Host(host).Listen(host + ":80")
	if err != nil {
		t.Fatal(err)
	}
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := hull.NewServer("bank", hull.WithRegistry(reg), hull.Listener(ln))
	if err != nil {
		t.Fatal(err)
	}
	hull.Handle(s, "greeter.Greeter/Hello", func(context.Context, *helloRequest) (*helloReply, error) {
		calls.Add(1)
		return &helloReply{Text: "Your balance is 0"}, nil
	}, hull.Idempotent())
	hull.HandleStream(s, "greeter.Greeter/Chat", func(*hull.ServerStream[helloRequest, helloReply]) error {
		calls.Add(1)
		return nil
	})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, reg.Close()); err != nil {
			t.Error(err)
		}
	})
	<-s.Ready()
	return calls
}

func TestAddressThatAnotherServiceGot(t *testing.T) {
	for name, fault := range map[string]func(e *memregistry.Engine, on bool){
		"down":  (*memregistry.Engine).SetDown,
		"empty": (*memregistry.Engine).SetEmpty,
		"well":  func(*memregistry.Engine, bool) {}, // it names the dead node until its lease ends
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, c := three(t)
				var before, l load
				before.run(t, c, 50, time.Second)
				fault(w.Registry, true)
				time.Sleep(time.Second)
				w.Node("a").Kill()
				calls := bank(t, w, "a")
				l.run(t, c, 50, 5*time.Minute)
				l.allOK(t, "with a node's address reused")
				for range 20 { // streams are not repeated: one may fail, none may get there
					s, err := hull.OpenStream[helloRequest, helloReply](t.Context(), c.To("greeter"), "greeter.Greeter/Chat")
					if err != nil {
						continue
					}
					_ = s.CloseSend()
					for err == nil {
						_, err = s.Recv()
					}
				}
				if n := calls.Load(); n != 0 {
					t.Errorf("%d calls reached another service", n)
				}
				if l.nodes["b"] == 0 || l.nodes["c"] == 0 {
					t.Errorf("nodes that answered: %v", l.nodes)
				}
			})
		})
	}
}

// Of a node that cannot say who it is nothing is believed for longer than a minute, however well its address answers.
func TestStrangerAtAnAddressIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		calls := bank(t, w, "a")
		w.Registry.Put(registry.Node{ID: "x", Service: "greeter", Address: "a:80"})
		c := w.Client("caller")
		if _, err := hello(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		w.Registry.Remove("greeter", "x", "")
		var l, after load
		l.run(t, c, 5, 59*time.Second)
		l.allOK(t, "while it may be the registry's fault")
		time.Sleep(3 * time.Second)
		was := calls.Load()
		after.run(t, c, 5, time.Minute)
		if n := calls.Load() - was; n != 0 {
			t.Errorf("%d calls reached whoever has the address after a minute", n)
		}
	})
}

// TestDeadlineWhileDiscoveryHangs: all nodes of a service have left and discovery does not answer; calls end at their deadline all the same.
func TestDeadlineWhileDiscoveryHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("greeter", "a", greeter)
		c := w.Client("caller")
		if _, err := hello(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		n.Stop()
		time.Sleep(3 * time.Second)
		w.Registry.SetSlow(time.Hour)
		for range 2 {
			began := time.Now()
			_, err := hello(t.Context(), c, hull.Timeout(200*time.Millisecond))
			if took := time.Since(began); took > 200*time.Millisecond || err == nil {
				t.Errorf("a call with a timeout of 200ms took %v: %v", took, err)
			}
		}
		w.Registry.SetSlow(0)
	})
}
