package nats_test

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/natsregistry"
)

func (n *node) subject() engine.Subject {
	return engine.Subject{URL: "nats://" + n.Addr(), FromURL: natsregistry.FromURL, TTL: ttl,
		Kill: n.kill, Start: n.start, Freeze: n.Freeze, Thaw: n.Thaw, Cut: n.Cut, Mend: n.Mend, Wipe: n.wipe,
		Slow: n.Slow, Delay: 100 * time.Millisecond}
}

func users(password string) string {
	return fmt.Sprintf("authorization { users: [ {user: hull, password: %q} ] }", password)
}

// Calls between living nodes do not notice what befalls NATS.
func TestCallsGoOn(t *testing.T) {
	t.Parallel()
	n := start(t, users("secret"))
	set := func(password string) func() {
		return func() {
			n.configure(users(password))
			n.Signal(syscall.SIGHUP)
		}
	}
	s := n.subject()
	s.URL = "nats://hull:secret@" + n.Addr()
	s.Revoke, s.Restore = set("other"), set("secret")
	engine.Calls(t, s, s.Faults()...)
}

func TestFrozenForAMinute(t *testing.T) {
	t.Parallel()
	n := start(t, "")
	engine.Calls(t, n.subject(), engine.Fault{Name: "frozen for a minute", Begin: n.Freeze, End: n.Thaw, Hold: time.Minute})
}

func TestNetworkCut(t *testing.T) {
	t.Parallel()
	net := engine.NewNetwork(t)
	n := newNode(t, net.Host, "")
	p := engine.New(t, func() *exec.Cmd { return net.In(engine.Role("nats", n.file())) })
	s := engine.Subject{URL: "nats://" + p.Start(), FromURL: natsregistry.FromURL, TTL: ttl}
	engine.Calls(t, s, engine.Fault{Name: "the network cut", Begin: net.Cut, End: net.Mend, Hold: 4 * ttl})
}

func TestAddressReused(t *testing.T) {
	t.Parallel()
	engine.Reuse(t, start(t, "").subject())
}

func TestDetection(t *testing.T) {
	t.Parallel()
	engine.Detect(t, start(t, "").subject())
}

func TestManyReconnect(t *testing.T) { engine.Crowd(t, start(t, "").subject(), 1000) }

func TestGarbage(t *testing.T) {
	t.Parallel()
	n := start(t, "")
	kv := n.bucket(t, "hull")
	put := func(key, value string) error {
		_, err := kv.PutString(t.Context(), key, value)
		return err
	}
	engine.Garbage(t, n.subject(), func(service, id, value string) error {
		if strings.Contains(id, ".") {
			return errors.New("a key of more tokens, which nobody asks for")
		}
		return put("nodes."+service+"."+id, value)
	}, func() {
		for _, key := range []string{"junk", "nodes", "nodes.greeter", "nodes.greeter.a.b", "nodes.greeter.=", "nodes.greeter.=zz", "other.greeter.a"} {
			if err := put(key, "junk"); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestManyServices(t *testing.T) {
	n := start(t, "")
	kv := n.bucket(t, "hull")
	engine.Fleet(t, n.subject(), func(service string, nodes []*registry.Node) error {
		for _, m := range nodes {
			data, err := registry.EncodeNode(m)
			if err != nil {
				return err
			}
			if _, err := kv.Put(t.Context(), "nodes."+service+"."+m.ID, data); err != nil {
				return err
			}
		}
		return nil
	})
}
