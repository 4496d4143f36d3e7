package etcdregistry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/hull-go/hull/registry"
)

const (
	minTTL, maxTTL = time.Second, 24 * time.Hour
	// graveTTL is how long it stays known that a node left on purpose.
	graveTTL = time.Minute
)

// session is the process's lease for one TTL; all its nodes are on it.
type session struct {
	ttl     time.Duration
	turn    chan struct{} // held while asking etcd
	suspect atomic.Bool   // the next renewal must ask

	// Guarded by turn.
	id      clientv3.LeaseID // 0 = there is none
	renewed time.Time
}

// session returns the one for a TTL, with a lease.
func (d *Driver) session(ctx context.Context, l *link, ttl time.Duration) (*session, clientv3.LeaseID, error) {
	seconds := int64((ttl + time.Second - 1) / time.Second)
	d.mu.Lock()
	s := d.sessions[seconds]
	if s == nil {
		s = &session{ttl: time.Duration(seconds) * time.Second, turn: make(chan struct{}, 1)}
		d.sessions[seconds] = s
	}
	d.mu.Unlock()
	if err := take(ctx, s.turn); err != nil {
		return nil, 0, err
	}
	defer func() { <-s.turn }()
	if s.id == 0 {
		res, err := l.client.Grant(ctx, seconds)
		if err != nil {
			return nil, 0, err
		}
		s.id, s.renewed = res.ID, time.Now()
		s.suspect.Store(false)
	}
	return s, s.id, nil
}

// renew keeps a lease alive. Whoever comes first within a quarter of the TTL asks, for all the others.
func (s *session) renew(ctx context.Context, l *link, id clientv3.LeaseID) error {
	if err := take(ctx, s.turn); err != nil {
		return err
	}
	defer func() { <-s.turn }()
	if s.id != id {
		return registry.ErrLost
	}
	if !s.suspect.Load() && time.Since(s.renewed) < s.ttl/4 {
		return nil
	}
	err := keepAlive(ctx, l.client, id)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		s.id = 0
		return registry.ErrLost
	}
	if err == nil {
		s.renewed = time.Now()
		s.suspect.Store(false)
	}
	return err
}

// keepAlive renews a lease, and unlike the client's own KeepAliveOnce tries once.
func keepAlive(ctx context.Context, client *clientv3.Client, id clientv3.LeaseID) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := clientv3.RetryLeaseClient(client).LeaseKeepAlive(ctx, grpc.WaitForReady(true))
	if err != nil {
		return rpctypes.Error(err)
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)}); err != nil && !errors.Is(err, io.EOF) {
		return rpctypes.Error(err)
	}
	res, err := stream.Recv() // also has the error of a failed Send
	if err != nil {
		return rpctypes.Error(err)
	}
	if res.GetTTL() <= 0 {
		return rpctypes.ErrLeaseNotFound
	}
	return nil
}

// forget gives up a lease that etcd does not know.
func (s *session) forget(ctx context.Context, id clientv3.LeaseID) {
	if take(ctx, s.turn) == nil {
		if s.id == id {
			s.id = 0
		}
		<-s.turn
	}
}

