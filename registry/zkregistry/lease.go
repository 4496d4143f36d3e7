package zkregistry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/hull-go/hull/registry"
)

const (
	minTTL, maxTTL = time.Second, 24 * time.Hour
	// maxRecord is what a ZooKeeper takes at once unless told otherwise (jute.maxbuffer), without the path.
	maxRecord = 1<<20 - 4096
)

// lease is one announced node.
type lease struct {
	d           *Driver
	link        *link
	service, id string
	path        string
	ttl         time.Duration
	created     int64 // the transaction that made the znode

	mu      sync.Mutex
	version int32 // of the znode's data
	gone    bool
	armed   bool // ZooKeeper tells when the znode changes
	lost    chan struct{}
	told    bool        // lost is closed
	expiry  *time.Timer // takes the node away if it is not renewed
}

// Announce makes the node's znode, in the process's session for this TTL.
func (d *Driver) Announce(ctx context.Context, n *registry.Node, ttl time.Duration) (registry.Lease, error) {
	if ttl < minTTL || ttl > maxTTL {
		return nil, fmt.Errorf("zkregistry: a TTL of %v: choose one from %v to %v", ttl, minTTL, maxTTL)
	}
	record, err := encode(n)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	l, err := d.connect(ctx, ttl)
	if err != nil {
		return nil, err
	}
	made, err := d.announce(ctx, l, n, record, ttl)
	if err != nil {
		return nil, d.explain(l, err)
	}
	return made, nil
}

func encode(n *registry.Node) ([]byte, error) {
	record, err := registry.EncodeNode(n)
	if err == nil && len(record) > maxRecord {
		err = fmt.Errorf("the node says too much about itself: %d bytes of at most %d, which ZooKeeper takes", len(record), maxRecord)
	}
	if err != nil {
		return nil, fmt.Errorf("zkregistry: %w", err)
	}
	return record, nil
}

func (d *Driver) announce(ctx context.Context, l *link, n *registry.Node, record []byte, ttl time.Duration) (*lease, error) {
	made := &lease{d: d, link: l, service: n.Service, id: n.ID, path: d.nodePath(n.Service, n.ID), ttl: ttl, lost: make(chan struct{})}
	d.mu.Lock()
	l.mu.Lock()
	session := l.session
	l.mu.Unlock()
	d.ours[session] = struct{}{}
	d.mu.Unlock()
	create := &zk.CreateRequest{Path: made.path, Data: record, Acl: d.acl(), Flags: zk.FlagEphemeral}
	for try := 1; ; try++ {
		_, err := ask(ctx, l, func(c *zk.Conn) (string, error) { return c.Create(create.Path, create.Data, create.Flags, create.Acl) })
		if errors.Is(err, zk.ErrNoNode) && try <= 3 {
			if err = d.makeParents(ctx, l, n.Service); err == nil {
				continue
			}
		}
		if errors.Is(err, zk.ErrNodeExists) {
			if err = d.replace(ctx, l, n, create); errors.Is(err, zk.ErrNoNode) && try <= 3 {
				continue // what was there has gone meanwhile
			}
		}
		if err != nil {
			return nil, err
		}
		break
	}
	stat, err := made.check(ctx)
	if err != nil {
		return nil, err
	}
	if stat == nil || stat.EphemeralOwner != session {
		return nil, fmt.Errorf("zkregistry: %s of %s is being announced by another: %w", n.ID, n.Service, registry.ErrTaken)
	}
	made.created, made.version = stat.Czxid, stat.Version
	return made, made.hold()
}

// hold notes a node that is announced.
func (l *lease) hold() error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.d.closed {
		return registry.ErrClosed
	}
	l.link.mu.Lock()
	defer l.link.mu.Unlock()
	if l.link.ctx.Err() != nil {
		return context.Cause(l.link.ctx)
	}
	l.d.held[l.path], l.link.leases[l.path] = l, l
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = false // an event may have come before this: the first renewal looks again
	l.expiry = time.AfterFunc(l.ttl, l.expire)
	return nil
}

// makeParents makes the prefix and the service's container.
func (d *Driver) makeParents(ctx context.Context, l *link, service string) error {
	_, err := ask(ctx, l, func(c *zk.Conn) (struct{}, error) {
		path := ""
		for name := range strings.SplitSeq(d.opt.Prefix[1:], "/") {
			path += "/" + name
			if _, err := c.Create(path, nil, zk.FlagPersistent, d.acl()); err != nil && !errors.Is(err, zk.ErrNodeExists) {
				if exists, _, eerr := c.Exists(path); eerr == nil && exists { // those above may be closed to us
					continue
				}
				return struct{}{}, err
			}
		}
		_, err := c.CreateContainer(d.servicePath(service), nil, zk.FlagContainer, d.acl())
		if errors.Is(err, zk.ErrNodeExists) {
			err = nil
		}
		return struct{}{}, err
	})
	return err
}

