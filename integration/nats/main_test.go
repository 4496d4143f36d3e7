package nats_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/integration/natsserver"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/natsregistry"
	"github.com/hull-go/hull/registry/registrytest"
)

func TestMain(m *testing.M) {
	servers := engine.Program(natsregistry.FromURL)
	servers["nats"] = serve
	engine.Main(m, servers)
}

// serve runs nats-server with a configuration file.
func serve(args []string, listening func(string)) error { return natsserver.Serve(args[0], listening) }

const ttl = 4 * time.Second

type node struct {
	*engine.Process
	*engine.Proxy
	t      testing.TB
	dir    string
	listen string // address without port
	direct string
}

func start(t testing.TB, extra string) *node {
	t.Helper()
	n := newNode(t, "127.0.0.1", extra)
	n.Process = engine.Self(t, "nats", func() []string { return []string{n.file()} })
	n.start()
	return n
}

// newNode returns a server that has its configuration and no process.
func newNode(t testing.TB, listen, extra string) *node {
	t.Helper()
	n := &node{t: t, dir: t.TempDir(), listen: listen, Proxy: engine.NewProxy(t)}
	n.configure(extra)
	return n
}

func (n *node) file() string { return filepath.Join(n.dir, "nats.conf") }

func (n *node) store() string { return filepath.Join(n.dir, "store") }

func (n *node) configure(extra string) {
	text := fmt.Sprintf("listen: \"%s:-1\"\njetstream { store_dir: %q }\n%s\n", n.listen, n.store(), extra)
	if err := os.WriteFile(n.file(), []byte(text), 0o600); err != nil {
		n.t.Error(err)
	}
}

func (n *node) start() {
	n.direct = n.Start()
	n.Forward(n.direct)
}

func (n *node) kill() {
	n.Forward("")
	n.Kill()
	n.Reset()
}

func (n *node) wipe() {
	n.kill()
	if err := os.RemoveAll(n.store()); err != nil {
		n.t.Error(err)
	}
	n.start()
}

// open returns a driver as one more process would have it.
func (n *node) open(t testing.TB, who, query string) registry.Driver {
	t.Helper()
	return openURL(t, "nats://"+who+n.Addr()+query)
}

func (n *node) bucket(t testing.TB, name string) jetstream.KeyValue {
	t.Helper()
	c, err := nats.Connect("nats://" + n.direct)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	js, err := jetstream.New(c)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.CreateOrUpdateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: name, History: 1, LimitMarkerTTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func TestConformance(t *testing.T) {
	n := start(t, "")
	var count atomic.Int64
	registrytest.Run(t, func(t *testing.T) registrytest.Harness {
		name := fmt.Sprintf("test-%d", count.Add(1)) // an empty engine for each test
		kv := n.bucket(t, name)
		return registrytest.Harness{
			Open: func() registry.Driver { return n.open(t, "", "?bucket="+name) },
			TTL:  time.Second,
			Lose: func(service, id string) {
				if err := kv.Delete(t.Context(), "nodes."+service+"."+id); err != nil {
					t.Error(err)
				}
			},
			Plant: func(service, id, value string) {
				if _, err := kv.Put(t.Context(), "nodes."+service+"."+id, []byte(value)); err != nil {
					t.Error(err)
				}
			},
		}
	})
}

func TestFaults(t *testing.T) {
	for name, fault := range map[string]func(n *node) registrytest.Fault{
		"killed": func(n *node) registrytest.Fault {
			return registrytest.Fault{Begin: n.kill, End: n.start, Noticed: true, Refuses: true, Err: "NATS"}
		},
		"restarted at once": func(n *node) registrytest.Fault {
			return registrytest.Fault{Begin: func() { n.kill(); n.start() }}
		},
		"frozen until all keys are over": func(n *node) registrytest.Fault {
			return registrytest.Fault{Begin: n.Freeze, End: n.Thaw, Noticed: true, Refuses: true, Hold: ttl, Err: "NATS"}
		},
		"cut off silently": func(n *node) registrytest.Fault {
			return registrytest.Fault{Begin: n.Cut, End: n.Mend, Noticed: true, Refuses: true, Hold: ttl, Err: "NATS"}
		},
		"wiped empty": func(n *node) registrytest.Fault {
			return registrytest.Fault{Begin: n.wipe}
		},
		"slow": func(n *node) registrytest.Fault {
			return registrytest.Fault{Begin: func() { n.Slow(100 * time.Millisecond) }, End: func() { n.Slow(0) }, Hold: ttl}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registrytest.RunFaults(t, func(t *testing.T) (registrytest.Harness, registrytest.Fault) {
				n := start(t, "")
				return registrytest.Harness{TTL: ttl, Open: func() registry.Driver { return n.open(t, "", "") }}, fault(n)
			})
		})
	}
}

func TestCredentialsRevoked(t *testing.T) {
	registrytest.RunFaults(t, func(t *testing.T) (registrytest.Harness, registrytest.Fault) {
		n := start(t, users("secret"))
		set := func(password string) func() {
			return func() {
				n.configure(users(password))
				n.Signal(syscall.SIGHUP)
			}
		}
		return registrytest.Harness{TTL: ttl, Open: func() registry.Driver { return n.open(t, "hull:secret@", "") }},
			registrytest.Fault{Begin: set("other"), End: set("secret"), Noticed: true, Hold: ttl, Refuses: true, Err: "refuses the credentials"}
	})
}

func TestBucketWithoutTTL(t *testing.T) {
	n := start(t, "")
	c, err := nats.Connect("nats://" + n.direct)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	js, err := jetstream.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "hull"}); err != nil {
		t.Fatal(err)
	}
	r, err := registry.New(n.open(t, "", ""), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.List(t.Context()); err == nil {
		t.Error("a bucket whose keys live for ever is taken")
	} else {
		t.Log(err)
	}
}

func TestCommands(t *testing.T) {
	n := start(t, `authorization { users: [ {user: hull, password: "secret"} ] }`)
	engine.Commands(t, "nats://hull:secret@"+n.Addr(), func(value string) {
		c, err := nats.Connect("nats://hull:secret@" + n.direct)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		js, err := jetstream.New(c)
		if err != nil {
			t.Fatal(err)
		}
		kv, err := js.KeyValue(t.Context(), "hull")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Put(t.Context(), "nodes.planted.p1", []byte(value)); err != nil {
			t.Fatal(err)
		}
	})
}
