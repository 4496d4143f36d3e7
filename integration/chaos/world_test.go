package chaos_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/policy"
)

// Everything is found within seconds, and lost within ttl.
const ttl = 4 * time.Second

// world is a registry, nodes and callers, each a process.
type world struct {
	*testing.T
	dir     string
	engine  *engine.Process
	proxy   *engine.Proxy
	nodes   []*nodeProcess
	callers []*callerProcess

	mu      sync.Mutex
	number  uint16
	ledgers []ledgerOf               // of nodes
	stops   map[uint16][]policy.Time // of nodes, by number: from, to, from, to …
	causes  map[string][]span        // of states that must end; nil = no test says, and spells are not judged
}

// span is a time; to 0 = it has not ended.
type span struct{ from, to policy.Time }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, dir: t.TempDir(), proxy: engine.NewProxy(t), stops: map[uint16][]policy.Time{}}
	w.engine = engine.Self(t, "nats", func() []string { return []string{w.dir} })
	w.startRegistry()
	return w
}

func (w *world) startRegistry() { w.proxy.Forward(w.engine.Start()) }

func (w *world) killRegistry() {
	w.proxy.Forward("")
	w.engine.Kill()
	w.proxy.Reset()
}

func (w *world) registry() string { return "nats://" + w.proxy.Addr() }

// ledgerOf is where a node of a service writes.
type ledgerOf struct{ path, service string }

// nodeProcess is a place for one node after the other.
type nodeProcess struct {
	*engine.Process
	w      *world
	config nodeConfig
	// same: whoever comes next has the ID and the address of who was there before.
	same bool
	wrap func(args string) *engine.Process
}

// node makes a place for a node that is not started yet.
func (w *world) node(c nodeConfig) *nodeProcess {
	n := &nodeProcess{w: w, config: c}
	n.config.Registry, n.config.TTL = w.registry(), ttl
	if c.Service == "" {
		n.config.Service = service
	}
	if c.Addr == "" {
		n.config.Addr = net.JoinHostPort(engine.Loopback(), "0")
	}
	w.nodes = append(w.nodes, n)
	return n
}

// serve starts n nodes.
func (w *world) serve(n int, c nodeConfig) {
	w.Helper()
	from := len(w.nodes)
	for range n {
		w.node(c).launch()
	}
	for _, n := range w.nodes[from:] {
		n.await()
	}
}

// host is the address that nodes in the place listen on, without port.
func (n *nodeProcess) host() string {
	host, _, err := net.SplitHostPort(n.config.Addr)
	if err != nil {
		n.w.Fatal(err)
	}
	return host
}

// launch starts a node in the place, where none may be.
func (n *nodeProcess) launch() {
	n.w.Helper()
	w := n.w
	w.mu.Lock()
	if !n.same || n.config.Number == 0 {
		w.number++
		n.config.Number = w.number
		n.config.Ledger = filepath.Join(w.dir, fmt.Sprintf("node-%d", w.number))
		w.ledgers = append(w.ledgers, ledgerOf{n.config.Ledger, n.config.Service})
	}
	b, err := json.Marshal(&n.config)
	w.mu.Unlock()
	if err != nil {
		w.Fatal(err)
	}
	if n.wrap != nil {
		n.Process = n.wrap(string(b))
	} else {
		n.Process = engine.Self(w, "node", func() []string { return []string{string(b)} })
	}
	n.Launch()
}

// await waits until it serves.
func (n *nodeProcess) await() {
	n.w.Helper()
	if addr := n.Await(); n.same {
		n.config.Addr = addr
	}
}

// start starts a node in the place and returns when it serves.
func (n *nodeProcess) start() { n.w.Helper(); n.launch(); n.await() }

// Freeze stops the node and notes it.
func (n *nodeProcess) Freeze() { n.note(); n.Process.Freeze() }

// Thaw undoes Freeze.
func (n *nodeProcess) Thaw() { n.Process.Thaw(); n.note() }

func (n *nodeProcess) note() {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.w.stops[n.config.Number] = append(n.w.stops[n.config.Number], policy.Now())
}

