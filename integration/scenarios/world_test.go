package scenarios_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/natsregistry"
	"github.com/hull-go/hull/spec"
)

// world is the processes of one run.
type world struct {
	*testing.T
	sc       *scenario
	with     *protection
	seed     uint64
	document *spec.Spec
	dir      string
	registry string
	began    time.Time
	nodes    map[string][]*nodeProcess

	// Of scenarios with a blackout: the engine, and what callers reach it through.
	engine  *engine.Process
	proxy   *engine.Proxy
	network *engine.Network // of node 2, once somebody asks
}

// The nodes of a discovery that goes down are to be forgotten by it within seconds.
const blackoutTTL = 4 * time.Second

// nodeProcess is a place for one node after the other.
type nodeProcess struct {
	*engine.Process
	w             *world
	control, addr string
}

func newWorld(t *testing.T, sc *scenario, r *row, seed uint64) *world {
	t.Helper()
	w := &world{T: t, sc: sc, with: &r.with, seed: seed, document: r.with.document(sc.services), dir: t.TempDir(), nodes: map[string][]*nodeProcess{}}
	w.registry = (&url.URL{Scheme: "file", Path: filepath.Join(w.dir, "nodes")}).String()
	if sc.blackout {
		w.proxy = engine.NewProxy(w)
		w.engine, w.registry = w.newRegistry("127.0.0.1:-1")
		w.proxy.Forward(strings.TrimPrefix(w.registry, "nats://"))
	}
	for i := range sc.services {
		for range max(sc.services[i].Nodes, 1) {
			w.place(&sc.services[i])
		}
	}
	for _, all := range w.nodes {
		for _, n := range all {
			n.await()
		}
	}
	return w
}

// newRegistry starts an engine that knows nothing.
func (w *world) newRegistry(addr string) (p *engine.Process, url string) {
	store := w.TempDir()
	p = engine.Self(w, "nats", func() []string { return []string{store, addr} })
	return p, "nats://" + p.Start()
}

// restartRegistry starts it again, where it was, as if for the first time. For a while callers reach another one, which says that there is nobody.
func (w *world) restartRegistry(empty time.Duration) {
	_, other := w.newRegistry("127.0.0.1:-1")
	w.announce(other)
	w.proxy.Forward(strings.TrimPrefix(other, "nats://"))
	w.engine, _ = w.newRegistry(strings.TrimPrefix(w.registry, "nats://"))
	pass(empty)
	w.proxy.Forward(strings.TrimPrefix(w.registry, "nats://"))
	w.proxy.Reset()
}

// announce registers a node of another service: an engine that nobody has ever used has no place to look for nodes in.
func (w *world) announce(at string) {
	w.Helper()
	d, err := openDriver(at)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = d.(*natsregistry.Driver).Close() })
	if _, err := d.(*natsregistry.Driver).Announce(w.Context(), &registry.Node{ID: "1", Service: "another", Address: "127.0.0.1:1"}, time.Minute); err != nil {
		w.Fatal(err)
	}
}

// ttl is that of nodes in discovery; 0 = the default.
func (w *world) ttl() time.Duration {
	if w.sc.blackout {
		return blackoutTTL
	}
	return 0
}

// place adds a node to a service, and launches it.
func (w *world) place(s *service) *nodeProcess {
	w.Helper()
	n := &nodeProcess{w: w}
	number := len(w.nodes[s.Name])
	host := "127.0.0.1"
	var in *engine.Network
	if w.sc.unheard && number == muted {
		w.network = engine.NewNetwork(w)
		in, host = w.network, w.network.Host
	}
	c := nodeConfig{Registry: w.registry, TTL: w.ttl(), Host: host, Service: *s, Patience: time.Minute, Protection: *w.with, Document: w.document, Seed: w.seed}
	if s.Below != "" && !w.with.bare {
		c.Patience = w.sc.service(s.Below).patience()
	}
	n.Process = engine.New(w, func() *exec.Cmd {
		cmd := engine.Role("node", w.marshal(&c))
		if in != nil {
			return in.In(cmd)
		}
		return cmd
	})
	w.nodes[s.Name] = append(w.nodes[s.Name], n)
	n.Launch()
	return n
}

// muted is the number of the node whose answers can be lost, where discovery says nothing.
const muted = 2

// mute has the network lose what that node answers, and nothing else.
func (w *world) mute() { w.network.Mute() }

func (n *nodeProcess) await() {
	n.w.Helper()
	n.control, n.addr, _ = strings.Cut(n.Await(), " ")
}

