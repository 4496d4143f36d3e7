package consulregistry

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hull-go/hull/registry"
)

// The driver as a whole is tested against real agents, in the module integration.
func TestURLs(t *testing.T) {
	for raw, want := range map[string]string{
		"consul://h": "",
		"consul://[::1]:8500,[::2],h?prefix=x-&dc=y": "",
		"consul://secret@h?tls=true":                 "",
		"consul://any:secret@h?protocol=http,grpc":   "",
		"consul://":                           "host",
		"consul://h/path":                     "consul://host:port",
		"consul:h":                            "consul://host:port",
		"file://":                             "consul://host:port",
		"consul://secret@h?datacentre=secret": "unknown parameter",
		"consul://h?prefix=A":                 "prefix",
		"consul://h?prefix=a/b":               "prefix",
	} {
		u, err := registry.ParseURL(raw)
		if err != nil {
			t.Fatal(err)
		}
		d, err := FromURL(u)
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: error %v, want one about %q", raw, err, want)
		}
		if err != nil {
			continue
		}
		if token, _ := d.(*Driver).opt.Token(); token != "" && token != "secret" {
			t.Errorf("%s: token %q", raw, token)
		}
		if err := d.(*Driver).Close(); err != nil {
			t.Errorf("%s: close: %v", raw, err)
		}
	}
}

