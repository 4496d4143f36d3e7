package zookeeper_test

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// A program that is killed leaves its node to its session, which ends a TTL after the last ping, rounded up to a tick.
func TestKilledProgram(t *testing.T) {
	s := start(t)
	p := engine.Self(t, "program", func() []string { return []string{"zk://" + s.Addr()} })
	p.Start()
	d := s.open(t, "", "")
	defer d.(io.Closer).Close()
	ctx, cancel := context.WithCancel(t.Context())
	sizes := make(chan int, 100)
	ended := make(chan error, 1)
	go func() { ended <- d.Watch(ctx, "greeter", func(up registry.Update) { sizes <- len(up.Nodes) }) }()
	until := func(n int) {
		t.Helper()
		for {
			select {
			case got := <-sizes:
				if got == n {
					return
				}
			case err := <-ended:
				t.Fatalf("the watch ended: %v", err)
			case <-time.After(time.Minute):
				t.Fatalf("%d nodes were not seen within a minute", n)
			}
		}
	}
	until(1)
	begin := time.Now()
	p.Kill()
	until(0)
	took := time.Since(begin)
	t.Logf("gone %v after it was killed, with a TTL of %v", took.Round(10*time.Millisecond), ttl)
	if took < ttl/2 {
		t.Error("a lease outlives its process: how is this known so soon?")
	}
	cancel()
	t.Log("the watch ended:", <-ended)
}