// restart ends the process, as whoever runs it does, and starts the next.
func (n *nodeProcess) restart(away time.Duration) {
	n.w.Helper()
	if n.w.with.Leave {
		n.Stop()
	} else {
		n.Kill()
	}
	pass(away)
	n.Launch()
	n.await()
}

func (sc *scenario) service(name string) *service {
	for i := range sc.services {
		if sc.services[i].Name == name {
			return &sc.services[i]
		}
	}
	panic("no service " + name)
}

// at waits for a time since the beginning.
func (w *world) at(d time.Duration) { pass(time.Until(w.began.Add(d))) }

// tell lets nodes of a service suffer, all if none is named.
func (w *world) tell(service string, t trouble, nodes ...int) {
	w.Helper()
	for i, n := range w.nodes[service] {
		if len(nodes) > 0 && nodes[0] != i {
			continue
		}
		w.post(n.control, "/trouble", &t, nil)
	}
}

// start starts a caller.
func (w *world) start(c *callerConfig) (control string) {
	w.Helper()
	c.Registry, c.TTL, c.Document, c.Directory, c.Last, c.Settle = w.registry, w.ttl(), w.document, w.with.Directory, w.sc.last, w.sc.settle
	if w.sc.blackout {
		c.Registry = "nats://" + w.proxy.Addr()
	}
	if w.sc.unheard {
		var all []string
		for _, n := range w.nodes[c.Loads[0].To] {
			all = append(all, n.addr)
		}
		c.Registry = "static://" + strings.Join(all, ",")
	}
	return engine.Self(w, "caller", func() []string { return []string{w.marshal(c)} }).Start()
}

// play starts the processes, lets everything happen, and returns what was seen.
func (sc *scenario) play(t *testing.T, r *row, seed uint64) *run {
	t.Helper()
	s := *sc
	s.services, s.loads = append([]service(nil), s.services...), append([]load(nil), s.loads...)
	if r.vary != nil {
		r.vary(&s)
	}
	w := newWorld(t, &s, r, seed)
	var callers []string
	for i := range s.loads {
		l := &s.loads[i]
		l.Limit = s.service(l.To).patience()
		if l.Patience = l.Limit; w.with.bare {
			l.Patience, l.Limit = time.Minute+l.Limit, l.Limit+50*time.Millisecond // attempts have their time each, the call has none
		}
	}
	for i := range max(1, s.loads[0].Clients) {
		callers = append(callers, w.start(&callerConfig{Loads: s.loads, Seed: seed + uint64(i)<<32}))
	}
	w.began = time.Now().Add(300 * time.Millisecond)
	for _, c := range callers {
		w.post(c, "/begin", w.began.Round(0), nil)
	}
	if s.do != nil {
		s.do(w)
	}
	out := &run{sc: &s, seen: map[string]seen{}}
	for _, c := range callers {
		var all calls
		w.get(c, "/calls", &all)
		out.calls = append(out.calls, all.Calls...)
		out.late = max(out.late, all.Late)
	}
	if !s.unheard {
		for name, nodes := range w.nodes {
			for _, n := range nodes {
				var one seen
				w.get(n.control, "/seen", &one)
				sum := out.seen[name]
				out.seen[name] = seen{sum.Started + one.Started, sum.Ran + one.Ran, sum.Over + one.Over, one.Admission}
			}
		}
	}
	for _, n := range w.nodes[s.loads[0].To] {
		out.nodes = append(out.nodes, n.addr)
	}
	return out
}

func (w *world) marshal(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		w.Error(err)
	}
	return string(b)
}

func (w *world) post(control, path string, body, into any) {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), http.MethodPost, "http://"+control+path, bytes.NewReader([]byte(w.marshal(body))))
	if err != nil {
		w.Fatal(err)
	}
	w.ask(req, into)
}

func (w *world) get(control, path string, into any) {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), http.MethodGet, "http://"+control+path, http.NoBody)
	if err != nil {
		w.Fatal(err)
	}
	w.ask(req, into)
}

// ask asks one of the processes.
func (w *world) ask(req *http.Request, into any) {
	w.Helper()
	t := &http.Transport{}
	defer t.CloseIdleConnections()
	rep, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer rep.Body.Close()
	if into != nil {
		err = json.NewDecoder(rep.Body).Decode(into)
	}
	if err != nil || rep.StatusCode != http.StatusOK {
		w.Fatalf("%s: %s %v", req.URL, rep.Status, err)
	}
}
