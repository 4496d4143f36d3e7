package chaos_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/internal/invariant"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/status"
)

// TestReset resets live connections, those of one node after the other. No idempotent call fails.
func TestReset(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(3, nodeConfig{})
	// What a reset cuts off has ended on another node before that one's turn comes, however long the retry waits.
	c := w.caller(callerConfig{Rate: 400, Ms: 20, Once: 100})
	for i := range size(12, 120) {
		live(300 * time.Millisecond)
		w.nodes[i%3].resetAll()
	}
	s := c.finish()
	w.idempotent(s)
	if n := w.attempts(policy.ClassReset); n == 0 {
		t.Error("no attempt was cut off by a reset: nothing was tested")
	} else {
		t.Logf("%d attempts were cut off by resets", n)
	}
	w.judge(invariant.New(invariant.Options{Burst: 2000}))
}

// idempotent wants that no idempotent call of a caller failed.
func (w *world) idempotent(s *summary) {
	w.Helper()
	w.Logf("%d calls, %d failed, of which %d must not run twice and %d had a key, %d excused: %v", s.Offered, s.Failed, s.OnceFailed, s.KeyedFailed, s.Excused, s.Errors)
	if n := s.Failed - s.OnceFailed - s.KeyedFailed; n > 0 {
		w.Errorf("%d of %d calls failed although they were idempotent: %v", n, s.Offered, s.Errors)
	}
}

// attempts counts those that ended so.
func (w *world) attempts(class policy.Class) (n int) {
	for _, c := range w.callers {
		for _, r := range records[called](w, c.config.Ledger) {
			for i := range min(int(r.Attempts), len(r.Classes)) {
				if policy.Class(r.Classes[i]) == class {
					n++
				}
			}
		}
	}
	return n
}

// stops stops a caller now and then.
func stops(_ *testing.T, c *callerProcess) {
	for range size(3, 20) {
		pass(500 * time.Millisecond)
		c.Freeze()
		pass(1500 * time.Millisecond)
		c.Thaw()
	}
}

// nobodysFault wants that no failed call of a caller that stood still counts against the service or a node.
func (w *world) nobodysFault(c *callerProcess, s *summary) {
	w.Helper()
	failed := map[policy.Class]int{}
	for _, r := range records[called](w, c.config.Ledger) {
		if r.ID != 0 && r.Outcome != outcomeOK {
			failed[policy.Class(r.Class)]++
		}
	}
	w.Logf("%d calls, failed: %v", s.Offered, failed)
	for class, n := range failed {
		if counts := class.Counts(); counts.Breaker == policy.Failure || counts.Node == policy.Failure {
			w.Errorf("%d calls failed as %v, which counts", n, class)
		}
	}
}

// TestCallerStandsStill stops a caller, and gives one a tenth of a processor. What fires meanwhile is nobody's fault: no call fails, no breaker
// opens.
func TestCallerStandsStill(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		conf  callerConfig
		late  bool // calls may come too late
		fault func(*testing.T, *callerProcess)
	}{
		{"stopped", callerConfig{Rate: 50, Ms: 5, Timeout: 10 * time.Second}, false, stops},
		// Calls are under way whenever it stops, and their time is up before it goes on. Answers have come by then, and count; what has none is nobody's fault.
		{"stopped until all is too late", callerConfig{Rate: 100, Ms: 300, Once: 500, Timeout: time.Second}, true, stops},
		{"quota", callerConfig{Rate: 50, Ms: 5, Timeout: 10 * time.Second, Busy: 40 * time.Millisecond}, false, func(t *testing.T, c *callerProcess) {
			defer quota(t, c.Process, 10)() // which its busy moments exceed
			pass(size(6*time.Second, time.Minute))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.serve(3, nodeConfig{})
			tt.conf.Sample, tt.conf.Strict = 500*time.Millisecond, true
			c := w.caller(tt.conf)
			tt.fault(t, c)
			pass(200 * time.Millisecond)
			s := c.finish()
			if tt.late {
				w.nobodysFault(c, s)
			} else {
				w.none(s)
			}
			if s.Stalled < time.Second {
				t.Errorf("the caller stood still for %v: nothing was tested", s.Stalled)
			}
			ejected := 0
			for _, s := range samples(t, c.config.Ledger+".samples") {
				for method, b := range s.Breakers {
					if b.State != breaker.Closed {
						t.Errorf("the breaker of %s is %v", method, b)
					}
				}
				for _, n := range s.Nodes {
					if n.State == "ejected" {
						ejected++
					}
				}
			}
			t.Logf("nodes were seen ejected %d times", ejected) // they may stand still as well
			w.judge(invariant.New(invariant.Options{Burst: 2000}))
		})
	}
}

