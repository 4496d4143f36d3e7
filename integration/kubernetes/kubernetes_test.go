package kubernetes_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/k8sregistry"
	"github.com/hull-go/hull/registry/registrytest"
)

// All tests share one API server, which takes long to start; what befalls it ends with the test.
func TestKubernetes(t *testing.T) {
	c := start(t)
	for _, test := range []struct {
		name string
		run  func(t *testing.T, c *cluster)
	}{
		{"Conformance", testConformance},
		{"Endpoints", testEndpoints},
		{"MassDisappearance", testMassDisappearance},
		{"Credentials", testCredentials},
		{"Commands", testCommands},
		{"AThousandServices", testAThousandServices},
		{"Faults", testFaults},
		{"Calls", testCalls},
	} {
		t.Run(test.name, func(t *testing.T) {
			c.must(http.MethodDelete, slicesPath, nil, nil) // what was left
			test.run(t, c)
		})
	}
}

func testConformance(t *testing.T, c *cluster) {
	token := c.login("conformance")
	for _, s := range []map[string]any{
		slice("greeter-1", "greeter", "IPv4", 80, pod("a", "192.0.2.1", true, true, false), pod("b", "192.0.2.2", true, true, false)),
		slice("greeter-2", "greeter", "IPv4", 80, pod("c", "192.0.2.3", false, true, true), pod("d", "192.0.2.4", false, false, false)),
		slice("other-1", "other", "IPv6", 80, pod("a", "2001:db8::1", true, true, false)),
	} {
		c.must(http.MethodPost, slicesPath, s, nil)
	}
	registrytest.Run(t, func(t *testing.T) registrytest.Harness {
		return registrytest.Harness{Open: func() registry.Driver { return c.open(t, token, "") }, ReadOnly: true,
			Present: []registry.Node{{Service: "greeter", ID: "a"}, {Service: "greeter", ID: "b"}, {Service: "greeter", ID: "c"}, {Service: "other", ID: "a"}}}
	})
}

// until waits for a snapshot that fits.
func until(t *testing.T, v *registry.View, what string, fits func(*registry.Service) bool) {
	t.Helper()
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	for {
		changed := v.Changed()
		if fits(v.Snapshot()) {
			return
		}
		select {
		case <-changed:
		case <-late.C:
			t.Fatalf("%s was not seen; last seen: %+v", what, v.Snapshot())
		}
	}
}

