package consul_test

import (
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/consulregistry"
)

func (a *agent) subject() engine.Subject {
	return engine.Subject{URL: "consul://" + a.Addr(), FromURL: consulregistry.FromURL, TTL: ttl,
		Kill: a.kill, Start: a.start, Freeze: a.Freeze, Thaw: a.Thaw, Cut: a.Cut, Mend: a.Mend, Wipe: a.wipe,
		Slow: a.Slow, Delay: 200 * time.Millisecond}
}

// Calls between living nodes do not notice what befalls Consul.
func TestCallsGoOn(t *testing.T) {
	t.Parallel()
	a := protected(t)
	s := a.subject()
	s.URL = "consul://" + token + "@" + a.Addr()
	s.Revoke, s.Restore = a.forbid, a.allow
	s.Wipe = func() { a.wipe(); a.permit() }
	engine.Calls(t, s, s.Faults()...)
}

func TestFrozenForAMinute(t *testing.T) {
	t.Parallel()
	a := start(t, "")
	engine.Calls(t, a.subject(), engine.Fault{Name: "frozen for a minute", Begin: a.Freeze, End: a.Thaw, Hold: time.Minute})
}

func TestNetworkCut(t *testing.T) {
	t.Parallel()
	net := engine.NewNetwork(t)
	a := newAgent(t, net.Host, "", single())
	a.Process = engine.New(t, func() *exec.Cmd { return net.In(a.command()) })
	a.start()
	s := engine.Subject{URL: "consul://" + a.direct, FromURL: consulregistry.FromURL, TTL: ttl}
	engine.Calls(t, s, engine.Fault{Name: "the network cut", Begin: net.Cut, End: net.Mend, Hold: 4 * ttl})
}

func TestAddressReused(t *testing.T) {
	t.Parallel()
	engine.Reuse(t, start(t, "").subject())
}

func TestDetection(t *testing.T) {
	t.Parallel()
	engine.Detect(t, startDev(t).subject())
}

func TestManyReconnect(t *testing.T) { engine.Crowd(t, start(t, "").subject(), 100) }

func TestGarbage(t *testing.T) {
	t.Parallel()
	a := start(t, "")
	register := func(id, name string, meta map[string]string) error {
		return a.do(t.Context(), http.MethodPut, "/v1/agent/service/register", map[string]any{"ID": id, "Name": name, "Meta": meta}, nil)
	}
	engine.Garbage(t, a.subject(), func(service, id, value string) error {
		meta := map[string]string{"hull-id": id}
		for i := 0; len(value) > 0 && i < 60; i++ {
			n := min(len(value), 512)
			meta[fmt.Sprintf("hull-%02d", i)] = value[:n]
			value = value[n:]
		}
		return register(service+":"+id, service, meta)
	}, func() {
		for _, id := range []string{"nobody", "greeter", "greeter:", "greeter:n0:x"} {
			if err := register(id, "greeter", nil); err != nil {
				t.Error(err)
			}
		}
		if err := register("twice", "greeter", map[string]string{"hull-id": "n0"}); err != nil {
			t.Error(err)
		}
	})
}

// The nodes are another agent's, as those of a fleet are.
func TestManyServices(t *testing.T) {
	a := startDev(t)
	engine.Fleet(t, a.subject(), func(service string, nodes []*registry.Node) error {
		for some := range slices.Chunk(nodes, 60) {
			operations := []any{map[string]any{"Node": map[string]any{"Verb": "set", "Node": map[string]any{"Node": "other", "Address": "192.0.2.9"}}}}
			for _, n := range some {
				data, err := registry.EncodeNode(n)
				if err != nil {
					return err
				}
				operations = append(operations, map[string]any{"Service": map[string]any{"Verb": "set", "Node": "other", "Service": map[string]any{
					"ID": service + ":" + n.ID, "Service": service, "Tags": []string{"hull:" + service}, "Address": "192.0.2.9", "Port": 80,
					"Meta": map[string]string{"hull-id": n.ID, "hull-owner": "other", "hull-00": string(data)}}}})
			}
			if err := a.do(t.Context(), http.MethodPut, "/v1/txn", operations, nil); err != nil {
				return err
			}
		}
		return nil
	})
}
