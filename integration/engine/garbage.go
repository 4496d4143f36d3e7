package engine

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/registry"
)

// Garbage writes all kinds of it into an engine, among the nodes of a service that is being called 200 times a second: no call may fail or go
// astray, each entry is refused by itself and complained about once, and a further node is found. plant writes an entry of the service; its error
// says that the engine itself does not take such a thing. foreign writes what is nobody's entry; nil = nothing.
func Garbage(t *testing.T, s Subject, plant func(service, id, value string) error, foreign func()) {
	t.Helper()
	w := begin(t, s)
	heard := &complaints{}
	r, err := registry.New(s.driver(t), registry.Options{TTL: s.TTL, Interval: s.TTL / 4, Logger: slog.New(heard)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	if w.client, err = hull.NewClient(hull.WithRegistry(r)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.client.Close() })
	w.view = r.Open(service)
	t.Cleanup(func() { _ = w.view.Close() })

	// The caller is a server, too.
	strayed := make(chan struct{}, 1)
	own, err := newServer("caller", r, "own", "127.0.0.1:0", func() {
		select {
		case strayed <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	w.run(own, "own")
	w.serve("n0")
	w.serve("n1")
	w.until("n0")
	w.until("n1")
	end := w.load()

	record := func(n registry.Node) string {
		n.Service = service
		b, err := registry.EncodeNode(&n)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	good := record(registry.Node{ID: "n0", Address: own.Addr()})
	planted := map[string]string{
		"text": "hello", "empty": "", "list": "[]", "null": "null", "number": "17", "half": good[:len(good)/2], "two": good + good,
		"deep": strings.Repeat("[", 20_000), "huge": strings.Repeat("x", 20_000), "binary": "\x00\x01\xfe\xff",
		"duplicate": good, // says that it is n0
		"stranger":  strings.Replace(good, service, "other", 1),
		"format":    strings.Replace(good, `"hull":1`, `"hull":99`, 1),
		"own":       record(registry.Node{ID: "own", Address: own.Addr()}),
	}
	for i, address := range []string{"169.254.169.254:80", "[::ffff:169.254.169.254]:80", "[fd00:ec2::254]:80", "2852039166:80", "0xa9fea9fe:80",
		"metadata.google.internal:80", "0.0.0.0:80", "255.255.255.255:80", "224.0.0.1:80", "127.0.0.1:0", "127.0.0.1", "host:99999", "a b:80"} {
		id := fmt.Sprintf("address-%d", i)
		planted[id] = record(registry.Node{ID: id, Address: address})
	}
	for i, text := range []string{"\x1b[31mred", "line\nbreak", "nul\x00", strings.Repeat("v", 5000)} {
		id := fmt.Sprintf("version-%d", i)
		planted[id] = record(registry.Node{ID: id, Address: "192.0.2.1:80", Version: text})
	}
	for _, id := range []string{"../../etc/passwd", "a b", "\x1b[31m", "ü", ".", "*", ">", "$x", strings.Repeat("n", 300)} {
		planted[id] = record(registry.Node{ID: id, Address: "192.0.2.1:80"})
	}
	var refused []string
	for id, value := range planted {
		if err := plant(service, id, value); err == nil {
			refused = append(refused, id)
		} else if registry.ValidName("node id", id) == nil {
			t.Errorf("the engine did not take %q: %v", id, err)
		}
	}
	if foreign != nil {
		foreign()
	}
	for _, id := range refused {
		heard.await(t, id)
	}
	stop := w.serve("after")
	w.until("after")
	if s := w.view.Snapshot(); len(s.Nodes) != 3 {
		for _, n := range s.Nodes {
			t.Logf("%+v", n)
		}
		t.Errorf("%d nodes, want n0, n1 and after", len(s.Nodes))
	}
	pass(time.Second)
	stop()
	end()
	for id, n := range heard.all() {
		if n > 1 {
			t.Errorf("%q was complained about %d times", id, n)
		}
	}
	t.Logf("%d entries of %d were taken by the engine, and refused", len(refused), len(planted))
	select {
	case <-strayed:
		t.Error("a call has reached the caller's own server")
	default:
	}
}

// complaints are those of a registry, by the entry they are about.
type complaints struct {
	mu     sync.Mutex
	by     map[string]int
	silent int // how often it complained that the engine does not answer
}

func (*complaints) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (c *complaints) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "registry: the engine does not answer") {
		c.mu.Lock()
		c.silent++
		c.mu.Unlock()
	}
	if r.Message != "registry: ignored" {
		return nil
	}
	id := ""
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "id" {
			id = a.Value.String()
		}
		return true
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[string]int{}
	}
	c.by[id]++
	return nil
}

// WithAttrs implements slog.Handler.
func (c *complaints) WithAttrs([]slog.Attr) slog.Handler { return c }

// WithGroup implements slog.Handler.
func (c *complaints) WithGroup(string) slog.Handler { return c }

func (c *complaints) all() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string]int, len(c.by))
	for id, n := range c.by {
		all[id] = n
	}
	return all
}

func (c *complaints) silences() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.silent
}

// await waits for a complaint about an entry, which may be called by its whole key.
func (c *complaints) await(t testing.TB, id string) {
	t.Helper()
	said := strings.Trim(fmt.Sprintf("%q", id[:min(len(id), 12)]), `"`) // entries are called by their ID or their whole key, which is cut
	late := time.NewTimer(patience)
	defer late.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		for by := range c.all() {
			if strings.Contains(by, said) {
				return
			}
		}
		select {
		case <-tick.C:
		case <-late.C:
			t.Errorf("nobody complained about %q: %v", id, c.all())
			return
		}
	}
}
