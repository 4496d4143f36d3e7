package registrytest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull/registry"
)

func testWatchEnds(t *testing.T, h Harness) {
	s := begin(t, h)
	d := s.open()
	w := s.watch(d, "greeter")
	w.until("a first answer", func(map[string]*registry.Node) bool { return true })
	if err := w.end(); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled watch ended with %v", err)
	}
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	if err := d.Watch(ctx, "greeter", func(registry.Update) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("a watch with a dead context ended with %v", err)
	}
}

func testUnknown(t *testing.T, h Harness) {
	s := begin(t, h)
	if h.ReadOnly && slices.ContainsFunc(h.Present, func(n registry.Node) bool { return n.Service == "*" }) {
		return // it serves every name
	}
	w := s.watch(s.open(), "nobody-knows-this")
	w.until("an empty first answer", has())
}

func testReadOnly(t *testing.T, h Harness) {
	s := begin(t, h)
	d := s.open()
	if _, ok := d.(registry.Announcer); ok {
		t.Fatal("declared read-only, but it is an Announcer")
	}
	byService := map[string][]string{}
	var names []string
	for _, n := range h.Present {
		if byService[n.Service] == nil && n.Service != "*" {
			names = append(names, n.Service)
		}
		byService[n.Service] = append(byService[n.Service], n.ID)
	}
	for service, ids := range byService {
		if service == "*" {
			service = "any.name"
		}
		w := s.watch(d, service)
		w.until("the nodes of "+service, has(ids...))
	}
	s.names(d, names...)

	r := s.registry(d)
	if _, err := r.Register(s.ctx, *plain("greeter", "x")); !errors.Is(err, registry.ErrReadOnly) {
		t.Errorf("Register: %v, want ErrReadOnly", err)
	}
}

// names asserts what List returns.
func (s *session) names(d registry.Driver, want ...string) {
	s.Helper()
	got, err := d.List(s.ctx)
	if err != nil {
		s.Fatalf("list: %v", err)
	}
	if s.h.Nameless {
		want = nil
	}
	slices.Sort(want)
	got = slices.Clone(got)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		s.Errorf("List: %q, want %q", got, want)
	}
}

func testAnnounce(t *testing.T, h Harness) {
	s := begin(t, h)
	a, reader := s.announcer(), s.open()
	w := s.watch(reader, "greeter")
	w.until("nothing yet", has())
	s.names(reader)
	want := Full("greeter", "a")
	l := s.announce(a, want, time.Minute)
	s.announce(a, plain("greeter", "b"), time.Minute)
	s.announce(a, plain("other", "a"), time.Minute)
	w.until("a and b", has("a", "b"))
	if got := w.nodes()["a"]; !got.Equal(want) {
		t.Errorf("announced %+v\nseen      %+v", want, got)
	}
	if err := l.Renew(s.ctx); err != nil {
		t.Errorf("renew: %v", err)
	}
	late := s.watch(reader, "greeter")
	late.until("a and b by a late watch", has("a", "b"))
	s.names(reader, "greeter", "other")
	if len(w.left) > 0 {
		t.Errorf("departures of nodes that are there: %v", w.left)
	}
}

func testUpdate(t *testing.T, h Harness) {
	s := begin(t, h)
	a := s.announcer()
	w := s.watch(s.open(), "greeter")
	n := plain("greeter", "a")
	l := s.announce(a, n, time.Minute)
	w.until("a", has("a"))
	for i := range 20 {
		n = n.Clone()
		n.Version = fmt.Sprint(i)
		n.Draining = i%2 == 0
		if err := l.Update(s.ctx, n); err != nil {
			t.Fatalf("update: %v", err)
		}
	}
	w.until("the last update", func(m map[string]*registry.Node) bool {
		if len(m) != 1 {
			t.Fatalf("during an update there were %d nodes", len(m))
		}
		return m["a"].Equal(n)
	})
	if err := l.Renew(s.ctx); err != nil {
		t.Errorf("renew after update: %v", err)
	}
	if len(w.left) > 0 {
		t.Errorf("an update is no departure: %v", w.left)
	}
}

func testDepart(t *testing.T, h Harness) {
	s := begin(t, h)
	a, reader := s.announcer(), s.open()
	w := s.watch(reader, "greeter")
	l := s.announce(a, plain("greeter", "a"), time.Minute)
	s.announce(a, plain("greeter", "b"), time.Minute)
	w.until("both", has("a", "b"))
	if err := l.Close(s.ctx); err != nil {
		t.Fatalf("close: %v", err)
	}
	w.until("b alone", has("b"))
	if w.left["a"] == "" || len(w.left) != 1 {
		t.Errorf("departures: %v, want a and why", w.left)
	}
	// The ID may come back.
	s.announce(a, plain("greeter", "a"), time.Minute)
	w.until("both again", has("a", "b"))
}

