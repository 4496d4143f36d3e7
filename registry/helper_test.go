package registry

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// testNode returns a node at an address of its own.
func testNode(id string) *Node {
	return &Node{ID: id, Service: "greeter", Address: fmt.Sprintf("192.0.2.1:%d", 1024+crc32.ChecksumIEEE([]byte(id))%60_000)}
}

func testNodes(ids ...string) []*Node {
	var nodes []*Node
	for _, id := range ids {
		nodes = append(nodes, testNode(id))
	}
	return nodes
}

// show writes a snapshot as "a b (c)": c is absent.
func show(nodes []*Node) string {
	var parts []string
	for _, n := range nodes {
		if n.Absent {
			parts = append(parts, "("+n.ID+")")
		} else {
			parts = append(parts, n.ID)
		}
	}
	return strings.Join(parts, " ")
}

// testDriver does what the test says.
type testDriver struct {
	mu      sync.Mutex
	watches int
	at      []time.Time // of each watch
	feed    chan any    // Update = emit it, error = end with it
	names   []string
	listed  int
	closed  bool
}

func newTestDriver() *testDriver { return &testDriver{feed: make(chan any)} }

func (d *testDriver) List(context.Context) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.listed++
	return d.names, nil
}

func (d *testDriver) Watch(ctx context.Context, _ string, emit func(Update)) error {
	d.mu.Lock()
	d.watches++
	d.at = append(d.at, time.Now())
	d.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case x := <-d.feed:
			switch x := x.(type) {
			case Update:
				emit(x)
			case error:
				return x
			default:
				return nil
			}
		}
	}
}

func (d *testDriver) Close() error {
	d.closed = true
	return nil
}

// logLines collects what is logged.
type logLines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func mustNew(t testing.TB, d Driver, o Options) *Registry {
	t.Helper()
	if o.Rand == nil {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		o.Rand = rand.NewPCG(seed, 0)
	}
	r, err := New(d, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var errSick = errors.New("the engine is sick")

// sizes returns how many services r watches, and how many of them nobody has open.
func sizes(r *Registry) (services, idle int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.services), r.idle
}

// asked returns how often the driver was asked to watch and to list.
func (d *testDriver) asked() (watches, lists int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.watches, d.listed
}
