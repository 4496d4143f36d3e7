package zookeeper_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/registrytest"
)

func TestConformance(t *testing.T) {
	s := start(t)
	c := s.client(t)
	var n atomic.Int64
	registrytest.Run(t, func(t *testing.T) registrytest.Harness {
		prefix := fmt.Sprintf("/test-%d", n.Add(1)) // an empty engine for each test
		return registrytest.Harness{
			Open: func() registry.Driver { return s.open(t, "", "?prefix="+prefix) },
			TTL:  time.Second,
			Lose: func(service, id string) {
				if err := c.Delete(prefix+"/"+service+"/"+id, -1); err != nil {
					t.Error(err)
				}
			},
			Plant: func(service, id, value string) {
				for _, path := range []string{prefix, prefix + "/" + service} {
					if _, err := c.Create(path, nil, zk.FlagPersistent, zk.WorldACL(zk.PermAll)); err != nil && !errors.Is(err, zk.ErrNodeExists) {
						t.Error(err)
					}
				}
				if _, err := c.Create(prefix+"/"+service+"/"+id, []byte(value), zk.FlagPersistent, zk.WorldACL(zk.PermAll)); err != nil {
					t.Error(err)
				}
			},
		}
	})
}

func TestFaults(t *testing.T) {
	for name, fault := range map[string]func(s *server) registrytest.Fault{
		"killed": func(s *server) registrytest.Fault {
			return registrytest.Fault{Begin: s.kill, End: s.start, Noticed: true, Refuses: true, Err: "ZooKeeper"}
		},
		"restarted at once": func(s *server) registrytest.Fault {
			return registrytest.Fault{Begin: func() { s.kill(); s.start() }}
		},
		"frozen until all sessions are over": func(s *server) registrytest.Fault {
			return registrytest.Fault{Begin: s.Freeze, End: s.Thaw, Noticed: true, Refuses: true, Hold: ttl, Err: "does not answer"}
		},
		"cut off silently": func(s *server) registrytest.Fault {
			return registrytest.Fault{Begin: s.Cut, End: s.Mend, Noticed: true, Refuses: true, Hold: ttl, Err: "does not answer"}
		},
		"wiped empty": func(s *server) registrytest.Fault {
			return registrytest.Fault{Begin: s.wipe}
		},
		"slow": func(s *server) registrytest.Fault {
			return registrytest.Fault{Begin: func() { s.Slow(200 * time.Millisecond) }, End: func() { s.Slow(0) }, Hold: ttl}
		},
		"all connections reset": func(s *server) registrytest.Fault {
			return registrytest.Fault{Begin: s.Reset}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registrytest.RunFaults(t, func(t *testing.T) (registrytest.Harness, registrytest.Fault) {
				s := start(t)
				return registrytest.Harness{TTL: ttl, Open: func() registry.Driver { return s.open(t, "", "") }}, fault(s)
			})
		})
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	s := start(t)
	c := s.client(t)
	if err := c.AddAuth("digest", []byte("hull:secret")); err != nil {
		t.Fatal(err)
	}
	engine.Commands(t, "zk://hull:secret@"+s.Addr(), func(value string) {
		if _, err := c.Create("/hull/planted", nil, zk.FlagPersistent, zk.DigestACL(zk.PermAll, "hull", "secret")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Create("/hull/planted/p1", []byte(value), zk.FlagPersistent, zk.DigestACL(zk.PermAll, "hull", "secret")); err != nil {
			t.Fatal(err)
		}
	})
}
