package etcd_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hull-go/hull/registry"
)

// One program that watches 1,000 services of 100 nodes each: what a node costs, and that a change to one is work for
// its service alone.
func TestAThousandServices(t *testing.T) {
	m := cluster(t, 1)[0]
	c := client(t, m)
	const services, nodes = 1000, 100
	record := func(service string, n int, version string) (key, value string) {
		id := fmt.Sprintf("node-%08x", n)
		data, err := registry.EncodeNode(&registry.Node{Service: service, ID: id, Address: fmt.Sprintf("10.1.%d.%d:8080", n/250, n%250+1),
			Version: version, Zone: "zone-a", Labels: map[string]string{"team": "money"}})
		if err != nil {
			t.Fatal(err)
		}
		return "/hull/" + service + "/nodes/" + id, string(data)
	}
	name := func(i int) string { return fmt.Sprintf("service-%04d", i) }
	for s := range services {
		var puts []clientv3.Op
		for n := range nodes {
			key, value := record(name(s), n, "1")
			puts = append(puts, clientv3.OpPut(key, value))
		}
		if _, err := c.Txn(t.Context()).Then(puts...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	heap := func() (bytes, objects uint64) {
		runtime.GC()
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc, s.Mallocs
	}
	before, _ := heap()
	r, err := registry.New(open(t, "", m), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	begin := time.Now()
	views := make([]*registry.View, services)
	for i := range views {
		views[i] = r.Open(name(i))
	}
	for i, v := range views {
		if s, err := v.Wait(t.Context()); err != nil || len(s.Nodes) != nodes {
			t.Fatalf("%s: %v, %v", name(i), s, err)
		}
	}
	listed := time.Since(begin)
	after, _ := heap()
	t.Logf("%d services of %d nodes were there after %v and take %d bytes per node", services, nodes, listed.Round(10*time.Millisecond), (after-before)/(services*nodes))
	if names, err := r.List(t.Context()); err != nil || len(names) != services {
		t.Errorf("%d names, %v", len(names), err)
	}

	sent := 0
	for late := time.After(time.Minute); sent < services; sent = m.counters(t)["Watch sent"] { // each watch is answered once
		select {
		case <-time.After(50 * time.Millisecond):
		case <-late:
			t.Fatalf("etcd has answered %d of %d watches", sent, services)
		}
	}
	revisions := make([]uint64, services)
	for i, v := range views {
		revisions[i] = v.Snapshot().Revision
	}
	const changes = 200
	_, objects := heap()
	began := time.Now()
	for i := range changes {
		version := fmt.Sprint(i + 2)
		key, value := record(name(7), 3, version)
		changed := views[7].Changed()
		if _, err := c.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
		for views[7].Snapshot().Node("node-00000003").Version != version {
			<-changed
			changed = views[7].Changed()
		}
	}
	took := time.Since(began)
	_, all := heap()
	t.Logf("a change takes %v from its writer to its reader, and %d allocations, the writer's included", (took / changes).Round(time.Microsecond), (all-objects)/changes)
	if got := m.counters(t)["Watch sent"] - sent; got > changes {
		t.Errorf("%d changes sent %d messages to one program", changes, got)
	}
	for i, v := range views {
		if i != 7 && v.Snapshot().Revision != revisions[i] {
			t.Errorf("%s has changed with another", name(i))
		}
	}
}
