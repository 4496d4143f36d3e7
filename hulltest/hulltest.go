// Package hulltest is a world for tests of services: real clients, servers and policies over an in-memory network and
// registry, with faults at hand. Inside a testing/synctest bubble time is virtual, and a test of ten minutes of trouble
// takes a moment:
//
//	synctest.Test(t, func(t *testing.T) {
//		w := hulltest.New(t)
//		for _, name := range []string{"a", "b", "c"} {
//			w.Serve("greeter", name, func(s *hull.Server) { hull.Handle(s, "greeter.Greeter/Hello", hello, hull.Idempotent()) })
//		}
//		client := w.Client("caller")
//		w.Node("a").Freeze()
//		…
//	})
//
// Everything that a World made is stopped when the test ends.
package hulltest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
	"github.com/hull-go/hull/transport/memnet"
	"github.com/hull-go/hull/transport/muxtransport"
)

// World is a network, a registry, and what runs on them. It is safe for concurrent use.
type World struct {
	t testing.TB
	// Network is what the hosts are connected by; plant faults of links here.
	Network *memnet.Network
	// Registry is the engine that services are found through; plant its faults here.
	Registry *memregistry.Engine

	mu    sync.Mutex
	seed  uint64
	nodes map[string]*Node
}

// New returns an empty world. The seed of its randomness is logged.
func New(t testing.TB) *World {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("hulltest: seed %d", seed)
	w := &World{t: t, Network: memnet.New(memnet.Options{Seed: seed}), Registry: memregistry.New(), seed: seed, nodes: map[string]*Node{}}
	t.Cleanup(func() { _ = w.Network.Close() })
	return w
}

// Node is one running instance of a service, on a host of its own.
type Node struct {
	// Host is the node's place in the network.
	Host *memnet.Host
	// Server is what runs there now.
	Server *hull.Server

	w       *World
	service string
	name    string
	build   func(*hull.Server)
	opts    []hull.ServerOption
	link    *link
	stop    context.CancelFunc
	done    chan struct{}
	err     error
}

// Serve starts a node of a service on a host of that name and waits until it is registered. build adds the methods.
func (w *World) Serve(service, name string, build func(*hull.Server), opts ...hull.ServerOption) *Node {
	w.t.Helper()
	n := &Node{w: w, service: service, name: name, build: build, opts: opts, Host: w.Network.Host(name)}
	w.mu.Lock()
	if w.nodes[name] != nil {
		w.mu.Unlock()
		w.t.Fatalf("hulltest: a node %q is there already", name)
	}
	w.nodes[name] = n
	w.mu.Unlock()
	n.start()
	w.t.Cleanup(n.Stop)
	return n
}

// Node returns the node of that name; the test fails if there is none.
func (w *World) Node(name string) *Node {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.nodes[name]
	if n == nil {
		w.t.Fatalf("hulltest: there is no node %q", name)
	}
	return n
}

// Client returns a client on a host of that name.
func (w *World) Client(name string, opts ...hull.ClientOption) *hull.Client {
	w.t.Helper()
	c, _ := w.client(name, opts)
	return c
}

func (w *World) client(name string, opts []hull.ClientOption) (*hull.Client, *link) {
	host := w.Network.Host(name)
	l := &link{Engine: w.Registry}
	reg := w.registry(l)
	d, err := muxtransport.NewDialer(muxtransport.Options{Dial: host.Dial})
	if err != nil {
		w.t.Fatalf("hulltest: %v", err)
	}
	c, err := hull.NewClient(append([]hull.ClientOption{hull.WithRegistry(reg), hull.WithDialer(d)}, opts...)...)
	if err != nil {
		w.t.Fatalf("hulltest: %v", err)
	}
	w.t.Cleanup(func() {
		if err := errors.Join(c.Close(), reg.Close()); err != nil {
			w.t.Errorf("hulltest: closing the client on %s: %v", name, err)
		}
	})
	return c, l
}

func (w *World) registry(l *link) *registry.Registry {
	w.mu.Lock()
	w.seed++
	seed := w.seed
	w.mu.Unlock()
	reg, err := registry.New(l, registry.Options{Rand: rand.NewPCG(seed, 0)})
	if err != nil {
		w.t.Fatalf("hulltest: %v", err)
	}
	return reg
}

