package engine

import (
	"flag"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/registry"
)

// fleet is for measuring: the suite is the same for any number.
var fleet = flag.Int("fleet", 30, "how many services of a hundred nodes one program watches in TestManyServices; docs/discovery.md has 1000")

// Fleet has one program watch many services of a hundred nodes: it measures what a node costs and what a change costs, and wants a
// change to one node to be work for its service alone. write writes nodes of one service, all at once.
func Fleet(t *testing.T, s Subject, write func(service string, nodes []*registry.Node) error) {
	t.Helper()
	const nodes, most, writers = 100, 50, 8
	services := *fleet
	name := func(i int) string { return fmt.Sprintf("service-%04d", i) }
	node := func(service, n int, version string) *registry.Node {
		return &registry.Node{Service: name(service), ID: fmt.Sprintf("node-%08x", n), Address: fmt.Sprintf("10.1.%d.%d:8080", n/250, n%250+1),
			Version: version, Zone: "zone-a", Labels: map[string]string{"team": "money"}}
	}
	var wg sync.WaitGroup
	next := make(chan int)
	for range writers {
		wg.Go(func() {
			for i := range next {
				var all []*registry.Node
				for n := range nodes {
					all = append(all, node(i, n, "1"))
				}
				if err := write(name(i), all); err != nil {
					t.Errorf("%s: %v", name(i), err)
				}
			}
		})
	}
	for i := range services {
		next <- i
	}
	close(next)
	wg.Wait()
	before, _ := heap()
	heard := &complaints{}
	r, err := registry.New(s.driver(t), registry.Options{Logger: slog.New(heard)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	began := time.Now()
	views := make([]*registry.View, services)
	for i := range views {
		views[i] = r.Open(name(i))
	}
	for i, v := range views {
		until(t, v, "the nodes of "+name(i), func(s *registry.Service) bool { return len(s.Nodes) == nodes && !s.Stale })
	}
	took := time.Since(began)
	after, _ := heap()
	t.Logf("%d services of %d nodes were there after %v and take %d bytes per node", services, nodes, took.Round(10*time.Millisecond), (after-before)/uint64(services*nodes))
	pass(2 * time.Second) // the watches begin
	revisions := make([]uint64, services)
	for i, v := range views {
		revisions[i] = v.Snapshot().Revision
	}
	_, objects := heap()
	began = time.Now()
	changes := 0
	for ; changes < most && time.Since(began) < 10*time.Second; changes++ { // some engines are asked once in a while
		version := fmt.Sprint(changes + 2)
		n := node(7, 3, version)
		if err := write(name(7), []*registry.Node{n}); err != nil {
			t.Fatal(err)
		}
		until(t, views[7], "a change", func(s *registry.Service) bool { return s.Node(n.ID) != nil && s.Node(n.ID).Version == version })
	}
	took = time.Since(began)
	_, all := heap()
	t.Logf("a change takes %v from its writer to its reader, and %d allocations, the writer's included", (took / time.Duration(changes)).Round(time.Microsecond), (all-objects)/uint64(changes))
	if n := heard.silences(); n > 0 { // on a busy machine an engine may be late, and the services are listed anew
		t.Logf("%d services were without an answer for a while", n)
		return
	}
	for i, v := range views {
		if i != 7 && v.Snapshot().Revision != revisions[i] {
			t.Errorf("%s has changed with another", name(i))
		}
	}
}

// heap returns the bytes that are in use, and how many objects were ever made.
func heap() (bytes, objects uint64) {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc, s.Mallocs
}
