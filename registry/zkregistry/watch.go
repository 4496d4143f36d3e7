package zkregistry

import (
	"context"
	"errors"
	"sync"

	"github.com/go-zookeeper/zk"

	"github.com/hull-go/hull/registry"
)

var errName = errors.New("a znode whose name is none of a node's")

// watching is one call of Watch.
type watching struct {
	d       *Driver
	link    *link
	service string
	roster  *registry.Roster
	known   map[string]stamp // what the roster was told of, nodes and others
	log     int32            // the version of the service's data that has been read; -1 = none
	news    chan struct{}    // a token: something has changed

	// Guarded by mu.
	mu      sync.Mutex
	relist  bool
	changed map[string]struct{}
}

// stamp tells one znode, and one state of it, from others of its name.
type stamp struct{ created, modified int64 }

// hear takes an event of the service, or of a znode below it. A znode that has been deleted is looked for in the list,
// together with why.
func (w *watching) hear(id string, e zk.EventType) {
	w.mu.Lock()
	if id == "" || e == zk.EventNodeDeleted {
		w.relist = true
	}
	if id != "" {
		w.changed[id] = struct{}{}
	}
	w.mu.Unlock()
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// Watch follows a service.
func (d *Driver) Watch(ctx context.Context, service string, emit func(registry.Update)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l, err := d.connect(ctx, 0)
	if err == nil {
		err = d.explain(l, d.watch(ctx, l, service, emit))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (d *Driver) watch(ctx context.Context, l *link, service string, emit func(registry.Update)) error {
	w := &watching{d: d, link: l, service: service, roster: registry.NewRoster(service), known: map[string]stamp{}, log: -1,
		news: make(chan struct{}, 1), relist: true, changed: map[string]struct{}{}}
	w.news <- struct{}{}
	l.mu.Lock()
	if l.watches[service] == nil {
		l.watches[service] = map[*watching]struct{}{}
	}
	l.watches[service][w] = struct{}{}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.watches[service], w)
		if len(l.watches[service]) == 0 {
			delete(l.watches, service)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.ctx.Done():
			return context.Cause(l.ctx)
		case <-w.news:
		}
		if err := w.look(ctx); err != nil {
			return err
		}
		if w.roster.Changed() {
			emit(w.roster.Update())
		}
	}
}

// look brings the roster up to date.
func (w *watching) look(ctx context.Context) error {
	w.mu.Lock()
	relist, changed := w.relist, w.changed
	w.relist, w.changed = false, map[string]struct{}{}
	w.mu.Unlock()
	if relist {
		names, version, err := w.names(ctx)
		if err != nil {
			return err
		}
		if err := w.departures(ctx, version); err != nil {
			return err
		}
		listed := make(map[string]struct{}, len(names))
		for _, name := range names {
			listed[name] = struct{}{}
			if _, known := w.known[name]; known {
				continue
			}
			if registry.ValidName("node id", name) != nil {
				w.known[name] = stamp{}
				w.roster.Refuse(name, errName)
				continue
			}
			changed[name] = struct{}{}
		}
		for name := range w.known {
			if _, there := listed[name]; !there {
				delete(w.known, name)
				w.roster.Remove(name)
			}
		}
	}
	return w.fetch(ctx, changed)
}

// names asks for the names below the service, and to be told when they change.
func (w *watching) names(ctx context.Context) (names []string, version int32, err error) {
	type list struct {
		names []string
		stat  *zk.Stat
	}
	path := w.d.servicePath(w.service)
	for {
		got, err := read(ctx, w.link, func(c *zk.Conn) (list, error) {
			names, stat, _, err := c.ChildrenW(path)
			return list{names, stat}, err
		})
		if err == nil {
			return got.names, got.stat.Version, nil
		}
		if !errors.Is(err, zk.ErrNoNode) {
			return nil, 0, err
		}
		exists, err := read(ctx, w.link, func(c *zk.Conn) (bool, error) {
			exists, _, _, err := c.ExistsW(path)
			return exists, err
		})
		if err != nil || !exists {
			return nil, -1, err
		}
	}
}

// departures reads which nodes have left on purpose, if there is something new.
func (w *watching) departures(ctx context.Context, version int32) error {
	if version < 0 || version == w.log {
		w.log = version
		return nil
	}
	if w.log < 0 && len(w.known) == 0 { // nobody is known who could have left
		w.log = version
		return nil
	}
	got, err := read(ctx, w.link, func(c *zk.Conn) (data, error) {
		b, stat, err := c.Get(w.d.servicePath(w.service))
		return data{b, stat}, err
	})
	if errors.Is(err, zk.ErrNoNode) {
		return nil // the list will say so
	}
	if err != nil {
		return err
	}
	w.log = got.stat.Version
	for _, e := range decodeLog(got.value) {
		if k, known := w.known[e.ID]; known && k.created == e.Created {
			delete(w.known, e.ID)
			w.roster.Leave(e.ID, e.Why)
		}
	}
	return nil
}

// data is what a znode holds.
type data struct {
	value []byte
	stat  *zk.Stat
}

// fetch reads nodes, and asks to be told when they change.
func (w *watching) fetch(ctx context.Context, names map[string]struct{}) error {
	const chunk = 8 * parallel
	batch := make([]string, 0, min(len(names), chunk))
	flush := func() error {
		got := make([]data, len(batch))
		err := each(ctx, w.link, len(batch), func(ctx context.Context, i int) error {
			var err error
			path := w.d.nodePath(w.service, batch[i]) // a request may outlive the batch
			got[i], err = read(ctx, w.link, func(c *zk.Conn) (data, error) {
				b, stat, _, err := c.GetW(path)
				return data{b, stat}, err
			})
			if errors.Is(err, zk.ErrNoNode) {
				got[i].stat, err = nil, nil // it is gone, or was never there: the list says so
			}
			return err
		})
		for i, name := range batch {
			if err == nil && got[i].stat != nil {
				w.take(name, got[i])
			}
		}
		batch = batch[:0]
		return err
	}
	for name := range names {
		if w.roster.Full() {
			return nil
		}
		batch = append(batch, name)
		if len(batch) == chunk {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// take puts a node into the roster.
func (w *watching) take(id string, d data) {
	s := stamp{d.stat.Czxid, d.stat.Mzxid}
	if w.known[id] == s {
		return
	}
	w.known[id] = s
	w.roster.Put(id, d.value)
}
