package engine

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/hull-go/hull/registry"
)

// Detect measures how long the engine by itself takes to find out that a node was killed, and that one is frozen.
func Detect(t *testing.T, s Subject) {
	t.Helper()
	d := s.driver(t)
	ctx, cancel := context.WithCancel(t.Context())
	updates := make(chan registry.Update, 1000)
	ended := make(chan error, 1)
	go func() { ended <- d.Watch(ctx, service, func(up registry.Update) { updates <- up }) }()
	t.Cleanup(func() {
		cancel()
		t.Log("the watch ended:", <-ended)
		if c, ok := d.(io.Closer); ok {
			_ = c.Close()
		}
	})
	await := func(nodes int) {
		t.Helper()
		late := time.NewTimer(patience)
		defer late.Stop()
		for {
			select {
			case up := <-updates:
				if len(up.Left) > 0 {
					t.Errorf("a node that cannot have said so left on purpose: %v", up.Left)
				}
				if len(up.Nodes) == nodes {
					return
				}
			case err := <-ended:
				ended <- err
				t.Fatalf("the watch ended: %v", err)
			case <-late.C:
				t.Fatalf("%d nodes: not seen", nodes)
			}
		}
	}
	since := func(began time.Time) time.Duration { return time.Since(began).Round(10 * time.Millisecond) }

	p, _ := s.program(t, "a", "127.0.0.1:0")
	await(1)
	began := time.Now()
	p.Kill()
	await(0)
	t.Logf("a node that was killed was gone after %v, with a TTL of %v", since(began), s.TTL)
	p, _ = s.program(t, "b", "127.0.0.1:0")
	await(1)
	began = time.Now()
	p.Freeze()
	await(0)
	t.Logf("a node that was frozen was gone after %v, with a TTL of %v", since(began), s.TTL)
	began = time.Now()
	p.Thaw()
	await(1)
	t.Logf("and was back %v after it was thawed", since(began))
}
