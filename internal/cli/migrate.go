package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/hull-go/hull/registry"
)

// What happens to a node that is migrated.
const (
	migrateCopied  = "copied"
	migrateUpdated = "updated"
	migrateRemoved = "removed"
	migrateMoved   = "moved"
	migrateFailed  = "failed"
)

// migratedView is an event as "hull migrate" prints it.
type migratedView struct {
	Time    time.Time `json:"time" doc:"when it was done"`
	Service string    `json:"service" doc:"the name in discovery"`
	ID      string    `json:"id" doc:"the node's own name"`
	Event   string    `json:"event" doc:"copied, updated, removed (it left the old registry), moved (it announces itself in the new one), failed (it is tried again)"`
	Why     string    `json:"why,omitempty" doc:"why it failed"`
}

// migrate is "hull migrate".
func (p *program) migrate() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate URL",
		Short: "Copy nodes to another registry, and keep them there",
		Long: `Copy the nodes of all services, or of those named by --service, to the registry at URL, and
keep the copies as the originals are until interrupted, which removes them. So a fleet can
change its registry program by program: start migrate from the old to the new and another
from the new to the old, restart the programs with the new URL, and end both. A node that
announces itself in the new registry is left alone there.`,
		Example: "hull migrate etcd://etcd-1,etcd-2,etcd-3 --registry consul://consul\nhull migrate nats://nats --service greeter",
		Args:    p.arguments(1, "URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			only := listOf(cmd, setService)
			for _, s := range only {
				if err := registry.ValidName("service", s); err != nil {
					return usagef("%v", err)
				}
			}
			from, err := p.openRegistry(cmd, p.warnings())
			if err != nil {
				return err
			}
			defer from.Close()
			to, err := p.openRegistryAt(cmd, args[0], nil)
			if err != nil {
				return err
			}
			defer to.Close()
			m := &mirror{p: p, from: from, to: to, asJSON: p.wantsJSON(cmd), followed: map[string]bool{}}
			return m.run(cmd.Context(), only, durationOf(cmd, setTimeout))
		},
	}
}

// mirror keeps copies of nodes in another registry.
type mirror struct {
	p        *program
	from, to *registry.Registry
	asJSON   bool
	followed map[string]bool

	mu sync.Mutex // one line at a time
}

// run copies until ctx ends; a registry that cannot be read at first is an error.
func (m *mirror) run(ctx context.Context, only []string, timeout time.Duration) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(relist)
	defer tick.Stop()
	for first := true; ; first = false {
		services := only
		if len(only) == 0 {
			ask, done := context.WithTimeout(ctx, timeout)
			all, err := names(ask, m.from)
			done()
			if err != nil && first && ctx.Err() == nil {
				return err
			}
			services = all // none while the registry does not answer: what is followed goes on
		}
		for _, s := range services {
			if !m.followed[s] {
				m.followed[s] = true
				wg.Go(func() {
					if err := m.follow(ctx, s); err != nil {
						cancel(err)
					}
				})
			}
		}
		select {
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil // interrupted, which is how it ends
		case <-tick.C:
		}
	}
}

// copied is a node in the new registry that is there because of us; with g nil it is there by itself.
type copied struct {
	node *registry.Node
	g    *registry.Registration
}

// follow keeps copies of one service's nodes.
func (m *mirror) follow(ctx context.Context, service string) error {
	v := m.from.Open(service)
	defer v.Close()
	copies := map[string]*copied{}
	defer func() {
		for id, c := range copies {
			m.drop(service, id, c)
		}
	}()
	tick := time.NewTicker(relist) // what failed is looked at again
	defer tick.Stop()
	for {
		changed := v.Changed()
		s := v.Snapshot()
		for _, n := range s.Nodes {
			if n.Absent || ctx.Err() != nil {
				continue
			}
			if err := m.copy(ctx, copies, n); err != nil {
				return err
			}
		}
		for id, c := range copies {
			if s.Node(id) == nil {
				m.drop(service, id, c)
				delete(copies, id)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
		}
	}
}

// copy makes the new registry have n.
func (m *mirror) copy(ctx context.Context, copies map[string]*copied, n *registry.Node) error {
	c := copies[n.ID]
	if c == nil {
		g, err := m.to.Register(ctx, *n)
		if err != nil {
			return usagef("%v", err) // it can never work
		}
		copies[n.ID] = &copied{node: n, g: g}
		err = g.Err()
		switch {
		case errors.Is(err, registry.ErrTaken):
			m.yield(copies[n.ID], n)
		case err != nil:
			m.say(n.Service, n.ID, migrateFailed, err)
		default:
			m.say(n.Service, n.ID, migrateCopied, nil)
		}
		return nil
	}
	if c.g != nil && errors.Is(c.g.Err(), registry.ErrTaken) {
		m.yield(c, n)
	}
	if c.g == nil || c.node.Equal(n) {
		return nil
	}
	c.node = n
	if err := c.g.Update(ctx, func(o *registry.Node) { *o = *n.Clone() }); err == nil {
		m.say(n.Service, n.ID, migrateUpdated, nil)
	} else if ctx.Err() == nil {
		m.say(n.Service, n.ID, migrateFailed, err)
	}
	return nil
}

// yield gives a copy up because the node announces itself.
func (m *mirror) yield(c *copied, n *registry.Node) {
	m.close(c)
	c.g = nil
	m.say(n.Service, n.ID, migrateMoved, nil)
}

// drop removes a copy.
func (m *mirror) drop(service, id string, c *copied) {
	if c.g != nil {
		m.close(c)
		m.say(service, id, migrateRemoved, nil)
	}
}

func (m *mirror) close(c *copied) {
	ctx, cancel := context.WithTimeout(context.Background(), deregisterTimeout)
	defer cancel()
	_ = c.g.Close(ctx) // what is not deregistered expires
}

func (m *mirror) say(service, id, event string, why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := migratedView{Time: time.Now(), Service: service, ID: id, Event: event}
	if why != nil {
		v.Why = why.Error()
	}
	if m.asJSON {
		_ = json.NewEncoder(m.p.Stdout).Encode(v) // nobody is left to tell
		return
	}
	line := fmt.Sprintf("%s  %-8s  %s  %s", v.Time.Format("15:04:05.000"), event, service, id)
	if v.Why != "" {
		line += "  " + v.Why
	}
	fmt.Fprintln(m.p.Stdout, plainLine(line))
}
