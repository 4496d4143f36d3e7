package zookeeper_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/registrytest"
)

// ensemble starts three servers and returns when all of them serve.
func ensemble(t testing.TB) []*server {
	t.Helper()
	var hosts []string
	extra := "initLimit=20\nsyncLimit=4\n"
	for i := range 3 {
		h := host(t)
		hosts = append(hosts, h)
		extra += fmt.Sprintf("server.%d=%s:2888:3888\n", i+1, h)
	}
	var all []*server
	for i, h := range hosts {
		s := newServer(t, net.JoinHostPort(h, port), extra)
		data := filepath.Join(s.dir, "data")
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(data, "myid"), fmt.Append(nil, i+1), 0o600); err != nil {
			t.Fatal(err)
		}
		s.Process = engine.New(t, s.command)
		s.Launch()
		all = append(all, s)
	}
	for _, s := range all { // they wait for each other
		s.Until(s.serves)
		s.Forward(s.direct)
	}
	return all
}

// leads returns the server that leads.
func leads(t testing.TB, all []*server) *server {
	t.Helper()
	for _, s := range all {
		if text, err := s.word(context.Background(), "srvr"); err == nil && strings.Contains(text, "Mode: leader") {
			return s
		}
	}
	t.Fatal("nobody leads")
	return nil
}

func TestEnsemble(t *testing.T) {
	for name, fault := range map[string]func(t *testing.T, all []*server) registrytest.Fault{
		"leader killed": func(t *testing.T, all []*server) registrytest.Fault {
			return registrytest.Fault{Begin: func() { leads(t, all).kill() }, Hold: ttl}
		},
		"leader frozen": func(t *testing.T, all []*server) registrytest.Fault {
			l := leads(t, all)
			return registrytest.Fault{Begin: l.Freeze, End: l.Thaw, Hold: 2 * ttl}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registrytest.RunFaults(t, func(t *testing.T) (registrytest.Harness, registrytest.Fault) {
				all := ensemble(t)
				var hosts []string
				for _, s := range all {
					hosts = append(hosts, s.Addr())
				}
				return registrytest.Harness{TTL: ttl, Open: func() registry.Driver { return openURL(t, "zk://"+strings.Join(hosts, ",")) }}, fault(t, all)
			})
		})
	}
}
