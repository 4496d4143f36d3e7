package zookeeper_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

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
		c := s.client(t)
		for _, who := range []string{"hull:secret", "root:secret"} {
			if err := c.AddAuth("digest", []byte(who)); err != nil {
				t.Fatal(err)
			}
		}
		set := func(user string) func() {
			acl := zk.DigestACL(zk.PermAll, user, "secret")
			return func() {
				for _, path := range []string{"/hull", "/hull/greeter"} {
					if _, err := c.SetACL(path, acl, -1); err != nil {
						t.Error(err)
					}
				}
			}
		}
		return registrytest.Harness{TTL: ttl, Open: func() registry.Driver { return s.open(t, "hull:secret@", "") }},
			registrytest.Fault{Begin: set("root"), End: set("hull"), Hold: ttl, Refuses: true, Err: "denies the permission"}
	})
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
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
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
