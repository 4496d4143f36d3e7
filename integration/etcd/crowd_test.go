package etcd_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/registry"
)

// A thousand programs, each with a node and a watch, outlive a restart of etcd that takes all of them at once.
func TestAThousandReconnect(t *testing.T) {
	m := cluster(t, 1)[0]
	const programs = 1000
	all := make([]*registry.Registry, programs)
	views := make([]*registry.View, programs)
	var wg sync.WaitGroup
	t.Cleanup(func() {
		for _, r := range all {
			if r != nil {
				wg.Go(func() { _ = r.Close() })
			}
		}
		wg.Wait()
	})
	for i := range all {
		r, err := registry.New(open(t, "", m), registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		all[i], views[i] = r, r.Open("watched")
		n := registry.Node{Service: fmt.Sprintf("s%d", i%100), ID: fmt.Sprintf("n%d", i), Address: fmt.Sprintf("192.0.2.1:%d", i+1)}
		wg.Go(func() {
			g, err := r.Register(t.Context(), n)
			if err == nil {
				err = g.Wait(t.Context())
			}
			if err != nil {
				t.Errorf("%s: %v", n.ID, err)
			}
		})
	}
	wg.Wait()
	await := func(what string, fits func(*registry.Service) bool) {
		t.Helper()
		for i, v := range views {
			late := time.After(2 * time.Minute)
			for changed := v.Changed(); !fits(v.Snapshot()); changed = v.Changed() {
				select {
				case <-changed:
				case <-late:
					t.Fatalf("program %d does not see %s: %+v", i, what, v.Snapshot())
				}
			}
		}
	}
	await("that nothing is there", func(s *registry.Service) bool { return s.Revision > 0 && !s.Stale })
	m.kill()
	await("that etcd is gone", func(s *registry.Service) bool { return s.Stale })
	m.start()
	begin := time.Now()
	g, err := all[0].Register(t.Context(), registry.Node{Service: "watched", ID: "new", Address: "192.0.2.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	await("the new node", func(s *registry.Service) bool { return s.Node("new") != nil && !s.Stale })
	t.Logf("%d programs saw a new node %v after etcd's return", programs, time.Since(begin).Round(10*time.Millisecond))
}