// quota gives a process so many percent of a processor, until it is undone: by a control group, or where none may be made as that does it, by stopping it
// for the rest of each tenth of a second.
func quota(t *testing.T, p *engine.Process, percent int) (undo func()) {
	t.Helper()
	group := filepath.Join("/sys/fs/cgroup/cpu", fmt.Sprintf("hull-%d", pid(t, p)))
	if err := os.Mkdir(group, 0o755); err == nil { //nolint:gosec // the kernel's own file system
		err := os.WriteFile(filepath.Join(group, "cpu.cfs_quota_us"), fmt.Append(nil, percent*1000), 0o600)
		if err == nil {
			err = os.WriteFile(filepath.Join(group, "cgroup.procs"), fmt.Append(nil, pid(t, p)), 0o600)
		}
		if err != nil {
			t.Error(err)
		}
		return func() {
			said, err := os.ReadFile(filepath.Join(group, "cpu.stat"))
			t.Logf("%d %% of a processor: %s, %v", percent, strings.ReplaceAll(strings.TrimSpace(string(said)), "\n", ", "), err)
			const least = 3
			_, after, _ := strings.Cut(string(said), "nr_throttled ")
			throttled := 0
			if _, err := fmt.Sscan(after, &throttled); err != nil || throttled < least {
				t.Errorf("%d %% of a processor was enough nearly always: nothing was tested", percent)
			}
			if err := os.WriteFile(filepath.Join(filepath.Dir(group), "cgroup.procs"), fmt.Append(nil, pid(t, p)), 0o600); err != nil {
				t.Error(err)
			}
			if err := os.Remove(group); err != nil {
				t.Error(err)
			}
		}
	}
	t.Log("no control group may be made; the process is stopped and continued in its place")
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			p.Freeze()
			pass(time.Duration(100-percent) * time.Millisecond)
			p.Thaw()
			select {
			case <-time.After(time.Duration(percent) * time.Millisecond):
			case <-stop:
				return
			}
		}
	}()
	return func() { close(stop); <-done }
}

// pid is what the process says is its number.
func pid(t *testing.T, p *engine.Process) (n int) {
	t.Helper()
	_, line, _ := strings.Cut(p.Log(), sayPID)
	if _, err := fmt.Sscan(line, &n); err != nil {
		t.Fatalf("the process does not say its number: %v", err)
	}
	return n
}

// TestSlowNode gives one of three nodes a twentieth of a processor, which is less than it needs. No call fails.
func TestSlowNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(1, nodeConfig{Busy: 80 * time.Millisecond}) // alone more than that
	w.serve(2, nodeConfig{})
	c := w.caller(callerConfig{Rate: 150, Burn: time.Millisecond})
	undo := quota(t, w.nodes[0].Process, 5)
	pass(size(4*time.Second, time.Minute))
	undo()
	w.none(c.finish())
	w.judge(invariant.New(invariant.Options{Burst: 2000}))
}

