package consul_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/registrytest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	a := startDev(t)
	var n atomic.Int64
	registrytest.Run(t, func(*testing.T) registrytest.Harness {
		prefix := fmt.Sprintf("t%d-", n.Add(1)) // an empty engine for each test
		sid := func(service, id string) string {
			return prefix + registry.EscapeName(service) + ":" + registry.EscapeName(id)
		}
		return registrytest.Harness{
			Open: func() registry.Driver { return a.open(t, "", "?prefix="+prefix) },
			TTL:  time.Second,
			Lose: func(service, id string) {
				a.must(http.MethodPut, "/v1/agent/service/deregister/"+url.PathEscape(sid(service, id)), nil, nil)
			},
			Plant: func(service, id, value string) {
				meta := map[string]string{"hull-id": id}
				for i := 0; len(value) > 0 && i < 60; i++ {
					n := min(len(value), 512)
					meta[fmt.Sprintf("hull-%02d", i)] = value[:n]
					value = value[n:]
				}
				a.must(http.MethodPut, "/v1/agent/service/register", map[string]any{"ID": sid(service, id), "Name": prefix + service, "Meta": meta}, nil)
			},
		}
	})
}

func TestCommands(t *testing.T) {
	t.Parallel()
	a := start(t, master)
	engine.Commands(t, "consul://"+master+"@"+a.Addr(), func(value string) {
		a.must(http.MethodPut, "/v1/agent/service/register", map[string]any{"ID": "planted:p1", "Name": "planted",
			"Tags": []string{"hull:planted"}, "Meta": map[string]string{"hull-id": "p1", "hull-00": value}}, nil)
	})
}

func TestFaults(t *testing.T) {
	for name, fault := range map[string]func(a *agent) registrytest.Fault{
		"killed": func(a *agent) registrytest.Fault {
			return registrytest.Fault{Begin: a.kill, End: a.start, Noticed: true, Refuses: true, Err: "Consul"}
		},
		"restarted at once": func(a *agent) registrytest.Fault {
			return registrytest.Fault{Begin: func() { a.kill(); a.start() }}
		},
		"frozen until all nodes are over": func(a *agent) registrytest.Fault {
			return registrytest.Fault{Begin: a.Freeze, End: a.Thaw, Noticed: true, Refuses: true, Hold: ttl, Err: "does not answer"}
		},
		"cut off silently": func(a *agent) registrytest.Fault {
			return registrytest.Fault{Begin: a.Cut, End: a.Mend, Noticed: true, Refuses: true, Hold: ttl, Err: "does not answer"}
		},
		"wiped empty": func(a *agent) registrytest.Fault {
			return registrytest.Fault{Begin: a.wipe}
		},
		"slow": func(a *agent) registrytest.Fault {
			return registrytest.Fault{Begin: func() { a.Slow(200 * time.Millisecond) }, End: func() { a.Slow(0) }, Hold: ttl}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registrytest.RunFaults(t, func(t *testing.T) (registrytest.Harness, registrytest.Fault) {
				a := start(t, "")
				return registrytest.Harness{TTL: ttl, Open: func() registry.Driver { return a.open(t, "", "") }}, fault(a)
			})
		})
	}
}

// watching is a running watch of the service greeter.
type watching struct {
	*testing.T
	updates chan registry.Update
	ended   chan error
}

func watch(t *testing.T, d registry.Driver) *watching {
	ctx, cancel := context.WithCancel(t.Context())
	w := &watching{T: t, updates: make(chan registry.Update, 1000), ended: make(chan error, 1)}
	go func() { w.ended <- d.Watch(ctx, "greeter", func(up registry.Update) { w.updates <- up }) }()
	t.Cleanup(func() {
		cancel()
		t.Log("the watch ended:", <-w.ended)
		_ = d.(io.Closer).Close()
	})
	return w
}

func (w *watching) until(what string, fits func(registry.Update) bool) {
	w.Helper()
	for {
		select {
		case up := <-w.updates:
			if fits(up) {
				return
			}
		case err := <-w.ended:
			w.ended <- err
			w.Fatalf("the watch ended: %v", err)
		case <-time.After(time.Minute):
			w.Fatalf("%s was not seen within a minute", what)
		}
	}
}

