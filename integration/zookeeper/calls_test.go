package zookeeper_test

import (
	"errors"
	"net"
	"os/exec"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/zkregistry"
)

func (s *server) subject() engine.Subject {
	return engine.Subject{URL: "zk://" + s.Addr(), FromURL: zkregistry.FromURL, TTL: ttl,
		Kill: s.kill, Start: s.start, Freeze: s.Freeze, Thaw: s.Thaw, Cut: s.Cut, Mend: s.Mend, Wipe: s.wipe,
		Slow: s.Slow, Delay: 200 * time.Millisecond}
}

// Calls between living nodes do not notice what befalls ZooKeeper.
func TestCallsGoOn(t *testing.T) {
	t.Parallel()
	s := start(t)
	set := s.permissions(t)
	e := s.subject()
	e.URL = "zk://hull:secret@" + s.Addr()
	e.Revoke, e.Restore = set("root"), set("hull")
	engine.Calls(t, e, e.Faults()...)
}

func TestFrozenForAMinute(t *testing.T) {
	t.Parallel()
	s := start(t)
	engine.Calls(t, s.subject(), engine.Fault{Name: "frozen for a minute", Begin: s.Freeze, End: s.Thaw, Hold: time.Minute})
}

func TestNetworkCut(t *testing.T) {
	t.Parallel()
	n := engine.NewNetwork(t)
	s := newServer(t, net.JoinHostPort(n.Host, port), "")
	s.Process = engine.New(t, func() *exec.Cmd { return n.In(s.command()) })
	s.start()
	e := engine.Subject{URL: "zk://" + s.direct, FromURL: zkregistry.FromURL, TTL: ttl}
	engine.Calls(t, e, engine.Fault{Name: "the network cut", Begin: n.Cut, End: n.Mend, Hold: 4 * ttl})
}

func TestAddressReused(t *testing.T) {
	t.Parallel()
	engine.Reuse(t, start(t).subject())
}

func TestDetection(t *testing.T) {
	t.Parallel()
	engine.Detect(t, start(t).subject())
}

func TestManyReconnect(t *testing.T) { engine.Crowd(t, start(t).subject(), 100) }

func TestGarbage(t *testing.T) {
	t.Parallel()
	s := start(t)
	c := s.client(t)
	create := func(path, value string) error {
		_, err := c.Create(path, []byte(value), zk.FlagPersistent, zk.WorldACL(zk.PermAll))
		return err
	}
	engine.Garbage(t, s.subject(), func(service, id, value string) error { return create("/hull/"+service+"/"+id, value) }, func() {
		for _, path := range []string{"/hull/greeter/text/below", "/hull/b\u00fcro", "/hull/a b"} {
			if err := create(path, "junk"); err != nil {
				t.Error(err)
			}
		}
		if _, err := c.Set("/hull/greeter", []byte("junk"), -1); err != nil { // where departures are noted
			t.Error(err)
		}
	})
}

func TestManyServices(t *testing.T) {
	s := start(t)
	c := s.client(t)
	create := func(path string) error {
		_, err := c.Create(path, nil, zk.FlagPersistent, zk.WorldACL(zk.PermAll))
		if errors.Is(err, zk.ErrNodeExists) {
			return nil
		}
		return err
	}
	engine.Fleet(t, s.subject(), func(service string, nodes []*registry.Node) error {
		path := "/hull/" + service
		if err := errors.Join(create("/hull"), create(path)); err != nil {
			return err
		}
		var all []any
		for _, n := range nodes {
			data, err := registry.EncodeNode(n)
			if err != nil {
				return err
			}
			if len(nodes) == 1 {
				_, err := c.Set(path+"/"+n.ID, data, -1)
				return err
			}
			all = append(all, &zk.CreateRequest{Path: path + "/" + n.ID, Data: data, Acl: zk.WorldACL(zk.PermAll), Flags: zk.FlagPersistent})
		}
		_, err := c.Multi(all...)
		return err
	})
}