func testExpire(t *testing.T, h Harness) {
	s := begin(t, h)
	if h.TTL == 0 {
		h.TTL = time.Second
	}
	a, reader := s.announcer(), s.open()
	w := s.watch(reader, "greeter")
	l := s.announce(a, plain("greeter", "a"), h.TTL)
	w.until("a", has("a"))
	w.until("the end of the TTL", has())
	if len(w.left) > 0 {
		t.Errorf("an expired lease proves nothing, but these are said to have left: %v", w.left)
	}
	if err := l.Renew(s.ctx); errors.Is(err, registry.ErrLost) {
		s.announce(a, plain("greeter", "a"), time.Minute)
	} else if err != nil {
		t.Fatalf("renew after the TTL: %v, want nil or ErrLost", err)
	}
	w.until("a again", has("a"))
}

func testNames(t *testing.T, h Harness) {
	s := begin(t, h)
	a, reader := s.announcer(), s.open()
	services := []string{"a", "A", "a.b", "a-b", "a_b", "a:b", "a@b", "a%40b", "[::1]:80", "con", "x+y=z~",
		strings.Repeat("l", 253), strings.Repeat("L", 253), strings.Repeat("l", 252) + "m"}
	for _, service := range services {
		for _, id := range services {
			n := plain(service, id)
			if err := n.Validate(); err != nil {
				t.Fatal(err)
			}
			s.announce(a, n, time.Minute)
		}
	}
	for _, service := range services {
		w := s.watch(reader, service)
		w.until("all of "+service, has(services...))
		_ = w.end()
	}
	s.names(reader, services...)
}

func testTwice(t *testing.T, h Harness) {
	s := begin(t, h)
	a, b := s.announcer(), s.announcer()
	w := s.watch(s.open(), "greeter")
	first := s.announce(a, plain("greeter", "a"), time.Minute)
	w.until("a", has("a"))
	second := plain("greeter", "a")
	second.Version = "2"
	l, err := b.Announce(s.ctx, second, time.Minute)
	switch {
	case h.Replaces && err != nil:
		t.Fatalf("declared to replace, but: %v", err)
	case h.Replaces:
		w.until("the second", func(m map[string]*registry.Node) bool { return m["a"] != nil && m["a"].Version == "2" })
		if err := first.Renew(s.ctx); !errors.Is(err, registry.ErrLost) {
			t.Errorf("the first renews: %v, want ErrLost", err)
		}
	case !errors.Is(err, registry.ErrTaken):
		t.Fatalf("announcing a living node's ID: %v (lease %v), want ErrTaken", err, l)
	default:
		if err := first.Close(s.ctx); err != nil {
			t.Fatal(err)
		}
		s.announce(b, second, time.Minute)
		w.until("the second", func(m map[string]*registry.Node) bool { return m["a"] != nil && m["a"].Version == "2" })
	}
}

func testMany(t *testing.T, h Harness) {
	s := begin(t, h)
	a := s.announcer()
	w := s.watch(s.open(), "greeter")
	var ids []string
	var leases []registry.Lease
	for i := range 200 {
		id := fmt.Sprintf("n%03d", i)
		ids = append(ids, id)
		leases = append(leases, s.announce(a, plain("greeter", id), time.Minute))
	}
	w.until("200 nodes", has(ids...))
	for _, l := range leases[:100] {
		if err := l.Close(s.ctx); err != nil {
			t.Fatal(err)
		}
	}
	w.until("100 nodes", has(ids[100:]...))
	if len(w.left) != 100 {
		t.Errorf("%d departures, want 100", len(w.left))
	}
}