func open(t *testing.T, d registry.Driver, o registry.Options) *registry.Registry {
	t.Helper()
	r, err := registry.New(d, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// What Kubernetes says of endpoints is believed, and what it lets pass of garbage is refused by itself.
func testEndpoints(t *testing.T, c *cluster) {
	logged := &logLines{}
	r := open(t, c.open(t, c.login("endpoints"), ""), registry.Options{Logger: slog.New(slog.NewTextHandler(logged, nil))})
	v := r.Open("greeter")
	put := func(method, path string, s map[string]any) { t.Helper(); c.must(method, path, s, nil) }
	a, b := pod("a", "192.0.2.1", true, true, false), pod("b", "192.0.2.2", true, true, false)
	put(http.MethodPost, slicesPath, slice("greeter-1", "greeter", "IPv4", 80, a, b, pod("evil", "100.100.100.200", true, true, false)))
	put(http.MethodPost, slicesPath, slice("greeter-6", "greeter", "IPv6", 80, pod("a", "2001:db8::1", true, true, false)))
	put(http.MethodPost, slicesPath, with(slice("foreign", "greeter", "IPv4", 80, pod("x", "192.0.2.9", true, true, false)), "ports", []any{
		map[string]any{"name": "one", "port": 1}, map[string]any{"name": "two", "port": 2}}))
	until(t, v, "two pods", func(s *registry.Service) bool { return len(s.Nodes) == 2 })
	n := v.Snapshot().Node("a")
	if n == nil || n.Address != "192.0.2.1:80" || n.Zone != "z1" || !n.Identifies || !n.Speaks("hull/1") || !n.Speaks("grpc") || n.Labels["node"] != "machine" {
		t.Errorf("%+v", n)
	}
	one := slicesPath + "/greeter-1"
	began := time.Now()
	put(http.MethodPatch, one, slice("greeter-1", "greeter", "IPv4", 80, a, pod("b", "192.0.2.2", false, true, true)))
	until(t, v, "that one is terminating", func(s *registry.Service) bool { return s.Node("b") != nil && s.Node("b").Draining })
	t.Logf("terminating was seen %v after its writer began", time.Since(began).Round(time.Millisecond))
	put(http.MethodPatch, one, slice("greeter-1", "greeter", "IPv4", 80, a))
	until(t, v, "that it is gone", func(s *registry.Service) bool { return len(s.Nodes) == 1 && s.Disbelieved == 0 })
	put(http.MethodPatch, one, slice("greeter-1", "greeter", "IPv4", 80, a, pod("b", "192.0.2.2", false, false, false)))
	put(http.MethodPatch, one, slice("greeter-1", "greeter", "IPv4", 80, a, b))
	until(t, v, "its return", func(s *registry.Service) bool { return s.Node("b") != nil })
	put(http.MethodPatch, one, slice("greeter-1", "greeter", "IPv4", 80, a, pod("b", "192.0.2.2", false, false, false)))
	until(t, v, "that it is not ready", func(s *registry.Service) bool { return len(s.Nodes) == 1 && s.Disbelieved == 0 })
	for what, times := range map[string]int{"metadata service": 1, "id=\"\\\"foreign\\\"\"": 1} {
		if got := logged.count(what); got != times {
			t.Errorf("%d complaints of %s, want %d:\n%s", got, what, times, logged)
		}
	}
	// What points at the link itself does not get past Kubernetes.
	err := c.do(t.Context(), c.direct, http.MethodPost, slicesPath, slice("evil", "greeter", "IPv4", 80, pod("evil", "169.254.169.254", true, true, false)), nil)
	var answer *statusError
	if !errors.As(err, &answer) || answer.code != http.StatusUnprocessableEntity {
		t.Errorf("a link-local address: %v", err)
	}
}

type logLines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logLines) count(s string) int { return strings.Count(l.String(), s) }

func testMassDisappearance(t *testing.T, c *cluster) {
	r := open(t, c.open(t, c.login("mass"), ""), registry.Options{})
	v := r.Open("greeter")
	full := func(ready bool) map[string]any {
		var pods []any
		for i := range 10 {
			pods = append(pods, pod(fmt.Sprintf("p%d", i), fmt.Sprintf("192.0.2.%d", i+1), ready, ready, false))
		}
		return slice("greeter-1", "greeter", "IPv4", 80, pods...)
	}
	c.must(http.MethodPost, slicesPath, full(true), nil)
	whole := func(s *registry.Service) bool { return len(s.Nodes) == 10 && s.Disbelieved == 0 }
	doubted := func(s *registry.Service) bool { return len(s.Nodes) == 10 && s.Disbelieved == 10 }
	until(t, v, "ten pods", whole)
	for what, change := range map[string]func(){
		"emptied": func() {
			c.must(http.MethodPatch, slicesPath+"/greeter-1", with(full(true), "endpoints", []any{}), nil)
		},
		"not ready": func() { c.must(http.MethodPatch, slicesPath+"/greeter-1", full(false), nil) },
		"deleted":   func() { c.must(http.MethodDelete, slicesPath+"/greeter-1", nil, nil) },
	} {
		change()
		until(t, v, "disbelief of a service that is "+what, doubted)
		if what == "deleted" {
			c.must(http.MethodPost, slicesPath, full(true), nil)
		} else {
			c.must(http.MethodPatch, slicesPath+"/greeter-1", full(true), nil)
		}
		until(t, v, "ten pods again", whole)
	}
}

func testCredentials(t *testing.T, c *cluster) {
	token := c.login("credentials")
	c.file("wrong", "hush")
	for _, tt := range []struct{ token, service, err string }{
		{token, "greeter", ""},
		{token, "greeter.other", "denies the permission"},
		{c.path("wrong"), "greeter", "check the token"},
	} {
		r := open(t, c.open(t, tt.token, ""), registry.Options{})
		_, err := r.Lookup(t.Context(), tt.service)
		var nobody *registry.NotFoundError
		if tt.err == "" && !errors.As(err, &nobody) || tt.err != "" && (err == nil || !strings.Contains(chain(err), tt.err)) {
			t.Errorf("%s: %v, want one that says %q", tt.service, err, tt.err)
		}
		if strings.Contains(chain(err), "hush") {
			t.Errorf("the error shows a token: %v", err)
		}
	}

	// A token is replaced by the next, and the first is taken back.
	c.must(http.MethodPost, slicesPath, slice("greeter-1", "greeter", "IPv4", 80, pod("a", "192.0.2.1", true, true, false)), nil)
	const secrets = "/api/v1/namespaces/" + namespace + "/secrets"
	bound := func(secret string) {
		var s struct{ Metadata struct{ UID string } }
		c.must(http.MethodPost, secrets, object(secret), &s)
		var answer struct{ Status struct{ Token string } }
		c.must(http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts/programs/token", map[string]any{"spec": map[string]any{
			"boundObjectRef": map[string]any{"kind": "Secret", "apiVersion": "v1", "name": secret, "uid": s.Metadata.UID}}}, &answer)
		c.file("rotated", answer.Status.Token)
	}
	bound("first")
	r := open(t, c.open(t, c.path("rotated"), ""), registry.Options{})
	v := r.Open("greeter")
	until(t, v, "a pod", func(s *registry.Service) bool { return s.Node("a") != nil })
	bound("second")
	c.must(http.MethodDelete, secrets+"/first", nil, nil)
	c.Proxy.Reset()
	c.must(http.MethodPost, slicesPath, slice("greeter-2", "greeter", "IPv4", 80, pod("b", "192.0.2.2", true, true, false)), nil)
	until(t, v, "a pod that came with the second token", func(s *registry.Service) bool { return s.Node("b") != nil && !s.Stale })
	c.must(http.MethodDelete, secrets+"/second", nil, nil)
	c.Proxy.Reset()
	late := time.NewTimer(2 * time.Minute)
	defer late.Stop()
	for !v.Snapshot().Stale { // Kubernetes remembers for ten seconds who somebody was
		select {
		case <-v.Changed():
		case <-time.After(time.Second):
			c.Proxy.Reset()
		case <-late.C:
			t.Fatal("the loss of the token was not noticed")
		}
	}
	if s := v.Snapshot(); len(s.Nodes) != 2 || !strings.Contains(s.Why, "check the token") {
		t.Errorf("without a token: %+v", s)
	}
	bound("third")
	until(t, v, "all well with the third token", func(s *registry.Service) bool { return len(s.Nodes) == 2 && !s.Stale })
}

