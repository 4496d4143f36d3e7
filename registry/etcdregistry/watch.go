package etcdregistry

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hull-go/hull/registry"
)

const (
	// listPage is how many entries are read at once; the largest that etcd takes have 1.5 MiB.
	listPage = 128
	// maxEntries bounds what is kept of one service.
	maxEntries = 100_000
)

// watching is one call of Watch.
type watching struct{ cancel context.CancelCauseFunc }

// Watch follows a service.
func (d *Driver) Watch(ctx context.Context, service string, emit func(registry.Update)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	caller := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &watching{cancel: cancel}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return registry.ErrClosed
	}
	d.watches[w] = struct{}{}
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		delete(d.watches, w)
		d.mu.Unlock()
	}()
	err := d.watch(ctx, service, emit)
	if caller.Err() != nil {
		return caller.Err()
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
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
		emit(s.update())
		if err := d.stream(ctx, l, service, s, revision, emit); !errors.Is(err, rpctypes.ErrCompacted) {
			return d.explain(l, err)
		}
	}
}

// list reads a service as it is at one revision.
func (d *Driver) list(ctx context.Context, l *link, service string) (*set, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*requestTimeout)
	defer cancel()
	prefix := d.serviceKey(service)
	end := clientv3.GetPrefixRangeEnd(prefix)
	floor := d.reached(0)
	page := clientv3.OpGet(prefix, clientv3.WithRange(end), clientv3.WithLimit(listPage))
	first, err := l.client.Txn(ctx).Then(clientv3.OpGet(d.opt.Prefix+epochKey), page).Commit()
	if err != nil {
		return nil, 0, err
	}
	epoch, revision := "", first.Header.GetRevision()
	if kvs := first.Responses[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
		epoch = string(kvs[0].GetValue())
	}
	if !d.same(epoch, revision, floor) {
		return nil, 0, errOther // and all watches have been told
	}
	s := &set{d: d, service: service, nodes: map[string]*registry.Node{}}
	got := first.Responses[1].GetResponseRange()
	for {
		for _, kv := range got.GetKvs() {
			s.put(kv)
		}
		if !got.GetMore() || len(got.GetKvs()) == 0 {
			return s, revision, nil
		}
		if len(s.nodes) >= maxEntries {
			s.refuse("", fmt.Errorf("more than %d nodes: what is beyond is ignored", maxEntries))
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
func (d *Driver) stream(ctx context.Context, l *link, service string, s *set, revision int64, emit func(registry.Update)) error {
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
					s.remove(e.Kv)
				} else {
					s.put(e.Kv)
				}
			}
			d.reached(res.Header.GetRevision())
			select {
			case res, more = <-changes:
			default:
				more = false
			}
		}
		if s.changed {
			emit(s.update())
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return errors.New("the watch has ended")
}

// reached notes how far the history has come, and returns that.
func (d *Driver) reached(revision int64) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.revision = max(d.revision, revision)
	return d.revision
}

// set is what a watch knows about its service.
type set struct {
	d       *Driver
	service string
	nodes   map[string]*registry.Node
	changed bool

	// Since the last update.
	left    map[string]string
	refused []registry.Refusal
}

func (s *set) put(kv *mvccpb.KeyValue) {
	s.changed = true
	_, kind, id, ok := s.d.parseKey(string(kv.GetKey()))
	if !ok {
		s.refuse(string(kv.GetKey()), errors.New("a key that is none of a node's"))
		return
	}
	if kind == kindLeft {
		if s.left == nil {
			s.left = map[string]string{}
		}
		s.left[id] = why(kv.GetValue())
		return
	}
	n, err := registry.DecodeNode(s.service, id, kv.GetValue())
	if err != nil {
		delete(s.nodes, id)
		s.refuse(id, err)
		return
	}
	if s.nodes[id] != nil || len(s.nodes) < maxEntries {
		s.nodes[id] = n
	}
}

func (s *set) remove(kv *mvccpb.KeyValue) {
	if _, kind, id, ok := s.d.parseKey(string(kv.GetKey())); ok && kind == kindNode {
		delete(s.nodes, id)
		s.changed = true
	}
}

func (s *set) refuse(entry string, err error) {
	if len(s.refused) < maxRefused {
		s.refused = append(s.refused, registry.Refusal{Entry: entry, Err: err})
	}
}

// maxRefused bounds the complaints of one update; the Registry keeps no more either.
const maxRefused = 64

// update returns what has to be told.
func (s *set) update() registry.Update {
	up := registry.Update{Nodes: make([]*registry.Node, 0, len(s.nodes)), Refused: s.refused}
	for _, n := range s.nodes {
		up.Nodes = append(up.Nodes, n)
	}
	for id, why := range s.left {
		if s.nodes[id] == nil {
			up.Left = append(up.Left, registry.Departure{ID: id, Why: why})
		}
	}
	s.left, s.refused, s.changed = nil, nil, false
	return up
}
