package kubernetes_test

import (
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/registry"
)

// One program that watches 1,000 services of 100 nodes each: what a node costs, and that a change to one is work for its
// service alone.
func testAThousandServices(t *testing.T, c *cluster) {
	const services, nodes, changes = 1000, 100, 50
	name := func(i int) string { return fmt.Sprintf("service-%04d", i) }
	object := func(i int, zone string) map[string]any {
		var pods []any
		for n := range nodes {
			p := pod(fmt.Sprintf("%s-7d4b9c6f5-%05d", name(i), n), fmt.Sprintf("10.1.%d.%d", i%250, n+1), true, true, false)
			if p["nodeName"] = fmt.Sprintf("machine-%d", n%20); n == 3 && zone != "" {
				p["zone"] = zone
			}
			pods = append(pods, p)
		}
		return slice(name(i)+"-abcde", name(i), "IPv4", 8080, pods...)
	}
	var writers sync.WaitGroup
	next := make(chan int)
	for range 4 {
		writers.Go(func() {
			for i := range next {
				c.must(http.MethodPost, slicesPath, object(i, ""), nil)
			}
		})
	}
	for i := range services {
		next <- i
	}
	close(next)
	writers.Wait()
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	before := heap()
	r := open(t, c.open(t, c.login("scale"), ""), registry.Options{})
	began := time.Now()
	views := make([]*registry.View, services)
	for i := range views {
		views[i] = r.Open(name(i))
	}
	for i, v := range views {
		if s, err := v.Wait(t.Context()); err != nil || len(s.Nodes) != nodes {
			t.Fatalf("%s: %v, %v", name(i), s, err)
		}
	}
	listed := time.Since(began)
	t.Logf("%d services of %d nodes were there after %v and take %d bytes per node", services, nodes, listed.Round(10*time.Millisecond), (heap()-before)/(services*nodes))
	began = time.Now()
	if names, err := r.List(t.Context()); err != nil || len(names) != services {
		t.Errorf("%d names, %v", len(names), err)
	}
	t.Logf("their names took %v", time.Since(began).Round(10*time.Millisecond))
	revisions := make([]uint64, services)
	for i, v := range views {
		revisions[i] = v.Snapshot().Revision
	}
	began = time.Now()
	for i := range changes {
		zone := fmt.Sprintf("z%d", i+2)
		c.must(http.MethodPatch, slicesPath+"/"+name(7)+"-abcde", object(7, zone), nil)
		until(t, views[7], "a change", func(s *registry.Service) bool { return s.Nodes[3].Zone == zone })
	}
	t.Logf("a change takes %v from its writer to its reader", (time.Since(began) / changes).Round(time.Microsecond))
	for i, v := range views {
		if i != 7 && v.Snapshot().Revision != revisions[i] {
			t.Errorf("%s has changed with another", name(i))
		}
	}
}