// replace makes a node's znode in the place of what is there, if that does not live: what no session keeps, what is no
// node, and what an earlier session of this process left behind.
func (d *Driver) replace(ctx context.Context, l *link, n *registry.Node, create *zk.CreateRequest) error {
	old, err := read(ctx, l, func(c *zk.Conn) (data, error) {
		b, stat, err := c.Get(create.Path)
		return data{b, stat}, err
	})
	if err != nil {
		return err
	}
	d.mu.Lock()
	_, ours := d.ours[old.stat.EphemeralOwner]
	ours = ours && d.held[create.Path] == nil
	d.mu.Unlock()
	_, broken := registry.DecodeNode(n.Service, n.ID, old.value)
	if !ours && old.stat.EphemeralOwner != 0 && broken == nil {
		return fmt.Errorf("zkregistry: %s of %s: %w", n.ID, n.Service, registry.ErrTaken)
	}
	_, err = ask(ctx, l, func(c *zk.Conn) (struct{}, error) {
		_, err := c.Multi(&zk.DeleteRequest{Path: create.Path, Version: old.stat.Version}, create)
		return struct{}{}, err
	})
	if errors.Is(err, zk.ErrBadVersion) {
		return fmt.Errorf("zkregistry: %s of %s is being announced by another: %w", n.ID, n.Service, registry.ErrTaken)
	}
	return err
}

// check looks at the znode, and asks to be told when it changes; nil = it is not there.
func (l *lease) check(ctx context.Context) (*zk.Stat, error) {
	return read(ctx, l.link, func(c *zk.Conn) (*zk.Stat, error) {
		exists, stat, _, err := c.ExistsW(l.path)
		if !exists {
			stat = nil
		}
		return stat, err
	})
}

// Lost is closed when the znode has changed, or its session has ended.
func (l *lease) Lost() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// rouse asks for a renewal, which will look at the znode.
func (l *lease) rouse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = false
	if !l.told {
		l.told = true
		close(l.lost)
	}
}

// over notes that ZooKeeper does not have the node any more, or not in this session.
func (l *lease) over() {
	l.rouse()
	l.mu.Lock()
	l.gone = true
	l.expiry.Stop()
	l.mu.Unlock()
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.d.held[l.path] == l {
		delete(l.d.held, l.path)
	}
	l.link.mu.Lock()
	defer l.link.mu.Unlock()
	if l.link.leases[l.path] == l {
		delete(l.link.leases, l.path)
	}
}

// expire takes a node away that has not been renewed for its TTL.
func (l *lease) expire() {
	l.mu.Lock()
	gone, version := l.gone, l.version
	l.mu.Unlock()
	if gone {
		return
	}
	l.over()
	l.d.spawn(func() {
		ctx, cancel := context.WithTimeout(l.link.ctx, requestTimeout)
		defer cancel()
		_, _ = ask(ctx, l.link, func(c *zk.Conn) (struct{}, error) { return struct{}{}, c.Delete(l.path, version) })
	})
}

// Renew says that the process means to keep the node. The session does that, and has pings of its own: ZooKeeper is
// asked only if it said that the znode has changed.
func (l *lease) Renew(ctx context.Context) error {
	l.mu.Lock()
	gone, armed := l.gone, l.armed
	if !gone {
		l.expiry.Reset(l.ttl)
	}
	l.mu.Unlock()
	switch {
	case gone:
		return registry.ErrLost
	case !l.link.up():
		return l.d.explain(l.link, errSilent)
	case armed:
		l.awake()
		return nil
	}
	l.mu.Lock()
	l.armed = true // unless an event comes
	l.mu.Unlock()
	stat, err := l.check(ctx)
	if err != nil {
		l.rouse()
		return l.d.explain(l.link, err)
	}
	if stat == nil || stat.Czxid != l.created {
		l.over()
		return registry.ErrLost
	}
	l.mu.Lock()
	l.version = stat.Version
	l.mu.Unlock()
	l.awake()
	return nil
}

// awake makes a new Lost after the old one has been heard; it is closed if there is news again.
func (l *lease) awake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.told || l.gone {
		return
	}
	l.lost = make(chan struct{})
	if l.told = !l.armed; l.told {
		close(l.lost)
	}
}

// Update replaces the node's record.
func (l *lease) Update(ctx context.Context, n *registry.Node) error {
	record, err := encode(n)
	if err != nil {
		return err
	}
	for range 3 {
		if err := l.Renew(ctx); err != nil {
			return err
		}
		l.mu.Lock()
		version := l.version
		l.mu.Unlock()
		stat, err := ask(ctx, l.link, func(c *zk.Conn) (*zk.Stat, error) { return c.Set(l.path, record, version) })
		if err == nil {
			l.mu.Lock()
			l.version = max(l.version, stat.Version)
			l.mu.Unlock()
			return nil
		}
		l.rouse() // the next renewal looks at the znode
		if !errors.Is(err, zk.ErrBadVersion) && !errors.Is(err, zk.ErrNoNode) {
			return l.d.explain(l.link, err)
		}
	}
	return fmt.Errorf("zkregistry: the znode %s is changed by others all the time: find out by whom", l.path)
}

// Close deletes the znode and writes down that this was on purpose.
func (l *lease) Close(ctx context.Context) error {
	l.mu.Lock()
	gone := l.gone
	l.mu.Unlock()
	if gone {
		return nil
	}
	if _, err := l.d.remove(ctx, l.link, l.service, l.id, deregistered, l.created); err != nil {
		return l.d.explain(l.link, err)
	}
	l.over()
	return nil
}