func (n *Node) start() {
	n.w.t.Helper()
	ln, err := n.Host.Listen(n.name + ":80")
	if err != nil {
		n.w.t.Fatalf("hulltest: %v", err)
	}
	n.link = &link{Engine: n.w.Registry}
	reg := n.w.registry(n.link)
	opts := append([]hull.ServerOption{hull.WithRegistry(reg), hull.Listener(ln), hull.NodeID(n.name), hull.WithSignals(calm)}, n.opts...)
	srv, err := hull.NewServer(n.service, opts...)
	if err != nil {
		n.w.t.Fatalf("hulltest: %v", err)
	}
	n.build(srv)
	ctx, stop := context.WithCancel(context.Background())
	n.Server, n.stop, n.done, n.err = srv, stop, make(chan struct{}), nil
	done := n.done
	go func() {
		defer close(done)
		err := srv.Run(ctx)
		n.err = errors.Join(err, reg.Close())
	}()
	select {
	case <-srv.Ready():
	case <-done:
		n.w.t.Fatalf("hulltest: node %s: %v", n.name, n.err)
	}
}

// calm is what nodes are told of their machine: the one that runs the test may be busy with other things.
func calm() hull.Signals { return hull.Signals{} }

// Stop ends the node as SIGTERM does: it drains. It returns when the node is gone. A node that was killed is gone already.
func (n *Node) Stop() {
	n.Host.Thaw()
	n.stop()
	<-n.done
}

// Err returns how the node's Run ended, once it is stopped or killed.
func (n *Node) Err() error { return n.err }

// Kill ends the node as SIGKILL does: connections break, nobody deregisters, the lease runs out in its own time.
func (n *Node) Kill() {
	n.link.cut(true)
	n.Host.Kill()
	n.stop()
}

// Restart starts the node anew, after a Kill or a Stop.
func (n *Node) Restart() {
	n.w.t.Helper()
	n.stop()
	<-n.done
	n.w.Registry.Expire(n.service, n.name)
	n.start()
}

// Freeze stops the node as SIGSTOP does: it neither reads nor answers, and does not renew its lease. Its peers' systems
// notice nothing.
func (n *Node) Freeze() {
	n.link.cut(true)
	n.Host.Freeze()
}

// Thaw ends a Freeze.
func (n *Node) Thaw() {
	n.link.cut(false)
	n.Host.Thaw()
}

// Slow delays everything that the node sends by d; 0 ends it.
func (n *Node) Slow(d time.Duration) { n.w.Network.Link(n.name, memnet.Any).Delay(d, 0) }

// Cut drops everything that goes to and from the node, without a word; false ends it.
func (n *Node) Cut(on bool) { n.w.Network.Pair(n.name, memnet.Any).Drop(on) }

// link is one program's way to the engine, which can be cut.
type link struct {
	*memregistry.Engine
	mu   sync.Mutex
	down bool
}

var errCut = errors.New("hulltest: the node is frozen or dead")

func (l *link) cut(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
}

func (l *link) check() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return errCut
	}
	return nil
}

// Announce implements registry.Announcer.
func (l *link) Announce(ctx context.Context, n *registry.Node, ttl time.Duration) (registry.Lease, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	lease, err := l.Engine.Announce(ctx, n, ttl)
	if err != nil {
		return nil, fmt.Errorf("hulltest: %w", err)
	}
	return &cutLease{lease, l}, nil
}

// cutLease is a lease that cannot be renewed, changed or given back while its link is cut.
type cutLease struct {
	registry.Lease
	l *link
}

func (c *cutLease) Renew(ctx context.Context) error {
	if err := c.l.check(); err != nil {
		return err
	}
	return c.Lease.Renew(ctx)
}

func (c *cutLease) Update(ctx context.Context, n *registry.Node) error {
	if err := c.l.check(); err != nil {
		return err
	}
	return c.Lease.Update(ctx, n)
}

func (c *cutLease) Close(ctx context.Context) error {
	if err := c.l.check(); err != nil {
		return err
	}
	return c.Lease.Close(ctx)
}
