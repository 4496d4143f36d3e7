package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/demo/board"
	"github.com/hull-go/hull/demo/faults"
	"github.com/hull-go/hull/demo/store"
	"github.com/hull-go/hull/demo/supervise"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/fileregistry"
)

// hold is how long a node keeps off the shared file's lock before it is frozen.
const hold = 500 * time.Millisecond

// Config is what every node of the board is told at its start.
type Config struct {
	// DB is the message file, Registry the directory in which the nodes announce themselves.
	DB       string `json:"db"`
	Registry string `json:"registry"`
	// WorkMillis is how long a call takes beside the database.
	WorkMillis int `json:"workMillis"`
	// Keep is how many messages of the built-in load are kept per room; 0 = all.
	Keep int `json:"keep,omitempty"`
}

// Run is the life of a node: it serves when it is told to over in, says so over out, and ends, without leave-taking, when in
// ends.
func Run(ctx context.Context, in io.Reader, out io.Writer, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n := &node{ctx: ctx, log: log, failed: make(chan error, 1)}
	link := supervise.NewLink(in, out, n.handle)
	parted := make(chan error, 1)
	go func() { parted <- link.Run(ctx) }()
	var err error
	select {
	case err = <-parted:
	case err = <-n.failed:
	}
	cancel()
	n.wg.Wait()
	if n.store != nil {
		err = errors.Join(err, n.store.Close())
	}
	return err
}

// node is the process of a node.
type node struct {
	ctx    context.Context
	log    *slog.Logger
	failed chan error
	wg     sync.WaitGroup

	mu     sync.Mutex
	store  *store.Store // nil before the start
	faults *faults.Set
}

// handle does what the supervisor says.
func (n *node) handle(ctx context.Context, op string, arg json.RawMessage) (any, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if op == supervise.OpStart {
		var r struct {
			supervise.StartRequest
			Config Config `json:"config"`
		}
		if err := json.Unmarshal(arg, &r); err != nil {
			return nil, err
		}
		return n.start(ctx, r.Node, r.Addr, r.Config)
	}
	if n.store == nil {
		return nil, errors.New("the node has not been started")
	}
	switch op {
	case supervise.OpFault:
		var r supervise.FaultRequest
		if err := json.Unmarshal(arg, &r); err != nil {
			return nil, err
		}
		return nil, n.faults.Add(r.Fault, r.Setting)
	case supervise.OpHeal:
		return nil, n.faults.Heal(ctx)
	case supervise.OpHold:
		return nil, n.store.Hold(ctx, hold)
	}
	return nil, fmt.Errorf("a node does not know how to %q", op)
}

// start serves and returns when callers can find the node. n.mu is held.
func (n *node) start(ctx context.Context, id, addr string, c Config) (*supervise.StartReply, error) {
	if n.store != nil {
		return nil, errors.New("the node has been started already")
	}
	l, err := faults.Listen(ctx, addr)
	if err != nil {
		return nil, err
	}
	driver, err := fileregistry.New(fileregistry.Options{Dir: c.Registry, Logger: n.log})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	reg, err := registry.New(driver, registry.Options{Logger: n.log})
	if err != nil {
		return nil, errors.Join(err, driver.Close(), l.Close())
	}
	st, err := store.Open(ctx, c.DB, 0)
	if err != nil {
		return nil, errors.Join(err, reg.Close(), l.Close())
	}
	s := &service{node: id, store: st, faults: faults.NewSet(l), work: time.Duration(c.WorkMillis) * time.Millisecond}
	srv, err := hull.NewServer(board.Service, hull.WithRegistry(reg), hull.NodeID(id), hull.Listener(l),
		hull.HTTP(s.handler()), hull.WithLogger(n.log), hull.Drain(0, 100*time.Millisecond))
	if err != nil {
		return nil, errors.Join(err, st.Close(), reg.Close(), l.Close())
	}
	s.register(srv)
	n.store, n.faults = st, s.faults
	n.wg.Go(func() {
		err := srv.Run(n.ctx)
		n.failed <- errors.Join(err, reg.Close())
	})
	if c.Keep > 0 {
		n.wg.Go(func() { n.tidy(c.Keep) })
	}
	select {
	case <-srv.Ready():
		return &supervise.StartReply{Addr: srv.Addr()}, nil
	case err := <-n.failed:
		n.failed <- err
		return nil, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// tidy keeps the rooms of the built-in load short.
func (n *node) tidy(keep int) {
	t := time.NewTicker(30 * time.Second)
	defer t.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-t.C:
		}
		for _, room := range []string{board.LoadProtected, board.LoadUnprotected} {
			if err := n.store.Prune(n.ctx, room, keep); err != nil && n.ctx.Err() == nil {
				n.log.Warn("the load's messages cannot be pruned", "room", room, "error", err)
			}
		}
	}
}