// leave stops it as SIGTERM does, and wants that it leaves in good order.
func (n *nodeProcess) leave() {
	n.w.Helper()
	n.Stop()
	if !strings.Contains(n.Log(), "left: <nil>") {
		n.w.Errorf("node %d did not leave in good order:\n%s", n.config.Number, n.Log())
	}
}

// callerProcess is a caller.
type callerProcess struct {
	*engine.Process
	w      *world
	config callerConfig
}

// caller starts a caller and returns when it has begun.
func (w *world) caller(c callerConfig) *callerProcess {
	w.Helper()
	p := w.newCaller(c)
	p.Start()
	return p
}

func (w *world) newCaller(c callerConfig) *callerProcess {
	c.Registry, c.TTL, c.Number = w.registry(), ttl, uint16(len(w.callers)+1)
	c.Ledger = filepath.Join(w.dir, fmt.Sprintf("caller-%d", c.Number))
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Service == "" {
		c.Service = service
	}
	p := &callerProcess{w: w, config: c}
	p.Process = engine.Self(w, "caller", func() []string {
		b, err := json.Marshal(&p.config)
		if err != nil {
			w.Error(err)
		}
		return []string{string(b)}
	})
	w.callers = append(w.callers, p)
	return p
}

// finish ends the caller and returns what it says.
func (c *callerProcess) finish() *summary {
	c.w.Helper()
	c.Stop()
	return c.said()
}

// ended waits for a caller that stops by itself, and calls during all the time.
func (c *callerProcess) ended(during func(n int)) *summary {
	c.w.Helper()
	for n := 0; c.alive(); n++ {
		during(n)
	}
	return c.said()
}

func (c *callerProcess) alive() bool { return !strings.Contains(c.Log(), saySummary) }

// said reads the summary.
func (c *callerProcess) said() *summary {
	c.w.Helper()
	s := new(summary)
	_, line, ok := strings.Cut(c.Log(), saySummary)
	line, _, _ = strings.Cut(line, "\n")
	if !ok || json.Unmarshal([]byte(line), s) != nil {
		c.w.Fatalf("caller %d said no last word:\n%s", c.config.Number, c.Log())
	}
	if s.Excused > min(s.Offered/100, s.Offered/excusedMost+excusedFew) {
		c.w.Errorf("%d of %d calls are excused by a machine that stood still for %v: that is too many", s.Excused, s.Offered, s.Stalled)
	}
	if c.config.Service == service && s.Failed > s.OnceFailed+s.KeyedFailed {
		c.w.Logf("caller %d:\n%s", c.config.Number, c.Log())
	}
	if b, err := os.ReadFile(c.config.Ledger + ".stories"); err == nil && c.config.Service == service && len(b) > 0 {
		c.w.Logf("caller %d, calls that failed or were excused:\n%s", c.config.Number, b[:min(len(b), 1<<17)])
	}
	return s
}

// none wants that no call of a caller failed.
func (w *world) none(s *summary) {
	w.Helper()
	w.Logf("%d calls in %v, %d failed, %d of them that must not run twice; the caller stood still for %v, and %d calls got no answer then", s.Offered,
		s.Took.Round(time.Millisecond), s.Failed, s.OnceFailed, s.Stalled.Round(time.Millisecond), s.Excused)
	if s.Failed > 0 {
		w.Errorf("%d of %d calls failed: %v", s.Failed, s.Offered, s.Errors)
	}
	if n := s.OK + s.Failed + s.Sick + s.Impatient + s.Excused; n != s.Offered {
		w.Errorf("%d calls were offered, and %d ended", s.Offered, n)
	}
}

// pass lets time go by.
func pass(d time.Duration) { <-time.After(d) }

// live lets time go by, and does not count that in which the machine stands still: what comes one after the other, so that a call's next attempt meets no more than one of it, would
// meet it at once then.
func live(d time.Duration) {
	const every = 5 * time.Millisecond
	for d > 0 {
		began := time.Now()
		if pass(every); time.Since(began) < 4*every {
			d -= time.Since(began)
		}
	}
}

// size is that of a test: small, unless it is to be full.
func size[N any](small, large N) N {
	if *full {
		return large
	}
	return small
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// resetAll has a node reset its connections.
func (n *nodeProcess) resetAll() { n.Signal(syscall.SIGUSR1) }