// take waits for a turn.
func take(ctx context.Context, turn chan struct{}) error {
	select {
	case turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lease is one announced node.
type lease struct {
	d           *Driver
	service, id string
	key         string
	link        *link
	session     *session
	lease       clientv3.LeaseID

	created int64 // the revision of the key

	mu        sync.Mutex
	gone      bool
	unguarded bool // nobody watches the key
	unguard   context.CancelFunc
	lost      chan struct{}
	told      bool // lost is closed
}

// Announce writes the node's key, on the process's lease.
func (d *Driver) Announce(ctx context.Context, n *registry.Node, ttl time.Duration) (registry.Lease, error) {
	if ttl < minTTL || ttl > maxTTL {
		return nil, fmt.Errorf("etcdregistry: a TTL of %v: choose one from %v to %v", ttl, minTTL, maxTTL)
	}
	data, err := registry.EncodeNode(n)
	if err != nil {
		return nil, fmt.Errorf("etcdregistry: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	l, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := d.ensureEpoch(ctx, l); err != nil {
		return nil, d.explain(l, err)
	}
	for range 2 {
		s, id, err := d.session(ctx, l, ttl)
		if err != nil {
			return nil, d.explain(l, err)
		}
		made, err := d.announce(ctx, l, n, data, s, id)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			s.forget(ctx, id)
			continue
		}
		if errors.Is(err, registry.ErrTaken) {
			return nil, err
		}
		if err != nil {
			return nil, d.explain(l, err)
		}
		d.accepted()
		return made, nil
	}
	return nil, fmt.Errorf("etcdregistry: etcd forgot a new lease at once: is its clock right? %w", registry.ErrLost)
}

// ensureEpoch makes sure that the data have an epoch.
func (d *Driver) ensureEpoch(ctx context.Context, l *link) error {
	d.mu.Lock()
	known := d.epoch != ""
	d.mu.Unlock()
	if known {
		return nil
	}
	key := d.opt.Prefix + epochKey
	epoch := rand.Text()
	res, err := l.client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, epoch)).Else(clientv3.OpGet(key)).Commit()
	if err != nil {
		return err
	}
	if !res.Succeeded {
		epoch = string(res.Responses[0].GetResponseRange().GetKvs()[0].GetValue())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.epoch = epoch
	return nil
}

func (d *Driver) announce(ctx context.Context, l *link, n *registry.Node, data []byte, s *session, id clientv3.LeaseID) (*lease, error) {
	key := d.nodeKey(n.Service, n.ID)
	put := clientv3.OpPut(key, string(data), clientv3.WithLease(id))
	unmark := clientv3.OpDelete(d.leftKey(n.Service, n.ID))
	res, err := l.client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).Then(put, unmark).Else(clientv3.OpGet(key)).Commit()
	if err != nil {
		return nil, err
	}
	if res.Succeeded {
		return d.hold(l, n, s, id, res.Header.GetRevision(), res.Header.GetRevision())
	}
	// Something is there. It stays if it lives; what is ours is from an attempt whose answer was lost.
	old := res.Responses[0].GetResponseRange().GetKvs()[0]
	d.mu.Lock()
	held := d.held[key] != nil
	d.mu.Unlock()
	_, broken := registry.DecodeNode(n.Service, n.ID, old.GetValue())
	ours := old.GetLease() == int64(id) && !held
	if !ours && old.GetLease() != 0 && broken == nil {
		return nil, fmt.Errorf("etcdregistry: %s of %s: %w", n.ID, n.Service, registry.ErrTaken)
	}
	res, err = l.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", old.GetModRevision())).Then(put, unmark).Commit()
	if err != nil {
		return nil, err
	}
	if !res.Succeeded {
		return nil, fmt.Errorf("etcdregistry: %s of %s is being announced by another: %w", n.ID, n.Service, registry.ErrTaken)
	}
	return d.hold(l, n, s, id, old.GetCreateRevision(), res.Header.GetRevision())
}

// hold notes a node that is announced, and watches its key.
func (d *Driver) hold(l *link, n *registry.Node, s *session, id clientv3.LeaseID, created, revision int64) (*lease, error) {
	made := &lease{d: d, service: n.Service, id: n.ID, key: d.nodeKey(n.Service, n.ID), link: l, session: s, lease: id,
		created: created, lost: make(chan struct{})}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, registry.ErrClosed
	}
	d.revision = max(d.revision, revision)
	d.held[made.key] = made
	d.mu.Unlock()
	made.guard(revision)
	return made, nil
}

// guard watches the key for its deletion by others.
func (l *lease) guard(revision int64) {
	ctx, cancel := context.WithCancel(l.link.client.Ctx())
	watch := func() {
		defer cancel()
		for res := range l.link.client.Watch(clientv3.WithRequireLeader(ctx), l.key, clientv3.WithRev(revision+1), clientv3.WithFilterPut()) {
			if res.Err() == nil && len(res.Events) > 0 && ctx.Err() == nil {
				l.end()
				return
			}
		}
		l.mu.Lock()
		l.unguarded = true
		l.mu.Unlock()
	}
	l.mu.Lock()
	l.unguard, l.unguarded = cancel, false
	l.mu.Unlock()
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if !l.d.spawn(watch) {
		cancel()
	}
}