func testDriver(t *testing.T, o Options, agents ...string) *Driver {
	t.Helper()
	if len(agents) == 0 {
		agents = []string{"h:1"}
	}
	d, err := New(agents, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func testNode(id string) *registry.Node {
	return &registry.Node{Service: "greeter", ID: id, Address: "192.0.2.1:80"}
}

// asHealth is an entry as an agent sends it.
func asHealth(s *service, status string) health {
	h := health{Service: *s}
	h.Checks = append(h.Checks, struct{ Status string }{status})
	return h
}

func TestRecords(t *testing.T) {
	d := testDriver(t, Options{})
	small, large := testNode("A%b"), testNode("B")
	small.Version = strings.Repeat("ü", 50)
	small.Labels = map[string]string{"a": strings.Repeat("ß", 500)} // more than one piece, of letters of two bytes
	for i := range 2000 {
		large.Methods = append(large.Methods, registry.Method{Name: fmt.Sprintf("p.S/M%d", i)})
	}
	for _, n := range []*registry.Node{small, large} {
		s, err := d.encode(n)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Meta) > 64 || len(s.Meta) < 4 {
			t.Errorf("%s: %d keys", n.ID, len(s.Meta))
		}
		for k, v := range s.Meta {
			if len(v) > 512 || strings.ToValidUTF8(v, "") != v {
				t.Errorf("%s: %s has %d bytes: %q", n.ID, k, len(v), v)
			}
		}
		h := asHealth(s, "passing")
		id, record, err := d.entry("greeter", &h)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := registry.DecodeNode("greeter", id, record); err != nil || !got.Equal(n) {
			t.Errorf("%s became %+v, %v", n.ID, got, err)
		}
	}
	huge := testNode("C")
	for i := range 4000 {
		huge.Methods = append(huge.Methods, registry.Method{Name: fmt.Sprintf("p.S/%x", fmt.Sprint(i*i*7919, "-", i*104729))})
	}
	if s, err := d.encode(huge); err == nil {
		t.Errorf("a record for which there is no room became %d pieces", len(s.Meta))
	}
}

func TestTake(t *testing.T) {
	d := testDriver(t, Options{})
	node := func(id, owner string) *service {
		s, err := d.encode(testNode(id))
		if err != nil {
			t.Fatal(err)
		}
		s.Meta[ownerKey] = owner
		return s
	}
	tombstone := func(id, owner string) health {
		s := node(id, owner)
		s.Meta = map[string]string{idKey: id, ownerKey: owner, leftKey: byHand}
		return asHealth(s, "critical")
	}
	broken := node("x", "o")
	broken.Meta["hull-00"] = "hello"
	alias := node("y", "o")
	alias.ID = "other"
	foreign := &service{ID: "f"}
	live := func(s *service) health { return asHealth(s, "passing") }
	r, told := registry.NewRoster("greeter"), map[string]known{}
	for i, step := range []struct {
		entries              []health
		nodes, left, refused string
		silent               bool
	}{
		{nil, "", "", "", false},
		{[]health{live(node("a", "1")), live(node("b", "2")), asHealth(node("c", "3"), "critical"), tombstone("d", "4")}, "a b", "", "", false},
		{[]health{live(node("a", "1")), live(node("b", "2")), live(broken), live(alias), live(foreign)}, "a b", "", "f other x", false},
		{[]health{live(node("a", "1")), live(node("b", "2")), live(broken), live(alias), live(foreign)}, "", "", "", true},
		{[]health{tombstone("a", "1"), tombstone("b", "another")}, "", "a", "", false}, // b's tombstone is of one before
		{[]health{live(node("a", "9")), tombstone("a", "1")}, "a", "", "", false},
		{[]health{asHealth(node("a", "9"), "warning")}, "", "", "", true},
		{[]health{asHealth(node("a", "9"), "critical")}, "", "", "", false},
	} {
		d.take(r, told, "greeter", step.entries)
		if r.Changed() == step.silent {
			t.Errorf("step %d: changed: %v", i, !step.silent)
		}
		if step.silent {
			continue
		}
		up := r.Update()
		var nodes, left, refused []string
		for _, n := range up.Nodes {
			nodes = append(nodes, n.ID)
		}
		for _, l := range up.Left {
			left = append(left, l.ID)
		}
		for _, f := range up.Refused {
			refused = append(refused, f.Entry)
		}
		for what, pair := range map[string][2]string{"nodes": {sorted(nodes), step.nodes}, "left": {sorted(left), step.left}, "refused": {sorted(refused), step.refused}} {
			if pair[0] != pair[1] {
				t.Errorf("step %d: %s %q, want %q", i, what, pair[0], pair[1])
			}
		}
	}
}

func sorted(s []string) string {
	slices.Sort(s)
	return strings.Join(s, " ")
}

// An index that goes back is another history: the next query does not wait for the old one.
func TestIndexGoesBack(t *testing.T) {
	asked := make(chan string, 100)
	indexes := []string{"10", "3", "4"}
	served := 0
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/v1/health/service/greeter") {
			fmt.Fprint(w, `"leader"`)
			return
		}
		asked <- r.URL.Query().Get("index")
		if served == len(indexes) {
			<-r.Context().Done()
			return
		}
		w.Header().Set("X-Consul-Index", indexes[served])
		served++
		fmt.Fprint(w, "[]")
	}))
	defer agent.Close()
	d := testDriver(t, Options{}, agent.Listener.Addr().String())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Watch(ctx, "greeter", func(registry.Update) {}) }()
	for i, want := range []string{"", "10", "", "4"} {
		if got := <-asked; got != want {
			t.Errorf("query %d waits for index %q, want %q", i, got, want)
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A token goes to the agent and nowhere else, and an answer that is empty because of the token is no answer.
func TestTokens(t *testing.T) {
	strangers := 0
	stranger := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strangers++ }))
	defer stranger.Close()
	mode := "redirect"
	agent := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Consul-Token") != "secret" {
			t.Error("no token")
		}
		switch mode {
		case "redirect":
			http.Redirect(w, r, stranger.URL, http.StatusTemporaryRedirect)
		case "refuse":
			http.Error(w, "ACL\x1b not found", http.StatusForbidden)
		case "filter":
			w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
			fmt.Fprint(w, "{}")
		case "serve":
			if err := json.NewEncoder(w).Encode(map[string][]string{"a": {"hull:a"}, "b": {"hull:other"}, "c": {}, "%41": {"hull:A"}}); err != nil {
				t.Error(err)
			}
		}
	}))
	defer agent.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: agent.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	u, err := registry.ParseURL("consul://secret@" + agent.Listener.Addr().String() + "?ca=" + url.QueryEscape(ca))
	if err != nil {
		t.Fatal(err)
	}
	d, err := FromURL(u)
	if err != nil {
		t.Fatal(err)
	}
	defer d.(*Driver).Close()
	for _, tt := range []struct{ mode, err string }{{"redirect", "307"}, {"refuse", "denies the permission"}, {"filter", "denies the permission"}, {"serve", ""}} {
		mode = tt.mode
		names, err := d.List(t.Context())
		if (err == nil) != (tt.err == "") || err != nil && (!strings.Contains(err.Error(), tt.err) || strings.ContainsAny(err.Error(), "\x1b\n") || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v, want an error about %q", tt.mode, err, tt.err)
		}
		if err == nil && sorted(names) != "A a" {
			t.Errorf("names %q", names)
		}
	}
	if strangers > 0 {
		t.Error("a redirect was followed, with the token")
	}
}

func FuzzEntry(f *testing.F) {
	f.Add("a", "greeter:a", `{"hull":1}`, "")
	f.Add("a", "greeter:a", "rVRNj9s", "x")
	f.Fuzz(func(t *testing.T, id, sid, first, second string) {
		d := testDriver(t, Options{})
		h := asHealth(&service{ID: sid, Meta: map[string]string{idKey: id, "hull-00": first, "hull-01": second}}, "passing")
		r := registry.NewRoster("greeter")
		d.take(r, map[string]known{}, "greeter", []health{h})
		for _, n := range r.Update().Nodes {
			if n.ID != id || d.serviceID("greeter", id) != sid {
				t.Errorf("%q under %q became %+v", id, sid, n)
			}
		}
	})
}
