package etcd_test

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/etcdregistry"
)

func (m *member) subject(t testing.TB) engine.Subject {
	return engine.Subject{URL: "etcd://" + m.Addr(), FromURL: etcdregistry.FromURL, TTL: ttl,
		Kill: m.kill, Start: m.start, Freeze: m.Freeze, Thaw: m.Thaw, Cut: m.Cut, Mend: m.Mend, Wipe: func() { m.wipe(t) },
		Slow: m.Slow, Delay: 300 * time.Millisecond}
}

// Calls between living nodes do not notice what befalls etcd.
func TestCallsGoOn(t *testing.T) {
	t.Parallel()
	m := cluster(t, 1)[0]
	root := protect(t, m)
	password := func(p string) func() {
		return func() {
			if _, err := root.UserChangePassword(context.Background(), "hull", p); err != nil {
				t.Error(err)
			}
		}
	}
	s := m.subject(t)
	s.URL = "etcd://hull:secret@" + m.Addr()
	s.Revoke, s.Restore = password("other"), password("secret")
	s.Wipe = nil // the accounts would be gone, too
	engine.Calls(t, s, s.Faults()...)
}

func TestFrozenForAMinute(t *testing.T) {
	t.Parallel()
	m := cluster(t, 1)[0]
	engine.Calls(t, m.subject(t), engine.Fault{Name: "wiped empty", Begin: func() { m.wipe(t) }},
		engine.Fault{Name: "frozen for a minute", Begin: m.Freeze, End: m.Thaw, Hold: time.Minute})
}

func TestNetworkCut(t *testing.T) {
	t.Parallel()
	n := engine.NewNetwork(t)
	dir := t.TempDir()
	p := engine.New(t, func() *exec.Cmd {
		return n.In(engine.Role("etcd", "http", n.Host, dir, "m0", "m0"))
	})
	s := engine.Subject{URL: "etcd://" + p.Start(), FromURL: etcdregistry.FromURL, TTL: ttl}
	engine.Calls(t, s, engine.Fault{Name: "the network cut", Begin: n.Cut, End: n.Mend, Hold: 4 * ttl})
}

func TestAddressReused(t *testing.T) {
	t.Parallel()
	engine.Reuse(t, cluster(t, 1)[0].subject(t))
}

func TestDetection(t *testing.T) {
	t.Parallel()
	engine.Detect(t, cluster(t, 1)[0].subject(t))
}

func TestManyReconnect(t *testing.T) { engine.Crowd(t, cluster(t, 1)[0].subject(t), 1000) }

func TestDeaths(t *testing.T) {
	t.Parallel()
	engine.Deaths(t, cluster(t, 1)[0].subject(t))
}

func TestGarbage(t *testing.T) {
	t.Parallel()
	m := cluster(t, 1)[0]
	c := client(t, m)
	put := func(key, value string) error {
		_, err := c.Put(t.Context(), key, value)
		return err
	}
	engine.Garbage(t, m.subject(t), func(service, id, value string) error { return put("/hull/"+service+"/nodes/"+id, value) }, func() {
		for _, key := range []string{"/hull/", "/hull/greeter", "/hull/greeter/", "/hull/greeter/other/x", "/hull/greeter/nodes", "/hull/greeter/nodes/", "/hullgreeter", "/hull/\xff/nodes/x"} {
			if err := put(key, "junk"); err != nil {
				t.Error(err)
			}
		}
	})
}

// A member of a cluster is stopped, and stays so. Those whom it serves do not hear of changes until they notice that it is silent.
func TestFrozenMember(t *testing.T) {
	t.Parallel()
	all := cluster(t, 3)
	l := leader(t, all)
	m := all[0]
	if m == l {
		m = all[1]
	}
	writer, err := registry.New(open(t, "", l), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	const readers = 12
	views := make([]*registry.View, readers)
	for i := range views {
		r, err := registry.New(open(t, "", all...), registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		views[i] = r.Open("greeter")
		for changed := views[i].Changed(); views[i].Snapshot().Revision == 0; changed = views[i].Changed() {
			<-changed
		}
	}
	m.Freeze()
	began := time.Now()
	g, err := writer.Register(t.Context(), registry.Node{Service: "greeter", ID: "new", Address: "192.0.2.1:80"})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("a node was registered with the others after %v", time.Since(began).Round(time.Millisecond))
	for i, v := range views {
		late := time.After(2 * time.Minute)
		for changed := v.Changed(); v.Snapshot().Node("new") == nil; changed = v.Changed() {
			select {
			case <-changed:
			case <-late:
				t.Fatalf("reader %d does not see the new node", i)
			}
		}
		t.Logf("reader %d has seen it after %v", i, time.Since(began).Round(time.Millisecond))
	}
}
