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
	"github.com/hull-go/hull/internal/invariant"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/status"
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
	ledgers []string                 // of nodes
	stops   map[uint16][]policy.Time // of nodes, by number: from, to, from, to …
}

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
		w.ledgers = append(w.ledgers, n.config.Ledger)
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
	if s.Failed > s.OnceFailed {
		c.w.Logf("caller %d:\n%s", c.config.Number, c.Log())
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
	if n := s.OK + s.Failed + s.Impatient + s.Excused; n != s.Offered {
		w.Errorf("%d calls were offered, and %d ended", s.Offered, n)
	}
}

// verdict is what the ledgers come to, beside the invariants.
type verdict struct {
	// Starts of handlers; Known those whose context had ended when they began, Vain those whose caller had gone by then, whoever knew.
	Starts, Known, Vain int
}

// late is how long after a server must have heard that nobody waits a handler may begin on a busy machine: the check comes before the handler, and a processor may
// be taken away between the two.
const late = 250 * time.Millisecond

// judge has the checker judge all ledgers.
func (w *world) judge(check *invariant.Checker) (v verdict, r *invariant.Report) {
	w.Helper()
	ends := map[uint64]policy.Time{} // of calls that their callers gave up
	for _, c := range w.callers {
		process := fmt.Sprint("caller ", c.config.Number)
		for _, rec := range records[called](w, c.config.Ledger) {
			if rec.ID == 0 {
				check.Stall(process, rec.At, rec.End)
				continue
			}
			w.tell(check, process, &rec)
			if rec.Class == uint8(policy.ClassCancelled) || rec.End > rec.Deadline {
				ends[rec.ID] = min(rec.End, rec.Deadline)
			}
		}
		w.views(check, c.config.Ledger)
	}
	for _, path := range w.ledgers {
		for _, s := range records[started](w, path) {
			v.Starts++
			st := invariant.Start{Call: s.Call, Service: service, WantService: service, Node: nodeID(s.Node), Once: s.Once, At: s.At}
			if s.Astray {
				st.WantService = "another"
			}
			end, gone := ends[s.Call]
			if gone = gone && end < s.At; gone {
				v.Vain++
			}
			if s.Known {
				v.Known++
				over := s.Over
				if over == 0 && gone {
					over = end
				}
				if over != 0 && s.At.Sub(over)-w.stopped(s.Node, over, s.At) > late {
					st.Over = over
				}
			}
			check.Start(st)
		}
	}
	r = check.Report(policy.Now())
	if err := r.Err(); err != nil {
		w.Error(err)
	}
	w.Logf("%d calls: %v; judged %v", r.Offered, r.Ended, r.Judged)
	w.Logf("%d handlers started; the context of %d had ended when they began, and the callers of %d had gone", v.Starts, v.Known, v.Vain)
	return v, r
}

// tell tells the checker of one call.
func (w *world) tell(check *invariant.Checker, process string, rec *called) {
	check.Offer(invariant.Call{ID: rec.ID, Service: service, Root: true, Once: rec.Once, Deadline: rec.Deadline, Process: process, At: rec.At})
	var tried []string
	for i := range min(int(rec.Attempts), len(rec.Nodes)) {
		a := invariant.Attempt{Call: rec.ID, N: i, Service: service, Node: nodeID(rec.Nodes[i]), At: rec.At, Paid: true, Tried: tried}
		if i > 0 && policy.Class(rec.Classes[i-1]) == policy.ClassDownstream {
			a.Before = &status.Error{Origin: status.Downstream}
		}
		check.Attempt(a)
		tried = append(tried, a.Node)
	}
	e := invariant.End{ID: rec.ID, Outcome: [...]invariant.Outcome{invariant.OK, invariant.Refused, invariant.Failed}[rec.Outcome], Class: policy.Class(rec.Class),
		Fate: status.Fate(rec.Fate), Shed: policy.Class(rec.Class) == policy.ClassShed, At: rec.End}
	if !rec.Once {
		e.Key = methodGet
	}
	check.End(e)
	if rec.Answered != 0 && rec.Replied != 0 {
		check.Start(invariant.Start{Service: service, WantService: service, Node: nodeID(rec.Replied), WantNode: nodeID(rec.Answered), At: rec.End})
	}
}

// stopped is how long a node had been stopped between two times.
func (w *world) stopped(number uint16, from, to policy.Time) (d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for all := w.stops[number]; len(all) > 0; all = all[min(2, len(all)):] {
		until := to
		if len(all) > 1 {
			until = all[1]
		}
		if a, b := max(all[0], from), min(until, to); b > a {
			d += b.Sub(a)
		}
	}
	return d
}

// views tells the checker how a caller saw the world.
func (w *world) views(check *invariant.Checker, path string) {
	was := breaker.Closed
	for _, s := range samples(w, path+".samples") {
		view := invariant.Nodes{Service: service, Known: len(s.Nodes), MaxEjected: len(s.Nodes) / 2, Live: 1, At: s.At} // one node is never killed
		for _, n := range s.Nodes {
			if n.State == "ejected" {
				view.Ejected++
			}
		}
		check.Nodes(view)
		if s.Breaker == nil {
			continue
		}
		if was == breaker.Closed && s.Breaker.State == breaker.Open {
			check.BreakerOpened(methodGet, 12*time.Second, s.Breaker.Since)
		}
		was = s.Breaker.State
	}
}

// pass lets time go by.
func pass(d time.Duration) { <-time.After(d) }

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
