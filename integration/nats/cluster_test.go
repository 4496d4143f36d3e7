package nats_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/natsregistry"
	"github.com/hull-go/hull/registry/registrytest"
)

// cluster starts three servers.
func cluster(t testing.TB) []*node {
	t.Helper()
	const n, port = 3, "6222"
	var hosts, routes []string
	for len(hosts) < n {
		h := engine.Loopback()
		l, err := net.Listen("tcp", net.JoinHostPort(h, port))
		if err != nil {
			continue
		}
		_ = l.Close()
		hosts = append(hosts, h)
		routes = append(routes, fmt.Sprintf("%q", "nats://"+net.JoinHostPort(h, port)))
	}
	var all []*node
	for i, h := range hosts {
		m := newNode(t, h, fmt.Sprintf("server_name: m%d\ncluster { name: test, listen: %q, no_advertise: true, routes: [%s] }",
			i, net.JoinHostPort(h, port), strings.Join(routes, ", ")))
		m.Process = engine.Self(t, "nats", func() []string { return []string{m.file()} })
		m.start()
		all = append(all, m)
	}
	return all
}

// leader returns the server that leads the bucket's stream.
func leader(t testing.TB, all []*node) *node {
	t.Helper()
	c, err := nats.Connect("nats://" + all[0].direct)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	js, err := jetstream.New(c)
	if err != nil {
		t.Fatal(err)
	}
	late := time.After(time.Minute)
	for {
		s, err := js.Stream(t.Context(), "KV_hull")
		if err == nil && s.CachedInfo().Cluster != nil {
			for i, m := range all {
				if s.CachedInfo().Cluster.Leader == fmt.Sprintf("m%d", i) {
					return m
				}
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-late:
			t.Fatalf("nobody leads: %v", err)
		}
	}
}

func TestCluster(t *testing.T) {
	for name, fault := range map[string]func(t *testing.T, all []*node) registrytest.Fault{
		"leader killed": func(t *testing.T, all []*node) registrytest.Fault {
			return registrytest.Fault{Begin: func() { leader(t, all).kill() }, Hold: ttl}
		},
		"leader frozen": func(t *testing.T, all []*node) registrytest.Fault {
			var l *node
			return registrytest.Fault{Begin: func() { l = leader(t, all); l.Freeze() }, End: func() { l.Thaw() }, Hold: 2 * ttl}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registrytest.RunFaults(t, func(t *testing.T) (registrytest.Harness, registrytest.Fault) {
				all := cluster(t)
				var hosts []string
				for _, m := range all {
					hosts = append(hosts, m.Addr())
				}
				return registrytest.Harness{TTL: ttl, Open: func() registry.Driver {
					return openURL(t, "nats://"+strings.Join(hosts, ",")+"?replicas=3")
				}}, fault(t, all)
			})
		})
	}
}

func openURL(t testing.TB, raw string) registry.Driver {
	t.Helper()
	u, err := registry.ParseURL(raw)
	if err != nil {
		t.Fatal(err)
	}
	d, err := natsregistry.FromURL(u)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A server that wants TLS and a password, by address and by file.
func TestTLS(t *testing.T) {
	t.Parallel()
	cert, key := engine.Certificate(t)
	n := start(t, fmt.Sprintf("tls { cert_file: %q, key_file: %q }\n%s", cert, key, users("secret")))
	for _, tt := range []struct{ who, query, err string }{
		{"hull:secret@", "?ca=" + cert, ""},
		{"hull:wrong@", "?ca=" + cert, "refuses the credentials"},
		{"", "?ca=" + cert, "refuses the credentials"},
		{"hull:secret@", "?tls=true", "certificate"},
		{"hull:secret@", "?server-name=other&ca=" + cert, "certificate"},
		{"hull:secret@", "", "NATS"},
	} {
		t.Run(tt.who+strings.ReplaceAll(tt.query, cert, "FILE"), func(t *testing.T) {
			r, err := registry.New(n.open(t, tt.who, tt.query), registry.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			g, err := r.Register(t.Context(), registry.Node{Service: "greeter", ID: "a", Address: "192.0.2.1:80"})
			if err != nil {
				t.Fatal(err)
			}
			_, lerr := r.Lookup(t.Context(), "greeter")
			for what, err := range map[string]error{"register": g.Err(), "lookup": lerr} {
				switch {
				case tt.err == "" && err != nil:
					t.Errorf("%s: %v", what, err)
				case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
					t.Errorf("%s: %v, want one that says %q", what, err, tt.err)
				case err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "wrong")):
					t.Errorf("%s: the error shows a password: %v", what, err)
				}
			}
		})
	}
}