// What others have registered is refused, or taken if it is said what it speaks.
func TestForeignServices(t *testing.T) {
	t.Parallel()
	a := startDev(t)
	for _, id := range []string{"one", "_nomad-task-2"} {
		a.must(http.MethodPut, "/v1/agent/service/register", map[string]any{"ID": id, "Name": "greeter", "Address": "192.0.2.1", "Port": 80,
			"Meta": map[string]string{"version": "2"}}, nil)
	}
	w := watch(t, a.open(t, "", ""))
	w.until("their refusal", func(up registry.Update) bool { return len(up.Nodes) == 0 && len(up.Refused) == 2 })
	d := a.open(t, "", "?protocol=http")
	w = watch(t, d)
	w.until("the nodes", func(up registry.Update) bool {
		for _, n := range up.Nodes {
			if n.Address != "192.0.2.1:80" || n.Version != "2" || !n.Speaks("http") || n.Speaks("hull/1") {
				t.Errorf("%+v", n)
			}
		}
		return len(up.Nodes) == 2 && len(up.Refused) == 0
	})
	names, err := d.List(t.Context())
	if err != nil || !strings.Contains(strings.Join(names, " "), "greeter") {
		t.Errorf("%q, %v", names, err)
	}
}

// A node with many methods does not fit into Consul's meta data as it is.
func TestLargeRecord(t *testing.T) {
	t.Parallel()
	a := startDev(t)
	n := registrytest.Full("greeter", "large")
	for i := range 1000 {
		n.Methods = append(n.Methods, registry.Method{Name: fmt.Sprintf("some.package.of.mine.v1.Service%d/MethodNumber%d", i/20, i), Idempotent: i%2 == 0})
	}
	w := watch(t, a.open(t, "", ""))
	d := a.open(t, "", "")
	defer d.(io.Closer).Close()
	if _, err := d.(registry.Announcer).Announce(t.Context(), n, time.Minute); err != nil {
		t.Fatal(err)
	}
	w.until("the node as it is", func(up registry.Update) bool { return len(up.Nodes) == 1 && up.Nodes[0].Equal(n) })
}

const (
	master   = "11111111-2222-3333-4444-555555555555"
	token    = "66666666-7777-8888-9999-000000000000"
	accessor = "77777777-8888-9999-0000-111111111111" // the token's name, no secret
)

// allow makes the token for the programs; forbid takes it away.
func (a *agent) allow() {
	a.must(http.MethodPut, "/v1/acl/token", map[string]any{"SecretID": token, "AccessorID": accessor,
		"Policies": []map[string]string{{"Name": "programs"}}}, nil)
}

func (a *agent) forbid() { a.must(http.MethodDelete, "/v1/acl/token/"+accessor, nil, nil) }

func protected(t *testing.T) *agent {
	a := start(t, master)
	a.permit()
	return a
}

// permit makes the policy of programs, and the token.
func (a *agent) permit() {
	a.must(http.MethodPut, "/v1/acl/policy", map[string]any{"Name": "programs",
		"Rules": `service_prefix "greeter" { policy = "write" } node_prefix "" { policy = "read" }`}, nil)
	a.allow()
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	a := protected(t)
	for _, tt := range []struct {
		who, service, err string
		blind             bool // to a token that may not see a service Consul says that there is none
	}{
		{token + "@", "greeter", "", false},
		{"any:" + token + "@", "greeter", "", false},
		{token + "@", "other", "denies the permission", true},
		{"secret@", "greeter", "denies the permission", false},
		{"", "greeter", "denies the permission", true},
	} {
		t.Run(tt.who+tt.service, func(t *testing.T) {
			r, err := registry.New(a.open(t, tt.who, ""), registry.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			g, err := r.Register(t.Context(), registry.Node{Service: tt.service, ID: "a", Address: "192.0.2.1:80"})
			if err != nil {
				t.Fatal(err)
			}
			_, lerr := r.Lookup(t.Context(), tt.service)
			for what, err := range map[string]error{"register": g.Err(), "lookup": lerr} {
				switch {
				case tt.err == "" && err != nil:
					t.Errorf("%s: %v", what, err)
				case tt.blind && what == "lookup":
				case tt.err != "" && (err == nil || !strings.Contains(chain(err), tt.err)):
					t.Errorf("%s: %v, want one that says %q", what, err, tt.err)
				case err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), token)):
					t.Errorf("%s: the error shows a token: %v", what, err)
				}
			}
		})
	}
}

func TestCredentialsRevoked(t *testing.T) {
	t.Parallel()
	registrytest.RunFaults(t, func(t *testing.T) (registrytest.Harness, registrytest.Fault) {
		a := protected(t)
		return registrytest.Harness{TTL: ttl, Open: func() registry.Driver { return a.open(t, token+"@", "") }},
			registrytest.Fault{Begin: a.forbid, End: a.allow, Hold: ttl, Noticed: true, Refuses: true, Err: "denies the permission"}
	})
}

// chain is what an error and those it wraps say.
func chain(err error) string {
	var b strings.Builder
	for ; err != nil; err = errors.Unwrap(err) {
		b.WriteString(err.Error() + "\n")
	}
	return b.String()
}