func testDeregister(t *testing.T, h Harness) {
	s := begin(t, h)
	a, b := s.announcer(), s.open()
	d, ok := b.(registry.Deregisterer)
	if !ok {
		t.Fatal("a driver that announces is a Deregisterer, too")
	}
	w := s.watch(s.open(), "greeter")
	s.announce(a, plain("greeter", "a"), time.Minute)
	s.announce(a, plain("greeter", "b"), time.Minute)
	w.until("both", has("a", "b"))
	if err := d.Deregister(s.ctx, "greeter", "nobody"); !errors.Is(err, registry.ErrUnknown) {
		t.Errorf("deregistering what never was there: %v, want ErrUnknown", err)
	}
	err := d.Deregister(s.ctx, "greeter", "a")
	if h.Guarded {
		if !errors.Is(err, registry.ErrAlive) {
			t.Errorf("deregistering a living node: %v, want ErrAlive", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	w.until("b alone", has("b"))
	if w.left["a"] == "" {
		t.Errorf("departures: %v, want a and why", w.left)
	}
	if err := d.Deregister(s.ctx, "greeter", "a"); !errors.Is(err, registry.ErrUnknown) {
		t.Errorf("deregistering what is not there: %v, want ErrUnknown", err)
	}
}

func testGarbage(t *testing.T, h Harness) {
	if h.Plant == nil {
		return
	}
	s := begin(t, h)
	good, err := registry.EncodeNode(plain("greeter", "planted"))
	if err != nil {
		t.Fatal(err)
	}
	hostile, err := registry.EncodeNode(&registry.Node{ID: "hostile", Service: "greeter", Address: "169.254.169.254:80"})
	if err != nil {
		t.Fatal(err)
	}
	garbage := map[string]string{"text": "hello", "empty": "", "other": string(good), "hostile": string(hostile),
		"huge": strings.Repeat("x", 64<<10), "half": string(good[:len(good)/2])}
	early := s.watch(s.open(), "greeter")
	early.until("nothing yet", has())
	a := s.announcer()
	s.announce(a, plain("greeter", "a"), time.Minute)
	for id, value := range garbage {
		h.Plant("greeter", id, value)
	}
	h.Plant("greeter", "planted", string(good))
	early.until("the nodes among the garbage", has("a", "planted"))
	late := s.watch(s.open(), "greeter")
	late.until("the nodes among the garbage, listed", has("a", "planted"))
	s.announce(a, plain("greeter", "b"), time.Minute)
	for _, w := range []*watching{early, late} {
		w.until("a further node", has("a", "b", "planted"))
		for id := range garbage {
			if w.refused[id] != 1 {
				t.Errorf("entry %s was refused %d times, want once (of %v)", id, w.refused[id], w.refused)
			}
		}
	}
	// Who has such an ID gets its place.
	s.announce(a, plain("greeter", "text"), time.Minute)
	early.until("a node in the place of garbage", has("a", "b", "planted", "text"))
}

func (s *session) registry(d registry.Driver) *registry.Registry {
	s.Helper()
	r, err := registry.New(d, registry.Options{})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := r.Close(); err != nil {
			s.Errorf("close the registry: %v", err)
		}
	})
	return r
}

// until waits for a snapshot that fits.
func (s *session) until(v *registry.View, what string, fits func(*registry.Service) bool) {
	s.Helper()
	for {
		changed := v.Changed()
		if fits(v.Snapshot()) {
			return
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
			s.Fatalf("%s was not seen; last seen: %+v", what, v.Snapshot())
		}
	}
}

func testRegistry(t *testing.T, h Harness) {
	s := begin(t, h)
	a, b := s.registry(h.Open()), s.registry(h.Open())
	v := b.Open("greeter")
	g, err := a.Register(s.ctx, *plain("greeter", ""))
	if err != nil || g.Err() != nil {
		t.Fatal(err, g.Err())
	}
	id := g.Node().ID
	got, err := v.Wait(s.ctx)
	if err != nil || got.Node(id) == nil {
		t.Fatalf("wait: %+v, %v", got, err)
	}
	if err := g.Update(s.ctx, func(n *registry.Node) { n.Draining = true }); err != nil {
		t.Fatal(err)
	}
	s.until(v, "draining", func(sv *registry.Service) bool { return sv.Node(id) != nil && sv.Node(id).Draining })
	if err := g.Withdraw(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.until(v, "the withdrawal", func(sv *registry.Service) bool { return len(sv.Nodes) == 0 })
	if err := g.Return(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.until(v, "the return", func(sv *registry.Service) bool { return sv.Node(id) != nil })
	if _, err := b.Lookup(s.ctx, "greeter"); err != nil {
		t.Errorf("lookup: %v", err)
	}
	var nf *registry.NotFoundError
	if _, err := b.Lookup(s.ctx, "greter"); !errors.As(err, &nf) {
		t.Errorf("lookup of a wrong name: %v", err)
	} else if !h.Nameless && !slices.Contains(nf.Nearest, "greeter") {
		t.Errorf("nearest names: %v", nf.Nearest)
	}
	if err := g.Close(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.until(v, "the end", func(sv *registry.Service) bool { return len(sv.Nodes) == 0 })
}

func testLoss(t *testing.T, h Harness) {
	s := begin(t, h)
	if h.Lose == nil {
		return
	}
	a, b := s.registry(h.Open()), s.registry(h.Open())
	v := b.Open("greeter")
	n := plain("greeter", "a")
	if _, err := a.Register(s.ctx, *n); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Wait(s.ctx); err != nil {
		t.Fatal(err)
	}
	h.Lose("greeter", "a")
	reader := s.open()
	w := s.watch(reader, "greeter")
	w.until("a again", has("a"))
	s.until(v, "a believed", func(sv *registry.Service) bool { return sv.Node("a") != nil && !sv.Node("a").Absent })
}

func testClosed(t *testing.T, h Harness) {
	s := begin(t, h)
	d := h.Open()
	c, ok := d.(io.Closer)
	if !ok {
		return // nothing to close
	}
	w := s.watch(d, "greeter")
	w.until("a first answer", has())
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-w.err:
		w.err <- err
		if err == nil {
			t.Error("the watch ended without an error")
		}
	case <-s.ctx.Done():
		t.Fatal("the watch goes on after the driver was closed")
	}
	if err := d.Watch(s.ctx, "greeter", func(registry.Update) {}); err == nil || s.ctx.Err() != nil {
		t.Errorf("watch on a closed driver: %v", err)
	}
}
