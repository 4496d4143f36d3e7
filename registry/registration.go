package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Registration keeps one node registered until it is closed. It is safe for concurrent use.
type Registration struct {
	r    *Registry
	a    Announcer
	kick chan struct{}
	done chan struct{} // closed when the goroutine has ended

	mu        sync.Mutex
	want      *Node
	withdrawn bool
	closing   context.Context // the context of Close, once it has been called
	gen       uint64          // counts what was asked for
	settled   uint64          // the last gen that was tried
	err       error           // how that went
	progress  chan struct{}   // closed at each try
	cancelOp  context.CancelFunc
}

// Register announces a node and keeps it announced: it renews at the interval, announces again after a loss, and goes
// on trying while the engine is down. An empty ID is replaced by a random one, a zero Started by now.
//
// Register waits for the first try, but its failure is not an error: a service starts while the registry is down. Err
// tells how it went. An error means that it can never work: the driver is no Announcer, or the node is not valid.
func (r *Registry) Register(ctx context.Context, n Node) (*Registration, error) {
	a, ok := r.driver.(Announcer)
	if !ok {
		return nil, fmt.Errorf("cannot register %q: %w", n.Service, ErrReadOnly)
	}
	want := n.Clone()
	want.Absent = false
	if want.ID == "" {
		want.ID = r.newID()
	}
	if want.Started.IsZero() {
		want.Started = time.Now()
	}
	want.Started = want.Started.Round(0)
	if err := cmp.Or(want.Validate(), mayName(r.driver, want)); err != nil {
		return nil, fmt.Errorf("cannot register %q: %w", n.Service, err)
	}
	g := &Registration{r: r, a: a, want: want, kick: make(chan struct{}, 1), done: make(chan struct{}), gen: 1, progress: make(chan struct{})}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, fmt.Errorf("cannot register %q: the registry is %w", n.Service, ErrClosed)
	}
	r.registrations[g] = struct{}{}
	r.wg.Go(g.run)
	r.mu.Unlock()
	_ = g.settle(ctx, 1)
	return g, nil
}

// Node returns what is, or will be, registered. Do not change it.
func (g *Registration) Node() *Node {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.want
}

// Err returns why the engine does not have the node as it should be, or nil.
func (g *Registration) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// Wait waits until the engine has what was asked for so far, or ctx ends.
func (g *Registration) Wait(ctx context.Context) error {
	for {
		g.mu.Lock()
		err, ready, progress := g.err, g.settled >= g.gen, g.progress
		g.mu.Unlock()
		if ready && err == nil {
			return nil
		}
		select {
		case <-progress:
		case <-g.done:
			return ErrClosed
		case <-ctx.Done():
			if err == nil {
				err = errors.New("the registry has not answered yet")
			}
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		}
	}
}

// Update changes what is registered, for instance Draining; ID and Service stay. It waits for the first try and
// returns its error; what failed is tried again until something else is asked for.
func (g *Registration) Update(ctx context.Context, change func(*Node)) error {
	g.mu.Lock()
	n := g.want.Clone()
	change(n)
	n.ID, n.Service, n.Absent = g.want.ID, g.want.Service, false
	if err := cmp.Or(n.Validate(), mayName(g.r.driver, n)); err != nil {
		g.mu.Unlock()
		return fmt.Errorf("cannot update %q: %w", n.Service, err)
	}
	g.want = n
	return g.ask(ctx)
}

// Withdraw deregisters the node for the time being, on purpose, for instance while it is unhealthy. Waiting and errors
// are as for Update.
func (g *Registration) Withdraw(ctx context.Context) error {
	g.mu.Lock()
	g.withdrawn = true
	return g.ask(ctx)
}

// Return undoes Withdraw. Waiting and errors are as for Update.
func (g *Registration) Return(ctx context.Context) error {
	g.mu.Lock()
	g.withdrawn = false
	return g.ask(ctx)
}

// Close deregisters the node and waits until that is done or ctx ends; in the second case the engine forgets it after
// the TTL. Closing twice is harmless.
func (g *Registration) Close(ctx context.Context) error {
	g.beginClose(ctx)
	<-g.done
	return g.Err()
}

