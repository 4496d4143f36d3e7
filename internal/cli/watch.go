package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/registry"
)

// relist is how often "hull watch" without a service looks for new ones.
const relist = time.Second

// Events of a watch.
const (
	eventPresent  = "present" // was there when the watch began
	eventJoined   = "joined"
	eventLeft     = "left"
	eventDraining = "draining"
	eventReady    = "ready"
	eventDoubtful = "doubtful"
	eventReturned = "returned"
	eventChanged  = "changed"
	eventStale    = "stale"
	eventFresh    = "fresh"
)

// eventView is a change as "hull watch" prints it.
type eventView struct {
	Time    time.Time `json:"time" doc:"when it was seen here"`
	Service string    `json:"service" doc:"the name in discovery"`
	Event   string    `json:"event" doc:"present (there when the watch began), joined, left, draining, ready (no longer draining), doubtful (no longer listed, but that is not believed yet), returned (listed again), changed, stale (the registry does not answer), fresh (it does again)"`
	Node    *nodeView `json:"node,omitempty" doc:"the node, as it is now or was last; not with stale and fresh"`
	Why     string    `json:"why,omitempty" doc:"why the service is stale or the node doubtful"`
}

// watch is "hull watch".
func (p *program) watch() *cobra.Command {
	return &cobra.Command{
		Use:   "watch [SERVICE]",
		Short: "Print each change of a service, or of all, until interrupted",
		Long: `Print one line for each change of a service, or of all services, until interrupted:
first the nodes that are there, then who joins, leaves, drains, is doubted or returns.
With -o json each change is one JSON object on a line of its own.`,
		Example:           "hull watch\nhull watch greeter -o json",
		Args:              p.arguments(0, "SERVICE"),
		ValidArgsFunction: p.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			sel, err := selectorOf(cmd)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				if err := registry.ValidName("service", args[0]); err != nil {
					return usagef("%v", err)
				}
			}
			r, err := p.openRegistry(cmd, nil)
			if err != nil {
				return err
			}
			defer r.Close()
			w := &watcher{p: p, r: r, sel: sel, asJSON: p.wantsJSON(cmd), timeout: durationOf(cmd, setTimeout)}
			ctx, cancel := context.WithCancelCause(cmd.Context())
			defer cancel(nil)
			w.stop = cancel
			if len(args) == 1 {
				w.one(ctx, args[0])
			} else {
				w.all(ctx)
			}
			w.wg.Wait()
			if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil // interrupted, which is how it ends
		},
	}
}

// watcher prints the changes of services.
type watcher struct {
	p       *program
	r       *registry.Registry
	sel     balance.Selector
	asJSON  bool
	timeout time.Duration
	stop    context.CancelCauseFunc // ends the watch with an error
	wg      sync.WaitGroup

	mu sync.Mutex // one line at a time
}

// one follows a service; if it is not there, the user is told once what was perhaps meant.
func (w *watcher) one(ctx context.Context, service string) {
	w.follow(ctx, service, eventPresent)
	w.wg.Go(func() {
		first, cancel := context.WithTimeout(ctx, w.timeout)
		defer cancel()
		if _, err := lookup(first, w.r, service); err != nil && ctx.Err() == nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.p.note("%s; waiting for it", plain(err.Error()))
		}
	})
}

// all follows every service, those that appear later too.
func (w *watcher) all(ctx context.Context) {
	seen := map[string]bool{}
	event := eventPresent
	failed := ""
	tick := time.NewTicker(relist)
	defer tick.Stop()
	for {
		list, err := names(ctx, w.r)
		if ctx.Err() != nil {
			return
		}
		problem := ""
		if err != nil {
			problem = err.Error()
		}
		if problem != failed && problem != "" {
			w.mu.Lock()
			w.p.note("%s; trying on", plain(problem))
			w.mu.Unlock()
		}
		failed = problem
		for _, name := range list {
			if !seen[name] {
				seen[name] = true
				w.follow(ctx, name, event)
			}
		}
		if err == nil {
			event = eventJoined
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// follow prints the changes of one service on a goroutine of its own. first is the event of the nodes seen first.
func (w *watcher) follow(ctx context.Context, service, first string) {
	w.wg.Go(func() {
		v := w.r.Open(service)
		defer v.Close()
		var before *registry.Service
		for {
			changed := v.Changed()
			now := v.Snapshot()
			if now.Revision > 0 || now.Stale {
				for _, e := range changes(before, now, first) {
					w.print(e)
				}
				before = now
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	})
}

// change is what happened between two snapshots.
type change struct {
	service, event, why string
	node                *registry.Node // nil: the whole service
}

// changes compares two snapshots of a service; before is nil at first. Changes of nodes are in the order of their names.
func changes(before, now *registry.Service, first string) []change {
	var nodes []change
	add := func(n *registry.Node, event, why string) {
		nodes = append(nodes, change{service: now.Name, event: event, why: why, node: n})
	}
	for _, n := range now.Nodes {
		var old *registry.Node
		if before != nil {
			old = before.Node(n.ID)
		}
		switch {
		case old == nil && before == nil:
			add(n, first, "")
		case old == nil:
			add(n, eventJoined, "")
		case n.Absent && !old.Absent:
			add(n, eventDoubtful, now.Why)
		case !n.Absent && old.Absent:
			add(n, eventReturned, "")
		case n.Draining && !old.Draining:
			add(n, eventDraining, "")
		case !n.Draining && old.Draining:
			add(n, eventReady, "")
		case !n.Equal(old):
			add(n, eventChanged, "")
		}
	}
	if before != nil {
		for _, old := range before.Nodes {
			if now.Node(old.ID) == nil {
				add(old, eventLeft, "")
			}
		}
	}
	slices.SortFunc(nodes, func(a, b change) int { return cmp.Compare(a.node.ID, b.node.ID) })

	wasStale := before != nil && before.Stale
	switch {
	case now.Stale && !wasStale:
		return append([]change{{service: now.Name, event: eventStale, why: now.Why}}, nodes...)
	case !now.Stale && wasStale:
		return append(nodes, change{service: now.Name, event: eventFresh})
	}
	return nodes
}

// print writes a change, unless it is about a node that was not asked for.
func (w *watcher) print(c change) {
	if c.node != nil && !w.sel.Match(c.node) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	var err error
	if w.asJSON {
		v := eventView{Time: now, Service: c.service, Event: c.event, Why: c.why}
		if c.node != nil {
			n := viewNode(c.node)
			v.Node = &n
		}
		enc := json.NewEncoder(w.p.Stdout)
		enc.SetEscapeHTML(false)
		err = enc.Encode(v)
	} else {
		_, err = fmt.Fprintln(w.p.Stdout, w.line(now, c))
	}
	if err != nil {
		w.stop(err) // nobody reads any more
	}
}

func (w *watcher) line(now time.Time, c change) string {
	event := fmt.Sprintf("%-9s", c.event)
	if w.p.colours() {
		event = colourOf(c.event).wrap(event)
	}
	parts := []string{c.service}
	if c.node != nil {
		parts = append(parts, c.node.ID, c.node.Address)
		if c.node.Version != "" {
			parts = append(parts, "version="+c.node.Version)
		}
		if l := labelsText(c.node.Labels); l != "" {
			parts = append(parts, l)
		}
	}
	if c.why != "" {
		parts = append(parts, "("+c.why+")")
	}
	return now.Format("15:04:05.000") + "  " + event + "  " + plainLine(strings.Join(parts, "  "))
}