// TestNetworkCut has the network swallow everything to and from one of three nodes, without a word: connections are open at one end only, and dials of new
// callers are not answered. Then the node dies behind the cut, so that nobody hears of it, and the network is well again. No call fails.
func TestNetworkCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	network := engine.NewNetwork(t)
	w.serve(2, nodeConfig{})
	far := w.node(nodeConfig{Addr: net.JoinHostPort(network.Host, "0")})
	far.config.Registry = "nats://" + w.forward(gateway(t, network.Host))
	far.wrap = func(config string) *engine.Process {
		return engine.New(t, func() *exec.Cmd { return network.In(engine.Role("node", config)) })
	}
	far.start()
	conf := callerConfig{Rate: 200, Ms: 5}
	before := w.caller(conf)
	pass(time.Second)
	network.Cut()
	pass(500 * time.Millisecond)
	conf.Cold, conf.Sample = true, 100*time.Millisecond
	after := w.caller(conf) // discovery still names the node
	pass(size(6*time.Second, time.Minute))
	far.Kill()
	network.Mend()
	pass(3 * time.Second)
	w.none(before.finish())
	w.none(after.finish())
	for _, c := range []*callerProcess{before, after} {
		at := map[string]int{}
		for _, r := range records[called](t, c.config.Ledger) {
			for i := range min(int(r.Attempts), len(r.Nodes)) {
				if r.Nodes[i] == far.config.Number {
					at[policy.Class(r.Classes[i]).String()]++
				}
			}
		}
		t.Logf("caller %d's attempts at the node behind the cut: %v", c.config.Number, at)
		if c == before && at[policy.ClassTimeout.String()] == 0 {
			t.Error("no attempt was lost in the cut: nothing was tested")
		}
	}
	if !slices.ContainsFunc(samples(t, after.config.Ledger+".samples"), func(s sample) bool {
		return slices.ContainsFunc(s.Nodes, func(n balance.NodeState) bool { return n.ID == nodeID(far.config.Number) && n.State == balance.Down })
	}) {
		t.Error("the new caller dialed nobody in vain: nothing was tested")
	}
	w.judge(invariant.New(invariant.Options{Burst: 2000}))
}

// gateway is this machine's address on the cable to a network of two hosts.
func gateway(t *testing.T, host string) string {
	t.Helper()
	a, err := netip.ParseAddr(host)
	if err != nil {
		t.Fatal(err)
	}
	return a.Prev().String()
}

// forward lets the registry be reached on another address of this machine.
func (w *world) forward(host string) string {
	w.Helper()
	l, err := (&net.ListenConfig{}).Listen(w.Context(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := (&net.Dialer{}).DialContext(w.Context(), "tcp", w.proxy.Addr())
			if err != nil {
				_ = in.Close()
				continue
			}
			for _, c := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() { // until one of the two ends, as both do with their processes
					_, _ = io.Copy(c[0], c[1])
					_, _ = c[0].Close(), c[1].Close()
				}()
			}
		}
	}()
	return l.Addr().String()
}

// TestQueryOfDeath makes calls that kill each node that runs them. One that is idempotent takes as many nodes with it as it has attempts, another
// takes one; those that are left serve everybody else.
func TestQueryOfDeath(t *testing.T) {
	t.Parallel()
	const nodes = 6
	w := newWorld(t)
	w.serve(nodes, nodeConfig{})
	c := w.caller(callerConfig{Rate: 200})
	client := w.client()
	for _, tt := range []struct {
		method string
		id     uint64
		most   int
	}{{methodPut, 1, 1}, {methodGet, 2, 3}} {
		var info hull.CallInfo
		_, err := hull.Call[reply](t.Context(), client.To(service), tt.method, &request{ID: tt.id, For: service, Poison: true}, hull.Info(&info))
		starts := 0
		for _, l := range w.ledgers {
			for _, s := range records[started](t, l.path) {
				if s.Call == tt.id {
					starts++
				}
			}
		}
		t.Logf("%s: %d nodes died of it, in %d attempts: %v", tt.method, starts, len(info.Attempts), err)
		if err == nil || starts < 1 || starts > tt.most {
			t.Errorf("%s: %d nodes died of it, at most %d may: %v", tt.method, starts, tt.most, err)
		}
	}
	pass(3 * time.Second)
	w.none(c.finish()) // who refuses connections costs a call none of its attempts
	w.judge(invariant.New(invariant.Options{Burst: 2000}))
}

// client returns a client in this process.
func (w *world) client(opts ...hull.ClientOption) *hull.Client {
	w.Helper()
	r, err := openRegistry(w.registry(), ttl)
	if err != nil {
		w.Fatal(err)
	}
	c, err := hull.NewClient(append([]hull.ClientOption{hull.WithRegistry(r)}, opts...)...)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _, _ = c.Close(), r.Close() })
	return c
}

