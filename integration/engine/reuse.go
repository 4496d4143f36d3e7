package engine

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"

	"github.com/hull-go/hull/registry"
)

// Reuse lets nodes die, killed with -9, and another service that has the same method listen at their addresses: when discovery has lost
// the node, while it is silent, and at once, when it is well and names the dead node until the TTL is over. None of 200 calls a second
// may fail, and none may get there.
func Reuse(t *testing.T, s Subject) {
	t.Helper()
	w := begin(t, s)
	w.serve("n0")
	w.serve("n1")
	const lost, silent, atOnce = "n2", "n3", "n4"
	nodes, addrs, strayed := map[string]*Process{}, map[string]string{}, map[string]*atomic.Int64{}
	for _, id := range []string{lost, silent, atOnce} {
		nodes[id], addrs[id] = s.program(t, id, net.JoinHostPort(Loopback(), "0"))
		strayed[id] = new(atomic.Int64)
	}
	for _, id := range []string{"n0", "n1", lost, silent, atOnce} {
		w.until(id)
	}
	end := w.load()
	take := func(id string) {
		w.serveAs("other", "taker-of-"+id, addrs[id], func() { strayed[id].Add(1) })
	}
	gone := func(id string) {
		t.Helper()
		until(t, w.view, "the end of "+id, func(s *registry.Service) bool { return s.Node(id) == nil })
	}
	nodes[lost].Kill()
	until(t, w.view, "that "+lost+" is lost", func(s *registry.Service) bool { n := s.Node(lost); return n == nil || n.Absent })
	take(lost)
	gone(lost)

	s.Freeze()
	until(t, w.view, "that the engine is silent", func(s *registry.Service) bool { return s.Stale })
	nodes[silent].Kill()
	take(silent)
	pass(s.TTL)
	s.Thaw()
	gone(silent)

	w.until(atOnce)
	nodes[atOnce].Kill()
	take(atOnce)
	gone(atOnce)
	others := w.client.Registry().Open("other")
	defer func() { _ = others.Close() }()
	for id := range nodes {
		until(t, others, "the taker of "+id, listed("taker-of-"+id))
	}
	end()
	for id, n := range strayed { // also of the one that discovery still named
		if n := n.Load(); n > 0 {
			t.Errorf("%d calls reached another service at the address of %s, which is dead", n, id)
		}
	}
}

// Loopback returns an address of this machine whose ports nobody else takes by chance.
func Loopback() string {
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
}
