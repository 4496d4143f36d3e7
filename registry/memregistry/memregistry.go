// Package memregistry is a registry inside one process, for tests and simulations. One Engine is shared by any number
// of registry.Registry values, as etcd is shared by processes, and it falls ill on demand: down, silent, empty, slow,
// forgetful. It starts no goroutine, so it lives in testing/synctest bubbles.
package memregistry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/hull-go/hull/registry"
)

// ErrDown is what every request fails with while the engine is down.
var ErrDown = errors.New("memregistry: the engine is down")

// Engine is a registry in memory. It is a registry.Driver and a registry.Announcer. Leases expire by their TTL, also
// while the engine is down: when it comes back, nodes that could not renew are missing, as after a long outage of a
// real one.
type Engine struct {
	mu       sync.Mutex
	records  map[key]*record
	watchers map[*watcher]struct{}
	down     bool
	silent   bool
	empty    bool
	slow     time.Duration
	requests Requests
}

// Requests counts what an engine was asked.
type Requests struct{ List, Watch, Announce, Renew, Update, Close int }

type key struct{ service, id string }

type record struct {
	node  *registry.Node
	timer *time.Timer // expires the lease; nil = planted by hand
}

type watcher struct {
	service string
	left    []registry.Departure
	changed chan struct{}
}

// New returns an empty, healthy engine.
func New() *Engine {
	return &Engine{records: map[key]*record{}, watchers: map[*watcher]struct{}{}}
}

// Parameters are the query parameters of a mem URL: none.
func Parameters() []registry.Parameter { return nil }

// FromURL returns a new engine for "mem://"; nothing else may be in the URL. An engine is shared by handing it around,
// so one from a URL is of use only within one program.
func FromURL(u *url.URL) (registry.Driver, error) {
	if u.Scheme != "mem" || u.Host != "" || u.Path != "" || u.Opaque != "" {
		return nil, errors.New("memregistry: the URL is \"mem://\" and nothing more")
	}
	if _, err := registry.CheckQuery(u, Parameters()); err != nil {
		return nil, fmt.Errorf("memregistry: %w", err)
	}
	return New(), nil
}

// SetDown makes every request and every watch fail with ErrDown until it is set to false.
func (e *Engine) SetDown(down bool) { e.fault(func() { e.down = down }) }

// SetSilent makes watches deliver nothing, without an error, as over a link that was cut without a word.
func (e *Engine) SetSilent(silent bool) { e.fault(func() { e.silent = silent }) }

// SetEmpty makes the engine answer that there are no nodes and no services; it keeps taking registrations.
func (e *Engine) SetEmpty(empty bool) { e.fault(func() { e.empty = empty }) }

// SetSlow delays each request and each answer of a watch by d.
func (e *Engine) SetSlow(d time.Duration) { e.fault(func() { e.slow = d }) }

// Expire ends the leases of nodes of a service as if they had run out; without ids, of all its nodes. Their owners
// find out at the next renewal.
func (e *Engine) Expire(service string, ids ...string) {
	e.fault(func() {
		for k := range e.records {
			if k.service == service && (len(ids) == 0 || slices.Contains(ids, k.id)) {
				e.remove(k, "")
			}
		}
	})
}

// Wipe forgets every node, as if the engine's disk had been lost.
func (e *Engine) Wipe() {
	e.fault(func() {
		for k := range e.records {
			e.remove(k, "")
		}
	})
}

// Put plants a node as it is, valid or not, that never expires. It replaces one of the same service and ID.
func (e *Engine) Put(n registry.Node) {
	e.fault(func() { e.put(n.Clone(), nil) })
}

// Remove takes a node away; with why not empty it left on purpose, otherwise it vanishes.
func (e *Engine) Remove(service, id, why string) {
	e.fault(func() { e.remove(key{service, id}, why) })
}

// Requests returns how often the engine has been asked, refused requests included.
func (e *Engine) Requests() Requests {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.requests
}