// TestLargeBodies makes calls of a mebibyte each way while nodes are killed and their connections reset. No idempotent call fails, nothing runs
// twice that must not, and the caller's memory stays bounded.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(3, nodeConfig{})
	// Some are under way at each node whenever it is reset.
	c := w.caller(callerConfig{Rate: 20, Ms: 300, Exactly: true, Once: 300, Fill: 1 << 20, Reply: 1 << 20, Sample: 500 * time.Millisecond, Timeout: 10 * time.Second})
	for i := range size(4, 40) {
		pass(500 * time.Millisecond)
		w.nodes[1+i%2].resetAll()
		if i%4 == 3 {
			w.nodes[0].Kill()
			pass(500 * time.Millisecond)
			w.nodes[0].start()
		}
	}
	s := c.finish()
	w.idempotent(s)
	var most uint64
	for _, s := range samples(t, c.config.Ledger+".samples") {
		most = max(most, s.Heap)
	}
	n := w.attempts(policy.ClassReset)
	t.Logf("a live heap of %d MiB at most; %d attempts were cut off", most>>20, n)
	if n == 0 {
		t.Error("no attempt was cut off: nothing was tested")
	}
	if most > 256<<20 {
		t.Errorf("the caller's live heap grew to %d MiB", most>>20)
	}
	w.judge(invariant.New(invariant.Options{Burst: 2000}))
}

// TestNoDescriptors lets a stranger open more connections to a node than it has descriptors for. Its callers notice nothing, and new ones are served when
// the stranger has gone.
func TestNoDescriptors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(1, nodeConfig{Descriptors: 64})
	c := w.caller(callerConfig{Rate: 100})
	var strangers []net.Conn
	defer func() {
		for _, s := range strangers {
			_ = s.Close()
		}
	}()
	addr := w.client().To(service)
	if _, err := hull.Call[reply](t.Context(), addr, methodGet, &request{For: service}); err != nil {
		t.Fatal(err)
	}
	at := addr.Explain()[0].Address
	for range 200 {
		s, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", at)
		if err != nil {
			break // it takes no more, not even to turn them away
		}
		strangers = append(strangers, s)
	}
	t.Logf("%d strangers", len(strangers))
	pass(size(3*time.Second, 30*time.Second))
	for _, s := range strangers {
		_ = s.Close()
	}
	w.none(c.finish())
	w.until("a new caller is served", func() error {
		_, err := hull.Call[reply](t.Context(), w.client().To(service), methodGet, &request{For: service})
		return err
	})
	w.nodes[0].leave()
	w.judge(invariant.New(invariant.Options{Burst: 2000}))
}

// TestDescriptorsTaken has a node run out of descriptors: who is connected notices nothing, it does not spin, and new callers are served when there are some again.
func TestDescriptorsTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(1, nodeConfig{Descriptors: 64})
	n := w.nodes[0]
	c := w.caller(callerConfig{Rate: 100})
	takes := 0
	take := func() {
		takes++
		n.Signal(syscall.SIGUSR2)
		w.until("descriptors are taken, or given back", func() error {
			if strings.Count(n.Log(), sayTaken) < takes {
				return errors.New("the node has not said so")
			}
			return nil
		})
	}
	call := func(timeout time.Duration) error {
		_, err := hull.Call[reply](t.Context(), w.client().To(service), methodGet, &request{For: service}, hull.Timeout(timeout))
		return err
	}
	take()
	began, before := time.Now(), processorTime(t, n.Process)
	if err := call(2 * time.Second); err == nil {
		t.Error("a new caller was served: nothing was tested")
	} else {
		t.Logf("a new caller: %v", err)
	}
	pass(size(time.Second, 30*time.Second))
	if used, took := processorTime(t, n.Process)-before, time.Since(began); used > took/2 {
		t.Errorf("a node without descriptors used %v of a processor in %v", used, took)
	}
	take()
	w.until("a new caller is served", func() error { return call(5 * time.Second) })
	w.none(c.finish())
	n.leave()
	w.judge(invariant.New(invariant.Options{Burst: 2000}))
}

