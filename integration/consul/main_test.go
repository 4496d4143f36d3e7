package consul_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/consulregistry"
)

const (
	ttl  = 4 * time.Second
	port = "8500"
)

func TestMain(m *testing.M) {
	engine.Main(m, engine.Program(consulregistry.FromURL))
}

// binary builds the agent as a tool of a module of its own, or takes it out of Go's cache.
var binary = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("go", "tool", "-modfile="+filepath.Join("..", "..", "tools", "consul", "go.mod"), "-n", "consul")
	cmd.Stderr = os.Stderr
	path, err := cmd.Output()
	return strings.TrimSpace(string(path)), err
})

// agent is a Consul agent that is a server, too, behind a proxy.
type agent struct {
	*engine.Process
	*engine.Proxy
	t      testing.TB
	dir    string
	host   string
	direct string // past the proxy
	token  string // of whoever may do everything
	// command runs it.
	command func() *exec.Cmd
}

// start starts an agent. With a token only those who have one may do anything.
func start(t testing.TB, token string) *agent {
	t.Helper()
	return startAs(t, token, single())
}

// single is the configuration of the only server.
func single() map[string]any {
	return map[string]any{"server": true, "bootstrap_expect": 1, "performance": map[string]any{"raft_multiplier": 1}}
}

// startDev starts an agent in dev mode: it keeps everything in memory, and so does not wait for disks.
func startDev(t testing.TB) *agent {
	t.Helper()
	return startAs(t, "", nil, "-dev")
}

func startAs(t testing.TB, token string, extra map[string]any, flags ...string) *agent {
	t.Helper()
	a := newAgent(t, host(t), token, extra, flags...)
	a.Process = engine.New(t, a.command)
	a.start()
	return a
}

// newAgent returns an agent that has its configuration and no process.
func newAgent(t testing.TB, host, token string, extra map[string]any, flags ...string) *agent {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatalf("build consul: %v", err)
	}
	a := &agent{t: t, dir: t.TempDir(), host: host, token: token, Proxy: engine.NewProxy(t)}
	a.direct = net.JoinHostPort(a.host, port)
	config := map[string]any{
		"node_name": "agent",
		"bind_addr": a.host, "client_addr": a.host, "log_level": "error",
		"ports":                map[string]any{"dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1},
		"connect":              map[string]any{"enabled": false},
		"disable_update_check": true, "limits": map[string]any{"http_max_conns_per_client": 5000},
	}
	maps.Copy(config, extra)
	if len(flags) == 0 {
		config["data_dir"] = filepath.Join(a.dir, "data")
	}
	if token != "" {
		config["acl"] = map[string]any{"enabled": true, "default_policy": "deny", "tokens": map[string]any{
			"initial_management": token, "agent": token}}
	}
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(a.dir, "agent.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	a.command = func() *exec.Cmd {
		return exec.Command(path, append([]string{"agent", "-config-file=" + file}, flags...)...)
	}
	return a
}

// host returns an address that nobody else has: an agent cannot choose its ports by itself, but the loopback network
// has sixteen million hosts.
func host(t testing.TB) string {
	t.Helper()
	for {
		h := engine.Loopback()
		l, err := net.Listen("tcp", net.JoinHostPort(h, port))
		if err != nil {
			continue
		}
		_ = l.Close()
		return h
	}
}

func (a *agent) start() {
	a.StartUntil(func(ctx context.Context) error {
		var nodes []struct{ Node string }
		err := a.do(ctx, http.MethodGet, "/v1/catalog/nodes", nil, &nodes)
		if err == nil && len(nodes) == 0 {
			err = errors.New("it has not registered itself yet")
		}
		return err
	})
	a.Forward(a.direct)
}

func (a *agent) kill() {
	a.Forward("")
	a.Kill()
	a.Reset()
}

func (a *agent) wipe() {
	a.kill()
	if err := os.RemoveAll(filepath.Join(a.dir, "data")); err != nil {
		a.t.Error(err)
	}
	a.start()
}

// do sends a request past the proxy.
func (a *agent) do(ctx context.Context, method, path string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+a.direct+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("X-Consul-Token", a.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", method, path, res.Status, text)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

// must is do, and fails the test.
func (a *agent) must(method, path string, body, into any) {
	a.t.Helper()
	if err := a.do(context.Background(), method, path, body, into); err != nil {
		a.t.Error(err)
	}
}

// open returns a driver as one more process would have it.
func (a *agent) open(t testing.TB, who, query string) registry.Driver {
	t.Helper()
	u, err := registry.ParseURL("consul://" + who + a.Addr() + query)
	if err != nil {
		t.Fatal(err)
	}
	d, err := consulregistry.FromURL(u)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
