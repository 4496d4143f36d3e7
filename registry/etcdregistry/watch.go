package etcdregistry

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hull-go/hull/registry"
)

// listPage is how many entries are read at once; the largest that etcd takes have 1.5 MiB.
const listPage = 128

// learnTimeout bounds how long a change may wait for the epoch to be read.
const learnTimeout = time.Second

// watching is one call of Watch, or of List.
type watching struct{ cancel context.CancelCauseFunc }

// begin returns a context that ends when the connection has been broken for too long, and what to call at the end with
// one's error; it returns the error that counts.
func (d *Driver) begin(caller context.Context) (ctx context.Context, end func(error) error, err error) {
	if err := caller.Err(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancelCause(caller)
	w := &watching{cancel: cancel}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		cancel(nil)
		return nil, nil, registry.ErrClosed
	}
	d.watches[w] = struct{}{}
	return ctx, func(err error) error {
		d.mu.Lock()
		delete(d.watches, w)
		d.mu.Unlock()
		defer cancel(nil)
		if err != nil && caller.Err() != nil {
			return caller.Err()
		}
		if cause := context.Cause(ctx); err != nil && cause != nil {
			return cause
		}
		return err
	}, nil
}

// Watch follows a service.
func (d *Driver) Watch(ctx context.Context, service string, emit func(registry.Update)) error {
	ctx, end, err := d.begin(ctx)
	if err != nil {
		return err
	}
	return end(d.watch(ctx, service, emit))
}

func (d *Driver) watch(ctx context.Context, service string, emit func(registry.Update)) error {
	l, err := d.connect(ctx)
	if err != nil {
		return err
	}
	for {
		s, revision, err := d.list(ctx, l, service)
		if err != nil {
			return d.explain(l, err)
		}
		d.accepted()
		emit(s.Update())
		if err := d.stream(ctx, l, service, s, revision, emit); !errors.Is(err, rpctypes.ErrCompacted) {
			return d.explain(l, err)
		}
	}
}

// list reads a service as it is at one revision.
func (d *Driver) list(ctx context.Context, l *link, service string) (*registry.Roster, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*requestTimeout)
	defer cancel()
	prefix := d.serviceKey(service)
	end := clientv3.GetPrefixRangeEnd(prefix)
	known := d.known()
	page := clientv3.OpGet(prefix, clientv3.WithRange(end), clientv3.WithLimit(listPage))
	first, err := l.client.Txn(ctx).Then(clientv3.OpGet(d.opt.Prefix+epochKey), page).Commit()
	if err != nil {
		return nil, 0, err
	}
	epoch, revision := "", first.Header.GetRevision()
	if kvs := first.Responses[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
		epoch = string(kvs[0].GetValue())
	}
	if !d.same(epoch, revision, known) {
		return nil, 0, errOther // and all watches have been told
	}
	s := registry.NewRoster(service)
	got := first.Responses[1].GetResponseRange()
	for {
		for _, kv := range got.GetKvs() {
			d.put(s, kv)
		}
		if !got.GetMore() || len(got.GetKvs()) == 0 || s.Full() {
			return s, revision, nil
		}
		from := string(got.GetKvs()[len(got.GetKvs())-1].GetKey()) + "\x00"
		next, err := l.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(listPage), clientv3.WithRev(revision))
		if err != nil {
			return nil, 0, err
		}
		got = (*pb.RangeResponse)(next)
	}
}

// stream takes the changes after a revision until it fails.
func (d *Driver) stream(ctx context.Context, l *link, service string, r *registry.Roster, revision int64, emit func(registry.Update)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := l.client.Watch(clientv3.WithRequireLeader(ctx), d.serviceKey(service), clientv3.WithPrefix(), clientv3.WithRev(revision+1))
	for res := range changes {
		for more := true; more; { // a burst is one update
			if err := res.Err(); err != nil {
				return err
			}
			for _, e := range res.Events {
				if e.Type == clientv3.EventTypeDelete {
					d.forget(r, e.Kv)
				} else {
					d.put(r, e.Kv)
				}
			}
			d.reached(res.Header.GetRevision())
			select {
			case res, more = <-changes:
			default:
				more = false
			}
		}
		d.learn(ctx, l)
		if r.Changed() {
			emit(r.Update())
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return errors.New("the watch has ended")
}

// learn reads the epoch if none is known but somebody has announced a node meanwhile, who wrote one. A program that began before that
// could not tell another etcd's data from its own when the other's history has become as long. It is read before anybody hears of the
// change, so that it is the epoch of the same data as surely as can be.
func (d *Driver) learn(ctx context.Context, l *link) {
	known := d.known()
	if known.epoch != "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	res, err := l.client.Get(ctx, d.opt.Prefix+epochKey)
	if err != nil || len(res.Kvs) == 0 || res.Header.GetRevision() < known.revision { // with the next change, or follow notices
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.epoch == "" {
		d.epoch = string(res.Kvs[0].Value)
	}
}

// reached notes how far the history has come, and returns that.
func (d *Driver) reached(revision int64) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.revision = max(d.revision, revision)
	return d.revision
}

// put takes a key.
func (d *Driver) put(r *registry.Roster, kv *mvccpb.KeyValue) {
	_, kind, id, ok := d.parseKey(string(kv.GetKey()))
	switch {
	case !ok:
		r.Refuse(string(kv.GetKey()), errors.New("a key that is none of a node's"))
	case kind == kindLeft:
		r.Leave(id, why(kv.GetValue()))
	default:
		r.Put(id, kv.GetValue())
	}
}

// forget takes the end of a key.
func (d *Driver) forget(r *registry.Roster, kv *mvccpb.KeyValue) {
	if _, kind, id, ok := d.parseKey(string(kv.GetKey())); ok && kind == kindNode {
		r.Remove(id)
	}
}