// Lost is closed when the key is gone, or the connection has been.
func (l *lease) Lost() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// rouse asks for a renewal.
func (l *lease) rouse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.told {
		l.told = true
		close(l.lost)
	}
}

// end notes that etcd does not have the node any more.
func (l *lease) end() {
	l.mu.Lock()
	l.gone = true
	l.unguard()
	l.mu.Unlock()
	l.rouse()
	l.d.mu.Lock()
	if l.d.held[l.key] == l {
		delete(l.d.held, l.key)
	}
	l.d.mu.Unlock()
}

// Renew keeps the process's lease alive, which one renewal does for all nodes.
func (l *lease) Renew(ctx context.Context) error {
	err := l.renew(ctx)
	if errors.Is(err, registry.ErrLost) {
		l.end()
		return err
	}
	if err != nil {
		return l.d.explain(l.link, err)
	}
	l.d.accepted()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.told && !l.gone {
		l.told, l.lost = false, make(chan struct{})
	}
	return nil
}

func (l *lease) renew(ctx context.Context) error {
	l.mu.Lock()
	gone, unguarded := l.gone, l.unguarded
	l.mu.Unlock()
	if gone {
		return registry.ErrLost
	}
	if _, err := l.d.connect(ctx); err != nil { // closed, or the credentials are refused
		return err
	}
	if err := l.session.renew(ctx, l.link, l.lease); err != nil || !unguarded {
		return err
	}
	res, err := l.link.client.Get(ctx, l.key, clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	if len(res.Kvs) == 0 || res.Kvs[0].CreateRevision != l.created {
		return registry.ErrLost
	}
	l.guard(res.Header.GetRevision())
	return nil
}

// Update replaces the node's record.
func (l *lease) Update(ctx context.Context, n *registry.Node) error {
	data, err := registry.EncodeNode(n)
	if err != nil {
		return fmt.Errorf("etcdregistry: %w", err)
	}
	if err := l.Renew(ctx); err != nil {
		return err
	}
	res, err := l.link.client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(l.key), "=", l.created)).
		Then(clientv3.OpPut(l.key, string(data), clientv3.WithLease(l.lease))).Commit()
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		l.session.forget(ctx, l.lease)
		l.end()
		return registry.ErrLost
	}
	if err != nil {
		return l.d.explain(l.link, err)
	}
	if !res.Succeeded {
		l.end()
		return registry.ErrLost
	}
	return nil
}

// Close deletes the key and leaves word that this was on purpose.
func (l *lease) Close(ctx context.Context) error {
	l.mu.Lock()
	gone := l.gone
	l.mu.Unlock()
	if gone {
		return nil
	}
	link, err := l.d.connect(ctx)
	if err != nil {
		return err
	}
	if _, err := l.d.remove(ctx, link, l.service, l.id, deregistered, clientv3.Compare(clientv3.CreateRevision(l.key), "=", l.created)); err != nil {
		return err
	}
	l.end()
	return nil
}

// grave is the lease of the words that nodes left behind.
type grave struct {
	turn  chan struct{}
	id    clientv3.LeaseID
	until time.Time // new words go on it until then
}

// remove deletes a node's key if the condition holds, and leaves word why. It reports whether it did.
func (d *Driver) remove(ctx context.Context, l *link, service, id, why string, condition clientv3.Cmp) (bool, error) {
	if err := take(ctx, d.grave.turn); err != nil {
		return false, d.explain(l, err)
	}
	defer func() { <-d.grave.turn }()
	for again := true; ; again = false {
		if d.grave.id == 0 || time.Now().After(d.grave.until) {
			res, err := l.client.Grant(ctx, int64(graveTTL/time.Second))
			if err != nil {
				return false, d.explain(l, err)
			}
			d.grave.id, d.grave.until = res.ID, time.Now().Add(graveTTL/2)
		}
		res, err := l.client.Txn(ctx).If(condition).
			Then(clientv3.OpDelete(d.nodeKey(service, id)), clientv3.OpPut(d.leftKey(service, id), why, clientv3.WithLease(d.grave.id))).Commit()
		if errors.Is(err, rpctypes.ErrLeaseNotFound) && again {
			d.grave.id = 0
			continue
		}
		if err != nil {
			return false, d.explain(l, err)
		}
		return res.Succeeded, nil
	}
}
