package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// startTimeout bounds how long a node may take to serve, or to answer after it was thawed.
const startTimeout = 15 * time.Second

// DefaultRestart is how long a node that died stays down.
const DefaultRestart = 5 * time.Second

var errClosed = errors.New("the demo is ending")

// All names every node in a FaultRequest.
const All = "all"

// FleetOptions configure a Fleet.
type FleetOptions struct {
	// Launcher starts the processes. Required.
	Launcher *Launcher
	// Args come after the Launcher's command; the node's name follows.
	Args []string
	// Config goes to every node with its StartRequest.
	Config any
	// Nodes are the nodes' names. Required.
	Nodes []string
	// Restart is how long a node that died stays down; 0 = DefaultRestart.
	Restart time.Duration
	// Logger is told what the nodes do; nil = nobody is.
	Logger *slog.Logger
}

// Fleet keeps the nodes of a service running and breaks them on request. It is safe for concurrent use.
type Fleet struct {
	o      FleetOptions
	nodes  []*node
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex // orders wg.Go before wg.Wait
	closed bool
	wg     sync.WaitGroup
}

// NewFleet starts the nodes, all at once, and returns when every one serves. If one cannot, none is left.
func NewFleet(ctx context.Context, o FleetOptions) (*Fleet, error) {
	if o.Launcher == nil || len(o.Nodes) == 0 {
		return nil, errors.New("supervise: a fleet needs a launcher and nodes")
	}
	if o.Restart == 0 {
		o.Restart = DefaultRestart
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Fleet{o: o}
	f.ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for _, id := range o.Nodes {
		f.nodes = append(f.nodes, &node{f: f, id: id, state: Down, addr: "127.0.0.1:0"})
	}
	err := f.each(f.nodes, func(n *node) error {
		n.op.Lock()
		defer n.op.Unlock()
		return n.start(ctx)
	})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Status returns what is known about every node, in the order of the options.
func (f *Fleet) Status() []NodeStatus {
	list := make([]NodeStatus, 0, len(f.nodes))
	for _, n := range f.nodes {
		list = append(list, n.status())
	}
	return list
}

// Inject does what r asks, to one node or to all.
func (f *Fleet) Inject(ctx context.Context, r FaultRequest) error {
	if err := r.Validate(); err != nil {
		return err
	}
	targets, err := f.find(r.Node)
	if err != nil {
		return err
	}
	err = errClosed
	f.background(func(closing context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(closing, cancel)()
		err = f.each(targets, func(n *node) error {
			n.op.Lock()
			defer n.op.Unlock()
			if r.Fault == Heal {
				return n.heal(ctx)
			}
			return n.inject(ctx, r)
		})
	})
	return err
}

func (f *Fleet) find(name string) ([]*node, error) {
	if name == All {
		return f.nodes, nil
	}
	var names []string
	for _, n := range f.nodes {
		if n.id == name {
			return []*node{n}, nil
		}
		names = append(names, n.id)
	}
	if name == "" {
		return nil, fmt.Errorf("node is missing: give one of %s, or all", strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("there is no node %q: give one of %s, or all", name, strings.Join(names, ", "))
}

// each does something to several nodes at once and returns all errors.
func (f *Fleet) each(nodes []*node, do func(*node) error) error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { errs[i] = do(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// background runs do on the calling goroutine, unless the Fleet is closed; Close waits for it.
func (f *Fleet) background(do func(context.Context)) {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return
	}
	f.wg.Add(1)
	f.mu.Unlock()
	defer f.wg.Done()
	do(f.ctx)
}

// answer is what nodes get that ask the Fleet something.
func (f *Fleet) answer(_ context.Context, op string, _ json.RawMessage) (any, error) {
	return nil, fmt.Errorf("a node asks for %q: there is nothing to ask for", op)
}

// Close ends every node, frozen ones too, and waits until nothing is left of them.
func (f *Fleet) Close() error {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.cancel()
	err := f.each(f.nodes, (*node).stop)
	f.wg.Wait()
	return err
}
