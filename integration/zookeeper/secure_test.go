package zookeeper_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/go-zookeeper/zk"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/registrytest"
)

func TestCredentials(t *testing.T) {
	s := start(t)
	owner, err := registry.New(s.open(t, "hull:secret@", ""), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close()
	g, err := owner.Register(t.Context(), registry.Node{Service: "greeter", ID: "first", Address: "192.0.2.1:80"})
	if err != nil || g.Err() != nil {
		t.Fatal(err, g.Err())
	}
	for _, tt := range []struct{ who, err string }{
		{"hull:secret@", ""},
		{"hull:wrong@", "denies the permission"},
		{"other:secret@", "denies the permission"},
		{"", "denies the permission"},
	} {
		t.Run(tt.who, func(t *testing.T) {
			r, err := registry.New(s.open(t, tt.who, ""), registry.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			g, err := r.Register(t.Context(), registry.Node{Service: "greeter", ID: "a", Address: "192.0.2.2:80"})
			if err != nil {
				t.Fatal(err)
			}
			_, lerr := r.Lookup(t.Context(), "greeter")
			_, nerr := r.List(t.Context())
			for what, err := range map[string]error{"register": g.Err(), "lookup": lerr, "list": nerr} {
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

// Nobody takes a permission away from a session that has its znode, so those who are there notice nothing.
func TestPermissionsRevoked(t *testing.T) {
	registrytest.RunFaults(t, func(t *testing.T) (registrytest.Harness, registrytest.Fault) {
		s := start(t)
		set := s.permissions(t)
		return registrytest.Harness{TTL: ttl, Open: func() registry.Driver { return s.open(t, "hull:secret@", "") }},
			registrytest.Fault{Begin: set("root"), End: set("hull"), Hold: ttl, Refuses: true, Err: "denies the permission"}
	})
}

// permissions returns what gives all permissions to one user, of hull and root.
func (s *server) permissions(t testing.TB) (set func(user string) func()) {
	t.Helper()
	c := s.client(t)
	for _, who := range []string{"hull:secret", "root:secret"} {
		if err := c.AddAuth("digest", []byte(who)); err != nil {
			t.Fatal(err)
		}
	}
	return func(user string) func() {
		acl := zk.DigestACL(zk.PermAll, user, "secret")
		return func() {
			for _, path := range []string{"/hull", "/hull/greeter"} {
				if _, err := c.SetACL(path, acl, -1); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

func TestTLS(t *testing.T) {
	s := start(t)
	addr, ca := terminate(t, s.direct)
	for query, want := range map[string]string{"?ca=" + ca: "", "?tls=true": "certificate", "?ca=" + ca + "&server-name=other": "certificate", "": "does not answer"} {
		r, err := registry.New(openURL(t, "zk://"+addr+query), registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.List(t.Context())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", strings.ReplaceAll(query, ca, "…"), err, want)
		}
		_ = r.Close()
	}
}

// terminate puts TLS in front of a server. It returns an address, and the file of the certificate.
func terminate(t testing.TB, to string) (addr, ca string) {
	t.Helper()
	ca, key := engine.Certificate(t)
	pair, err := tls.LoadX509KeyPair(ca, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer in.Close()
				out, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer out.Close()
				wg.Go(func() {
					_, _ = io.Copy(in, out)
					_ = in.Close()
				})
				_, _ = io.Copy(out, in)
			})
		}
	})
	t.Cleanup(func() {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		wg.Wait()
	})
	return l.Addr().String(), ca
}
