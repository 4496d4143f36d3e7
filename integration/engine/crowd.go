package engine

import (
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/registry"
)

// crowd is for measuring: the suite is the same for any number.
var crowd = flag.Int("crowd", 0, "how many programs reconnect at once in TestManyReconnect; 0 = as many as the engine's test says")

// Crowd has many programs, each with a node and a watch, outlive a restart of the engine that takes all of them at once.
func Crowd(t *testing.T, s Subject, programs int) {
	t.Helper()
	if *crowd > 0 {
		programs = *crowd
	}
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
	began := time.Now()
	for i := range all {
		r, err := registry.New(s.driver(t), registry.Options{})
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
			until(t, v, fmt.Sprintf("%s, by program %d", what, i), fits)
		}
	}
	await("that nothing is there", func(s *registry.Service) bool { return s.Revision > 0 && !s.Stale })
	t.Logf("%d programs took %v to start", programs, time.Since(began).Round(10*time.Millisecond))
	s.Kill()
	await("that the engine is gone", func(s *registry.Service) bool { return s.Stale })
	s.Start()
	began = time.Now()
	g, err := all[0].Register(t.Context(), registry.Node{Service: "watched", ID: "new", Address: "192.0.2.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	await("the new node", func(s *registry.Service) bool { return s.Node("new") != nil && !s.Stale })
	t.Logf("%d programs saw a new node %v after the engine's return", programs, time.Since(began).Round(10*time.Millisecond))
}