// List returns the names of the services that have nodes.
func (e *Engine) List(ctx context.Context) ([]string, error) {
	if err := e.request(ctx, func(r *Requests) { r.List++ }); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	names := map[string]struct{}{}
	for k := range e.records {
		if !e.empty {
			names[k.service] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// ChecksItself implements registry.SelfChecking: an engine in memory loses no news.
func (e *Engine) ChecksItself() {}

// IsSameMachine implements registry.SameMachine: the engine is this process's.
func (e *Engine) IsSameMachine() {}

// Watch follows a service.
func (e *Engine) Watch(ctx context.Context, service string, emit func(registry.Update)) error {
	if err := e.request(ctx, func(r *Requests) { r.Watch++ }); err != nil {
		return err
	}
	w := &watcher{service: service, changed: make(chan struct{}, 1)}
	e.mu.Lock()
	e.watchers[w] = struct{}{}
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.watchers, w)
		e.mu.Unlock()
	}()
	for {
		e.mu.Lock()
		down, silent, slow := e.down, e.silent, e.slow
		var up registry.Update
		if !silent && !down {
			up.Left, w.left = w.left, nil
			for k, r := range e.records {
				if k.service == service && !e.empty {
					up.Nodes = append(up.Nodes, r.node)
				}
			}
		}
		e.mu.Unlock()
		if down {
			return ErrDown
		}
		if err := wait(ctx, slow); err != nil {
			return err
		}
		if !silent {
			emit(up)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.changed:
		}
	}
}

// Announce registers a node for ttl. A living node of the same ID is ErrTaken.
func (e *Engine) Announce(ctx context.Context, n *registry.Node, ttl time.Duration) (registry.Lease, error) {
	if err := e.request(ctx, func(r *Requests) { r.Announce++ }); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	k := key{n.Service, n.ID}
	if r := e.records[k]; r != nil && r.timer != nil {
		return nil, fmt.Errorf("memregistry: %s of %s: %w", n.ID, n.Service, registry.ErrTaken)
	}
	l := &lease{e: e, k: k, ttl: ttl}
	l.timer = time.AfterFunc(ttl, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if r := e.records[k]; r != nil && r.timer == l.timer {
			e.remove(k, "")
		}
	})
	e.put(n, l.timer)
	return l, nil
}

// Deregister removes a node, whoever announced it.
func (e *Engine) Deregister(ctx context.Context, service, id string) error {
	if err := e.request(ctx, func(r *Requests) { r.Close++ }); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	k := key{service, id}
	if e.records[k] == nil {
		return registry.ErrUnknown
	}
	e.remove(k, "deregistered by hand")
	return nil
}

type lease struct {
	e     *Engine
	k     key
	ttl   time.Duration
	timer *time.Timer
}

func (l *lease) Renew(ctx context.Context) error {
	return l.change(ctx, func(r *Requests) { r.Renew++ }, func() {})
}

func (l *lease) Update(ctx context.Context, n *registry.Node) error {
	return l.change(ctx, func(r *Requests) { r.Update++ }, func() { l.e.put(n, l.timer) })
}

func (l *lease) Close(ctx context.Context) error {
	err := l.change(ctx, func(r *Requests) { r.Close++ }, func() { l.e.remove(l.k, "deregistered") })
	if errors.Is(err, registry.ErrLost) {
		return nil
	}
	return err
}

// change does something to the lease's record, if it is still there.
func (l *lease) change(ctx context.Context, count func(*Requests), do func()) error {
	if err := l.e.request(ctx, count); err != nil {
		return err
	}
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	r := l.e.records[l.k]
	if r == nil || r.timer != l.timer || !l.timer.Reset(l.ttl) {
		return registry.ErrLost
	}
	do()
	return nil
}

// request counts a request, waits if the engine is slow, and fails if it is down.
func (e *Engine) request(ctx context.Context, count func(*Requests)) error {
	e.mu.Lock()
	count(&e.requests)
	slow := e.slow
	e.mu.Unlock()
	if err := wait(ctx, slow); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down {
		return ErrDown
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fault changes the engine and wakes every watcher.
func (e *Engine) fault(change func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change()
	for w := range e.watchers {
		w.wake()
	}
}

func (e *Engine) put(n *registry.Node, timer *time.Timer) {
	k := key{n.Service, n.ID}
	if old := e.records[k]; old != nil && old.timer != nil && old.timer != timer {
		old.timer.Stop()
	}
	e.records[k] = &record{node: n, timer: timer}
	e.tell(k, "")
}

// remove takes a record away; why = "" means that it vanishes.
func (e *Engine) remove(k key, why string) {
	if r := e.records[k]; r != nil {
		if r.timer != nil {
			r.timer.Stop()
		}
		delete(e.records, k)
		e.tell(k, why)
	}
}

// tell wakes the watchers of a node's service.
func (e *Engine) tell(k key, left string) {
	for w := range e.watchers {
		if w.service == k.service {
			if left != "" {
				w.left = append(w.left, registry.Departure{ID: k.id, Why: left})
			}
			w.wake()
		}
	}
}

func (w *watcher) wake() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}