// processorTime is what a process has used of processors.
func processorTime(t *testing.T, p *engine.Process) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid(t, p)))
	if err != nil {
		t.Fatal(err)
	}
	const user, system, tick = 11, 12, 10 * time.Millisecond // fields after the name, see proc(5)
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	var ticks int
	for _, f := range []int{user, system} {
		n, err := strconv.Atoi(fields[f])
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick
}

// until tries again until f returns nil.
func (w *world) until(what string, f func() error) {
	w.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); pass(50 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	w.Fatalf("%s: not within a minute: %v", what, err)
}

// TestCertificateExpired has nodes with a certificate that has expired: calls say so, nobody storms the nodes, and when the certificate is renewed all is well.
func TestCertificateExpired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	files := newCertificates(t)
	for range 2 {
		n := w.node(nodeConfig{Cert: files.cert, Key: files.key, Sample: 100 * time.Millisecond})
		files.addrs = append(files.addrs, net.ParseIP(n.host()))
	}
	files.renew(t, time.Now().Add(-time.Hour))
	for _, n := range w.nodes {
		n.start()
	}
	client := w.client(hull.WithTLS(trusting(files.ca)))
	const calls = 200
	attempts, first := 0, time.Now()
	for range calls {
		var info hull.CallInfo
		_, err := hull.Call[reply](t.Context(), client.To(service), methodGet, &request{For: service}, hull.Info(&info), hull.Timeout(time.Second))
		if err == nil {
			t.Fatal("a certificate that has expired was believed")
		}
		if text := err.Error(); info.Class == policy.ClassHandshake && (!strings.Contains(text, "certificate") || !strings.Contains(text, "expired")) {
			t.Errorf("the error does not say what is wrong: %v", err)
		}
		if attempts == 0 {
			t.Logf("%v, kind %v, %d attempts", err, status.From(err).Kind, len(info.Attempts))
			if !strings.Contains(err.Error(), "expired") {
				t.Errorf("the first error does not say what is wrong: %v", err)
			}
		}
		attempts += len(info.Attempts)
		pass(10 * time.Millisecond)
	}
	accepted := 0
	for _, n := range w.nodes {
		if all := samples(t, n.config.Ledger+".samples"); len(all) > 0 {
			accepted += all[len(all)-1].Accepted
		}
	}
	t.Logf("%d calls, %d attempts, %d connections", calls, attempts, accepted)
	// Twelve in the first second for each node, then three protocols are tried about once a second.
	if most := len(w.nodes) * (20 + int(4*time.Since(first).Seconds())); accepted > most || attempts > 2*calls {
		t.Errorf("%d calls led to %d attempts and %d connections", calls, attempts, accepted)
	}
	files.renew(t, time.Now().Add(time.Hour))
	began := time.Now()
	w.until("a call after the renewal", func() error {
		_, err := hull.Call[reply](t.Context(), client.To(service), methodGet, &request{For: service}, hull.Timeout(time.Second))
		return err
	})
	t.Logf("well %v after the renewal", time.Since(began).Round(time.Millisecond))
	for _, n := range w.nodes {
		n.leave()
	}
}

// TestPanicWhileDraining has handlers panic that run while their node leaves: it leaves in good order all the same, and only their calls fail.
func TestPanicWhileDraining(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(1, nodeConfig{DrainPanic: true})
	w.serve(2, nodeConfig{})
	c := w.caller(callerConfig{Rate: 300, Ms: 300, Once: 500})
	pass(time.Second)
	w.nodes[0].leave()
	s := c.finish()
	t.Logf("%d calls, %d failed: %v", s.Offered, s.Failed, s.Errors)
	if s.Failed == 0 {
		t.Error("no handler panicked: nothing was tested")
	}
	for what := range s.Errors {
		if !strings.Contains(what, "panic") {
			t.Errorf("a call failed otherwise: %s", what)
		}
	}
	w.judge(invariant.New(invariant.Options{Burst: 2000}))
}
