package fileregistry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/registry"
)

// DefaultPoll is how often locks are probed.
const DefaultPoll = 100 * time.Millisecond

// Options configure a Driver. The zero value is the registry that programs of one user find each other in.
type Options struct {
	// Dir is the directory, which is made if it is not there; empty = DefaultDir().
	Dir string
	// Shared lets several users use the directory (mode 1777): files are readable by all, and nodes of other users
	// are believed. Otherwise the directory must be the user's own and closed to writing by others.
	Shared bool
	// Poll is how often locks are probed, at least 1 ms; 0 = 100 ms.
	Poll time.Duration
	// Logger is told about files that are skipped; nil = nobody is.
	Logger *slog.Logger
}

// Driver is a registry in a directory. It is a registry.Driver, a registry.Announcer and an io.Closer. It has at most
// one scanning goroutine, and none while nothing is watched or announced.
type Driver struct {
	dir   string
	opt   Options
	token string // makes temporary names unique across machines and restarts
	temp  atomic.Uint64
	wake  chan struct{}
	wg    sync.WaitGroup
	// pollOnly does without notifications, as on systems where they are dear; tests set it.
	pollOnly bool

	mu       sync.Mutex
	closed   bool
	scanning bool
	opened   *directory
	subs     map[*subscription]struct{}
	leases   map[*lease]struct{}
}

// subscription is one call of Watch.
type subscription struct {
	service string
	changed chan struct{}

	// Guarded by Driver.mu.
	ready bool // nodes hold an answer
	nodes []*registry.Node
	left  []registry.Departure
	err   error
}

// New returns a driver; it makes the directory, and fails if that cannot be done or the directory is not safe.
func New(o Options) (*Driver, error) {
	if o.Dir == "" {
		o.Dir = DefaultDir()
	}
	if o.Poll == 0 {
		o.Poll = DefaultPoll
	}
	if o.Poll < time.Millisecond {
		return nil, fmt.Errorf("fileregistry: probing every %v is too often: at least 1ms", o.Poll)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("fileregistry: %w", err)
	}
	d := &Driver{dir: dir, opt: o, token: rand.Text()[:8], wake: make(chan struct{}, 1),
		subs: map[*subscription]struct{}{}, leases: map[*lease]struct{}{}}
	if _, err := d.directory(); err != nil {
		return nil, fmt.Errorf("fileregistry: %w", err)
	}
	return d, nil
}

// Parameters are the query parameters of a file URL.
func Parameters() []registry.Parameter {
	return []registry.Parameter{
		{Name: "shared", Default: "false", Usage: "let several users use the directory"},
		{Name: "poll", Default: DefaultPoll.String(), Usage: "how often to look whether nodes are alive"},
	}
}

// FromURL returns a driver for file:///directory?shared=true; "file://" alone is DefaultDir.
func FromURL(u *url.URL) (registry.Driver, error) {
	if u.Scheme != "file" || u.Host != "" && u.Host != "localhost" || u.User != nil || u.Opaque != "" {
		return nil, errors.New("fileregistry: write the URL as file:///absolute/directory, or file:// for the user's own")
	}
	q, err := registry.CheckQuery(u, Parameters())
	if err != nil {
		return nil, fmt.Errorf("fileregistry: %w", err)
	}
	o := Options{Dir: filepath.FromSlash(u.Path)}
	if s := q.Get("shared"); s != "" {
		if o.Shared, err = strconv.ParseBool(s); err != nil {
			return nil, fmt.Errorf("fileregistry: shared=%.20q: write true or false", s)
		}
	}
	if s := q.Get("poll"); s != "" {
		if o.Poll, err = time.ParseDuration(s); err != nil {
			return nil, fmt.Errorf("fileregistry: poll=%.20q: write a duration such as 100ms", s)
		}
	}
	return New(o)
}

// Dir returns the directory's absolute path.
func (d *Driver) Dir() string { return d.dir }

// List returns the names of the services that have a node whose process lives. It clears away dead nodes' files.
func (d *Driver) List(ctx context.Context) ([]string, error) {
	dir, err := d.directory()
	if err != nil {
		return nil, err
	}
	var files []string
	if _, err := dir.names(maxEntries, func(name string) {
		if _, ok := isNodeFile(name); ok {
			files = append(files, name)
		}
	}); err != nil {
		return nil, explain(d.dir, err)
	}
	found := map[string]string{} // by prefix
	for _, name := range files {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if p, _ := isNodeFile(name); found[p] == "" {
			if e, err := d.read(dir, name); err == nil {
				if e.alive(dir) {
					found[p] = e.node.Service
				}
				_ = e.file.Close()
			}
		}
	}
	return slices.Sorted(maps.Values(found)), nil
}

// ChecksItself implements registry.SelfChecking: the directory is read again and again.
func (d *Driver) ChecksItself() {}

// IsSameMachine implements registry.SameMachine: the directory is the user's own.
func (d *Driver) IsSameMachine() {}

// Watch follows a service.
func (d *Driver) Watch(ctx context.Context, service string, emit func(registry.Update)) error {
	s := &subscription{service: service, changed: make(chan struct{}, 1)}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return registry.ErrClosed
	}
	d.subs[s] = struct{}{}
	d.start()
	d.mu.Unlock()
	d.rouse()
	defer func() {
		d.mu.Lock()
		delete(d.subs, s)
		d.mu.Unlock()
		d.rouse()
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.changed:
		}
		d.mu.Lock()
		up, err, ready := registry.Update{Nodes: s.nodes, Left: s.left}, s.err, s.ready
		s.left = nil
		d.mu.Unlock()
		if err != nil {
			return err
		}
		if ready {
			emit(up)
		}
	}
}

// Close ends all watches with an error and waits for the scanner. Leases that are still held are given up, and their
// files removed.
func (d *Driver) Close() error {
	d.mu.Lock()
	d.closed = true
	leases := slices.Collect(maps.Keys(d.leases))
	for s := range d.subs {
		s.err = registry.ErrClosed
		s.notify()
	}
	d.mu.Unlock()
	for _, l := range leases {
		_ = l.Close(context.Background())
	}
	d.rouse()
	d.wg.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opened == nil {
		return nil
	}
	dir := d.opened
	d.opened = nil
	return dir.root.Close()
}

// directory returns the directory as it is now; it makes it again if it has been deleted.
func (d *Driver) directory() (*directory, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, registry.ErrClosed
	}
	if d.opened != nil && d.opened.current() {
		return d.opened, nil
	}
	// The one before is not closed here: leases may be using it, and it closes itself when the last is gone.
	dir, err := openDirectory(d.dir, d.opt.Shared)
	if err != nil {
		return nil, err
	}
	d.opened = dir
	return dir, nil
}

// hold notes a lease and has the scanner look after it.
func (d *Driver) hold(l *lease) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return registry.ErrClosed
	}
	d.leases[l] = struct{}{}
	d.start()
	return nil
}

func (d *Driver) letGo(l *lease) {
	d.mu.Lock()
	delete(d.leases, l)
	d.mu.Unlock()
	d.rouse()
}

// start starts the scanner if it does not run; d.mu is held.
func (d *Driver) start() {
	if !d.scanning {
		d.scanning = true
		d.wg.Go(func() { newScanner(d).run() })
	}
}

func (d *Driver) rouse() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (s *subscription) notify() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
