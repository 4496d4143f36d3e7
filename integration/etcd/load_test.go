package etcd_test

import (
	"bufio"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/registry"
)

// counters reads how many messages of each method etcd has taken and sent, by "method received" and "method sent".
func (m *member) counters(t *testing.T) map[string]int {
	t.Helper()
	res, err := http.Get("http://" + m.direct + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got := map[string]int{}
	for s := bufio.NewScanner(res.Body); s.Scan(); {
		name, rest, _ := strings.Cut(s.Text(), "{")
		name, ok := strings.CutPrefix(name, "grpc_server_msg_")
		if !ok {
			continue
		}
		name, _, _ = strings.Cut(name, "_total")
		_, rest, _ = strings.Cut(rest, `grpc_method="`)
		method, rest, _ := strings.Cut(rest, `"`)
		n, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			t.Fatal(err)
		}
		got[method+" "+name] += int(n)
	}
	if len(got) == 0 {
		t.Fatal("etcd publishes no counters")
	}
	return got
}

// While nothing changes, 500 programs that watch and one with 20 services cost one keepalive per interval and nothing
// else.
func TestHeartbeatsAreNobodysLoad(t *testing.T) {
	m := cluster(t, 1)[0]
	const watchers, services = 500, 20
	const ttl = 12 * time.Second
	r, err := registry.New(open(t, "", m), registry.Options{TTL: ttl, Interval: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range services {
		g, err := r.Register(t.Context(), registry.Node{Service: fmt.Sprintf("s%d", i), ID: "a", Address: "192.0.2.1:80"})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	readers := make([]*registry.Registry, watchers)
	for i := range readers {
		if readers[i], err = registry.New(open(t, "", m), registry.Options{}); err != nil {
			t.Fatal(err)
		}
		v := readers[i].Open("s0")
		wg.Go(func() {
			if _, err := v.Wait(t.Context()); err != nil {
				t.Errorf("a watcher: %v", err)
			}
		})
	}
	defer func() {
		for _, r := range readers {
			wg.Go(func() { _ = r.Close() })
		}
		wg.Wait()
	}()
	wg.Wait()

	// Until the watches are there, and nothing is on its way any more.
	before := m.counters(t)
	for quiet := 0; quiet < 3; {
		<-time.After(300 * time.Millisecond)
		now := m.counters(t)
		if quiet++; now["Watch received"] != before["Watch received"] || now["Watch received"] < watchers+services || now["Range received"] != before["Range received"] {
			quiet = 0
		}
		before = now
	}
	begin := time.Now()
	after := before
	for after["LeaseKeepAlive sent"]-before["LeaseKeepAlive sent"] < 2 {
		<-time.After(100 * time.Millisecond)
		after = m.counters(t)
	}
	took := time.Since(begin)
	t.Logf("in %v:", took.Round(100*time.Millisecond))
	for name, n := range after {
		d := n - before[name]
		if d == 0 {
			continue
		}
		t.Logf("  %-24s %d", name, d)
		if !strings.HasPrefix(name, "LeaseKeepAlive ") {
			t.Errorf("%s: %d messages while nothing changed", name, d)
		}
	}
	if got, most := after["LeaseKeepAlive sent"]-before["LeaseKeepAlive sent"], int(took/(ttl/4))+2; got > most {
		t.Errorf("%d keepalives in %v, at most %d expected: 20 services share one", got, took, most)
	}

	// A change to one service is a message for each who watches it, and for nobody else.
	before = m.counters(t)
	g, err := r.Register(t.Context(), registry.Node{Service: "s1", ID: "b", Address: "192.0.2.2:80"})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	after = m.counters(t)
	if got := after["Watch sent"] - before["Watch sent"]; got > 2 { // the answer to the watch of the node's own key
		t.Errorf("a change to a service that nobody watches sent %d messages to watchers", got)
	}
	before = after
	begin = time.Now()
	g, err = r.Register(t.Context(), registry.Node{Service: "s0", ID: "b", Address: "192.0.2.2:80"})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range readers {
		v := r.Open("s0")
		for changed := v.Changed(); v.Snapshot().Node("b") == nil; changed = v.Changed() {
			<-changed
		}
		v.Close()
	}
	t.Logf("%d watchers saw a new node within %v, by %d messages", watchers, time.Since(begin).Round(time.Millisecond), m.counters(t)["Watch sent"]-before["Watch sent"])
	if err := g.Err(); err != nil {
		t.Error(err)
	}
}