func (g *Registration) beginClose(ctx context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing != nil {
		return
	}
	g.closing = ctx
	g.gen++
	if g.cancelOp != nil {
		g.cancelOp()
	}
	g.wake()
}

// ask has the goroutine try what is wanted now and waits for it; g.mu is held and given up.
func (g *Registration) ask(ctx context.Context) error {
	if g.closing != nil {
		g.mu.Unlock()
		return ErrClosed
	}
	g.gen++
	gen := g.gen
	g.mu.Unlock()
	g.wake()
	return g.settle(ctx, gen)
}

func (g *Registration) wake() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// settle waits until gen has been tried and returns how that went.
func (g *Registration) settle(ctx context.Context, gen uint64) error {
	for {
		g.mu.Lock()
		err, ready, progress := g.err, g.settled >= gen, g.progress
		g.mu.Unlock()
		if ready {
			return err
		}
		select {
		case <-progress:
		case <-g.done:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// run brings the engine to what is wanted, again and again.
func (g *Registration) run() {
	defer close(g.done)
	defer func() {
		g.r.mu.Lock()
		delete(g.r.registrations, g)
		g.r.mu.Unlock()
	}()
	var l held
	var heard <-chan struct{} // the loss that has been heard
	failures := 0
	for {
		g.mu.Lock()
		want, gen, closing, before := g.want, g.gen, g.closing, g.err
		if g.withdrawn || closing != nil {
			want = nil
		}
		parent := g.r.ctx
		if closing != nil {
			parent = closing
		}
		ctx, cancel := context.WithTimeout(parent, g.r.opTimeout())
		g.cancelOp = cancel
		g.mu.Unlock()

		err := l.reconcile(ctx, g.a, want, g.r.opt.TTL)
		cancel()

		g.mu.Lock()
		g.settled, g.err, g.cancelOp = gen, err, nil
		close(g.progress)
		g.progress = make(chan struct{})
		name := g.want.Service
		g.mu.Unlock()
		if closing != nil {
			return
		}
		pause := g.r.interval()
		if err != nil {
			pause = g.r.backoff(failures)
			failures++
		} else {
			failures = 0
		}
		switch {
		case err != nil && before == nil:
			g.r.opt.Logger.Warn("registry: cannot keep the node registered, trying on", "service", name, "error", err)
		case err == nil && before != nil:
			g.r.opt.Logger.Info("registry: the node is registered again", "service", name)
		}
		lost := l.lost()
		if err != nil || lost == heard {
			lost = nil // a loss is heard once; trying again without a pause would be a storm
		}
		if g.pause(pause, lost) {
			heard = lost
		}
	}
}

// pause waits until something is to be done, and reports whether that is a loss.
func (g *Registration) pause(d time.Duration, lost <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-g.kick:
	case <-lost:
		return true
	}
	return false
}

// held is what the engine has of us.
type held struct {
	lease Lease
	node  *Node
}

func (h *held) lost() <-chan struct{} {
	if l, ok := h.lease.(LossNotifier); ok {
		return l.Lost()
	}
	return nil
}

// reconcile makes the engine have want (nil = nothing), by the one request that takes; two after a loss.
func (h *held) reconcile(ctx context.Context, a Announcer, want *Node, ttl time.Duration) error {
	if want == nil {
		if h.lease == nil {
			return nil
		}
		err := h.lease.Close(ctx)
		if err == nil || errors.Is(err, ErrLost) {
			h.lease = nil
			return nil
		}
		return err
	}
	if h.lease != nil {
		var err error
		if h.node == want {
			err = h.lease.Renew(ctx)
		} else {
			err = h.lease.Update(ctx, want)
		}
		if err == nil {
			h.node = want
		}
		if !errors.Is(err, ErrLost) {
			return err
		}
		h.lease = nil
	}
	l, err := a.Announce(ctx, want, ttl)
	if err != nil {
		return err
	}
	h.lease, h.node = l, want
	return nil
}
