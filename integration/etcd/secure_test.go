package etcd_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/registrytest"
)

// protect turns on etcd's accounts: root, and hull that may use the default prefix. It returns a client of root.
func protect(t testing.TB, m *member) *clientv3.Client {
	t.Helper()
	c, ctx := client(t, m), t.Context()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, user := range []string{"root", "hull"} {
		_, err := c.UserAdd(ctx, user, "secret")
		do(err)
		_, err = c.RoleAdd(ctx, user)
		do(err)
		_, err = c.UserGrantRole(ctx, user, user)
		do(err)
	}
	_, err := c.RoleGrantPermission(ctx, "hull", "/hull/", clientv3.GetPrefixRangeEnd("/hull/"), clientv3.PermissionType(clientv3.PermReadWrite))
	do(err)
	_, err = c.AuthEnable(ctx)
	do(err)
	root, err := clientv3.New(clientv3.Config{Endpoints: []string{m.direct}, Username: "root", Password: "secret", DialTimeout: time.Minute})
	do(err)
	t.Cleanup(func() { _ = root.Close() })
	return root
}

func openAs(t testing.TB, m *member, who, query string) registry.Driver {
	t.Helper()
	u, err := registry.ParseURL("etcd://" + who + m.Addr() + query)
	if err != nil {
		t.Fatal(err)
	}
	return openURL(t, u)
}

func TestCredentials(t *testing.T) {
	m := cluster(t, 1)[0]
	protect(t, m)
	for _, tt := range []struct{ who, query, err string }{
		{"hull:secret@", "", ""},
		{"hull:wrong@", "", "refuses the credentials"},
		{"", "", "refuses the credentials"},
		{"nobody:wrong@", "", "refuses the credentials"},
		{"hull:secret@", "?prefix=/other/", "denies the permission"},
	} {
		t.Run(tt.who+tt.query, func(t *testing.T) {
			r, err := registry.New(openAs(t, m, tt.who, tt.query), registry.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			g, err := r.Register(t.Context(), registry.Node{Service: "greeter", ID: "a", Address: "192.0.2.1:80"})
			if err != nil {
				t.Fatal(err)
			}
			_, lerr := r.Lookup(t.Context(), "greeter")
			_, nerr := r.List(t.Context())
			for what, err := range map[string]error{"register": g.Err(), "lookup": lerr, "list": nerr} {
				switch {
				case tt.err == "" && err != nil:
					t.Errorf("%s: %v", what, err)
				case tt.err != "" && (err == nil || !strings.Contains(chain(err), tt.err)):
					t.Errorf("%s: %v, want one that says %q", what, err, tt.err)
				case err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "wrong")):
					t.Errorf("%s: the error shows a password: %v", what, err)
				}
			}
		})
	}
}

// chain is what an error and those it wraps say.
func chain(err error) string {
	var b strings.Builder
	for ; err != nil; err = errors.Unwrap(err) {
		b.WriteString(err.Error() + "\n")
	}
	return b.String()
}

// A password that is checked costs etcd a tenth of a second of computing: many services of one program with a wrong one
// ask once in a while, not each by itself.
func TestRefusedCredentialsAreNoLoad(t *testing.T) {
	m := cluster(t, 1)[0]
	protect(t, m)
	r, err := registry.New(openAs(t, m, "hull:wrong@", ""), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	before := m.counters(t)["Authenticate received"]
	begin := time.Now()
	var views []*registry.View
	for _, s := range strings.Fields("a b c d e f g h i j k l m n o p q r s t") {
		views = append(views, r.Open(s))
	}
	for _, v := range views {
		for changed := v.Changed(); !v.Snapshot().Stale; changed = v.Changed() {
			<-changed
		}
	}
	<-time.After(3 * time.Second)
	took := time.Since(begin)
	// At 0, between 0.5 and 1 s, between 1 and 2 s later, …
	if got, most := m.counters(t)["Authenticate received"]-before, 2+int(took/(500*time.Millisecond)); got > most {
		t.Errorf("%d passwords checked for 20 services in %v, at most %d expected", got, took, most)
	} else {
		t.Logf("%d passwords checked for 20 services in %v", got, took.Round(100*time.Millisecond))
	}
}

func TestCredentialsRevoked(t *testing.T) {
	registrytest.RunFaults(t, func(t *testing.T) (registrytest.Harness, registrytest.Fault) {
		m := cluster(t, 1)[0]
		root := protect(t, m)
		set := func(password string) {
			if _, err := root.UserChangePassword(context.Background(), "hull", password); err != nil {
				t.Error(err)
			}
		}
		return registrytest.Harness{TTL: ttl, Open: func() registry.Driver { return openAs(t, m, "hull:secret@", "") }},
			registrytest.Fault{Begin: func() { set("other") }, End: func() { set("secret") }, Hold: 2 * ttl, Refuses: true, Err: "refuses the credentials"}
	})
}

// A password that is changed at both ends is taken over by programs that run.
func TestCredentialsRotated(t *testing.T) {
	registrytest.RunFaults(t, func(t *testing.T) (registrytest.Harness, registrytest.Fault) {
		m := cluster(t, 1)[0]
		root := protect(t, m)
		file := filepath.Join(t.TempDir(), "credentials")
		set := func(password string) {
			if err := os.WriteFile(file, []byte("hull:"+password+"\n"), 0o600); err != nil {
				t.Error(err)
			}
			if _, err := root.UserChangePassword(context.Background(), "hull", password); err != nil {
				t.Error(err)
			}
		}
		set("first")
		return registrytest.Harness{TTL: ttl, Open: func() registry.Driver { return openAs(t, m, "", "?credentials="+file) }},
			registrytest.Fault{Begin: func() { set("second") }, Hold: 2 * ttl}
	})
}

func TestTLS(t *testing.T) {
	m := clusterOf(t, 1, "https")[0]
	ca := filepath.Join(m.dir, m.name, "fixtures", "client", "cert.pem")
	for query, want := range map[string]string{"?ca=" + ca: "", "?tls=true": "certificate", "?ca=" + ca + "&server-name=other": "certificate", "": "etcd"} {
		r, err := registry.New(openAs(t, m, "", query), registry.Options{})
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