// chain is what an error and those it wraps say.
func chain(err error) string {
	var b strings.Builder
	for ; err != nil; err = errors.Unwrap(err) {
		b.WriteString(err.Error() + "\n")
	}
	return b.String()
}

// The commands that read work, and those that write say why they do not.
func testCommands(t *testing.T, c *cluster) {
	c.must(http.MethodPost, slicesPath, slice("greeter-1", "greeter", "IPv4", 80, pod("a", "192.0.2.1", true, true, false)), nil)
	hull := filepath.Join(t.TempDir(), "hull")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", hull, "./cmd/hull")
	build.Dir = filepath.Join("..", "..") // the module above
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	env := append(os.Environ(), "HULL_REGISTRY="+c.url(c.login("commands"), ""), "HULL_TIMEOUT=1m")
	for _, tt := range []struct {
		args, want string
		fails      bool
	}{
		{"list", "greeter", false},
		{"get greeter", "192.0.2.1:80", false},
		{"get nobody", "no nodes", true},
		{"register greeter 192.0.2.7:80 --id=x", "cannot register", true},
		{"deregister greeter a", "cannot", true},
	} {
		cmd := exec.CommandContext(t.Context(), hull, strings.Fields(tt.args)...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		if (err != nil) != tt.fails || !strings.Contains(string(out), tt.want) {
			t.Errorf("hull %s: %v, want %q in:\n%s", tt.args, err, tt.want, out)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	watch := exec.CommandContext(ctx, hull, "watch")
	watch.Env = env
	out, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	lines, want, said := bufio.NewScanner(out), []string{"greeter  a", "greeter  b"}, ""
	for len(want) > 0 && lines.Scan() {
		said += lines.Text() + "\n"
		if strings.Contains(lines.Text(), want[0]) {
			if want = want[1:]; len(want) == 1 {
				c.must(http.MethodPost, slicesPath, slice("greeter-2", "greeter", "IPv4", 80, pod("b", "192.0.2.2", true, true, false)), nil)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("hull watch says nothing of %q:\n%s", want[0], said)
	}
	cancel()
	_ = watch.Wait() // it was killed
}

func (c *cluster) faults(t *testing.T) map[string]registrytest.Fault {
	revoke := func() { c.must(http.MethodDelete, bindings+"/hull", nil, nil); c.Proxy.Reset() }
	restore := func() { c.must(http.MethodPost, bindings, binding(), nil) }
	return map[string]registrytest.Fault{
		"killed":                    {Begin: c.kill, End: c.start, Noticed: true, Refuses: true, Err: "does not answer"},
		"restarted at once":         {Begin: func() { c.kill(); c.start() }},
		"frozen":                    {Begin: c.Freeze, End: c.Thaw, Noticed: true, Refuses: true, Hold: ttl, Err: "does not answer"},
		"cut off silently":          {Begin: c.Cut, End: c.Mend, Noticed: true, Refuses: true, Hold: ttl, Err: "does not answer"},
		"wiped empty":               {Begin: c.wipe},
		"slow":                      {Begin: func() { c.Slow(200 * time.Millisecond) }, End: func() { c.Slow(0) }, Hold: ttl},
		"the permission is revoked": {Begin: revoke, End: restore, Noticed: true, Hold: ttl},
	}
}

func testFaults(t *testing.T, c *cluster) {
	for name, fault := range c.faults(t) {
		t.Run(name, func(t *testing.T) {
			c.must(http.MethodDelete, slicesPath, nil, nil)
			token := c.login("faults")
			registrytest.RunFaults(t, func(t *testing.T) (registrytest.Harness, registrytest.Fault) {
				return registrytest.Harness{TTL: ttl, Open: func() registry.Driver { return c.opens(c.open(t, token, "")) }}, fault
			})
		})
	}
}

// Calls between living nodes do not depend on Kubernetes.
func testCalls(t *testing.T, c *cluster) {
	s := engine.Subject{
		URL: c.url(c.login("calls"), ""),
		FromURL: func(u *url.URL) (registry.Driver, error) {
			d, err := k8sregistry.FromURL(u)
			if err != nil {
				return nil, err
			}
			return c.opens(d), nil
		},
		TTL: ttl, Kill: c.kill, Start: c.start, Freeze: c.Freeze, Thaw: c.Thaw, Cut: c.Cut, Mend: c.Mend, Wipe: c.wipe,
		Revoke:  func() { c.must(http.MethodDelete, bindings+"/hull", nil, nil); c.Proxy.Reset() },
		Restore: func() { c.must(http.MethodPost, bindings, binding(), nil) },
		Slow:    c.Slow, Delay: 200 * time.Millisecond,
	}
	engine.Calls(t, s, s.Faults()...)
}
