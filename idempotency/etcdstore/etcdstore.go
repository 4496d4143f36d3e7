// Package etcdstore keeps idempotency keys in etcd (3.4 or later), where processes of many machines share them.
//
// Below the prefix, "/hull/keys/" unless told otherwise:
//
//	owners/<owner>   a process that says it lives, on a lease of its own
//	calls/<key>      the record of a key, as JSON; once it has a result it is on a lease that ends when its time has passed
//	running/<key>    marks records without a result, so that those of processes that died can be removed when their time has passed
//
// Every change is one transaction that compares what it was decided on, so of any number of claims to a key one wins. A claim costs one round trip, its
// result two. A new lease is granted for results an eighth of their time apart, whatever their number.
//
// An answer takes a third more in etcd than it has bytes, and etcd takes 1.5 MiB at once unless it is told otherwise: leave idempotency.Options.MaxResult where it is.
//
// Whose time has passed is judged by the machines' clocks, which need not agree to more than a part of Options.Keep; who is alive is judged by etcd's.
package etcdstore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hull-go/hull/idempotency"
)

// DefaultPrefix is where keys are without a prefix of one's own.
const DefaultPrefix = "/hull/keys/"

// Options of a Store. The zero value uses DefaultPrefix.
type Options struct {
	// Prefix is what all keys in etcd begin with; it ends with a slash. Stores with different prefixes know nothing of each other. "" = DefaultPrefix.
	Prefix string
}

// Store is an idempotency.Store in etcd. It is safe for concurrent use.
type Store struct {
	client *clientv3.Client
	prefix string
	most   time.Duration // claimMost; tests have less

	mu     sync.Mutex
	owners map[string]clientv3.LeaseID
	leases map[time.Duration]lease // of results, by how long they are kept
	swept  time.Time
	next   string // where the next sweep begins
}

// lease is one that results are put on until its time has come.
type lease struct {
	id    clientv3.LeaseID
	until time.Time
}

var _ idempotency.Store = (*Store)(nil)

// New returns a Store. The client stays the caller's, who closes it after the servers that use the Store.
func New(client *clientv3.Client, o Options) (*Store, error) {
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if client == nil || !strings.HasSuffix(o.Prefix, "/") {
		return nil, fmt.Errorf("etcdstore: a client is needed, and a prefix that ends with a slash; it is %q", o.Prefix)
	}
	return &Store{client: client, prefix: o.Prefix, most: claimMost, owners: map[string]clientv3.LeaseID{}, leases: map[time.Duration]lease{}}, nil
}

func (s *Store) owner(name string) string  { return s.prefix + "owners/" + name }
func (s *Store) call(key string) string    { return s.prefix + "calls/" + key }
func (s *Store) running(key string) string { return s.prefix + "running/" + key }

// record is what stands under a key.
type record struct {
	ID      string `json:"id"`
	Owner   string `json:"owner"`
	Print   []byte `json:"print"` // a Fingerprint
	Result  []byte `json:"result,omitempty"`
	Expires int64  `json:"expires"` // milliseconds since 1970
}

func (r *record) over() bool { return time.Now().UnixMilli() >= r.Expires }

// found is a record as it was read.
type found struct {
	record
	revision int64 // of its last change
}

// parse reads the answer to a Get of one record; nil if there is none.
func parse(kvs []*mvccpb.KeyValue) (*found, error) {
	if len(kvs) == 0 {
		return nil, nil
	}
	f := &found{revision: kvs[0].ModRevision}
	if err := json.Unmarshal(kvs[0].Value, &f.record); err != nil || len(f.Print) != len(idempotency.Fingerprint{}) {
		return nil, fmt.Errorf("%q holds something that is not Hull's: %w", kvs[0].Key, cmp.Or(err, errors.New("its fingerprint has another length")))
	}
	return f, nil
}

// Alive implements idempotency.Store. It also removes what processes have left that are dead, some of it each time.
func (s *Store) Alive(ctx context.Context, owner string, ttl time.Duration) error {
	if err := s.alive(ctx, owner, ttl); err != nil {
		return fmt.Errorf("etcdstore: %w", err)
	}
	if err := s.sweep(ctx); err != nil {
		return fmt.Errorf("etcdstore: removing what has expired: %w", err)
	}
	return nil
}

func (s *Store) alive(ctx context.Context, owner string, ttl time.Duration) error {
	s.mu.Lock()
	id := s.owners[owner]
	s.mu.Unlock()
	if id != 0 {
		if _, err := s.client.KeepAliveOnce(ctx, id); errors.Is(err, rpctypes.ErrLeaseNotFound) {
			id = 0
		} else if err != nil {
			return err
		}
	}
	if id == 0 {
		granted, err := s.client.Grant(ctx, seconds(ttl))
		if err != nil {
			return err
		}
		id = granted.ID
	}
	if _, err := s.client.Put(ctx, s.owner(owner), "", clientv3.WithLease(id)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owners[owner] = id
	return nil
}

func seconds(d time.Duration) int64 { return int64(math.Ceil(d.Seconds())) }

// claimMost bounds a claim: etcd's client waits for an etcd that is away for as long as it may, and a call that waits for its key has its place.
const claimMost = 2 * time.Second

// Claim implements idempotency.Store. It fails after 2 s without an answer, also if ctx has more time.
func (s *Store) Claim(ctx context.Context, c idempotency.Claim) (rec idempotency.Record, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.most)
	defer cancel()
	mine := record{ID: c.ID, Owner: c.Owner, Print: c.Fingerprint[:], Expires: time.Now().Add(c.Keep).UnixMilli()}
	var f *found // as it was read last
	for err == nil {
		var again bool
		if rec, f, again, err = s.claim(ctx, &c, &mine, f); err == nil && !again {
			return rec, nil
		}
	}
	return idempotency.Record{}, fmt.Errorf("etcdstore: claiming a key: %w", err)
}

// claim tries to take the place of f, or a free one for nil. again says that something else was found there, or that the claim's owner was not known to live.
func (s *Store) claim(ctx context.Context, c *idempotency.Claim, mine *record, f *found) (rec idempotency.Record, next *found, again bool, err error) {
	lives := clientv3.Compare(clientv3.CreateRevision(s.owner(c.Owner)), ">", 0)
	at := clientv3.Compare(clientv3.CreateRevision(s.call(c.Key)), "=", 0)
	if f != nil {
		at = clientv3.Compare(clientv3.ModRevision(s.call(c.Key)), "=", f.revision)
	}
	conditions := []clientv3.Cmp{lives, at}
	var then []clientv3.Op
	switch {
	case f == nil, f.Result != nil && f.over(), f.Result == nil && c.Over != "" && f.ID == c.Over:
		then = s.put(c.Key, mine)
	case f.Result != nil:
		return f.as(idempotency.Done), nil, false, nil
	case f.ID == c.ID:
		return f.as(idempotency.Claimed), nil, false, nil
	default: // it runs, or it does not any more
		conditions = append(conditions, clientv3.Compare(clientv3.CreateRevision(s.owner(f.Owner)), "=", 0))
		if f.over() {
			then = s.put(c.Key, mine)
		}
	}
	got, err := s.client.Txn(ctx).If(conditions...).Then(then...).
		Else(clientv3.OpGet(s.owner(c.Owner), clientv3.WithCountOnly()), clientv3.OpGet(s.call(c.Key))).Commit()
	switch {
	case err != nil:
		return rec, nil, false, err
	case got.Succeeded && then == nil:
		return f.as(idempotency.Doubtful), nil, false, nil
	case got.Succeeded:
		return (&found{record: *mine}).as(idempotency.Claimed), nil, false, nil
	}
	if next, err = parse(got.Responses[1].GetResponseRange().Kvs); err != nil {
		return rec, nil, false, err
	}
	if got.Responses[0].GetResponseRange().Count == 0 {
		return rec, next, true, s.alive(ctx, c.Owner, c.TTL)
	}
	if f != nil && next != nil && next.revision == f.revision {
		return f.as(idempotency.Running), nil, false, nil // the only condition that can have failed is that its owner is dead
	}
	return rec, next, true, nil
}

func (f *found) as(state idempotency.State) idempotency.Record {
	return idempotency.Record{State: state, ID: f.ID, Owner: f.Owner, Fingerprint: idempotency.Fingerprint(f.Print), Result: f.Result}
}

// put writes a record that has no result yet.
func (s *Store) put(key string, r *record) []clientv3.Op {
	return []clientv3.Op{clientv3.OpPut(s.call(key), r.String()), clientv3.OpPut(s.running(key), "")}
}

// String returns the record as it is stored.
func (r *record) String() string {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // there is nothing in it that does not encode
	}
	return string(b)
}

// Finish implements idempotency.Store.
func (s *Store) Finish(ctx context.Context, key, claim string, result []byte, keep time.Duration) error {
	return s.change(ctx, key, claim, func(f *found) ([]clientv3.Op, error) {
		f.Result, f.Expires = result, time.Now().Add(keep).UnixMilli()
		id, err := s.lease(ctx, keep)
		return []clientv3.Op{clientv3.OpPut(s.call(key), f.String(), clientv3.WithLease(id)), clientv3.OpDelete(s.running(key))}, err
	})
}

// Release implements idempotency.Store.
func (s *Store) Release(ctx context.Context, key, claim string) error {
	return s.change(ctx, key, claim, func(f *found) ([]clientv3.Op, error) {
		if f.Result != nil {
			return nil, idempotency.ErrLost
		}
		return []clientv3.Op{clientv3.OpDelete(s.call(key)), clientv3.OpDelete(s.running(key))}, nil
	})
}

// change does something to a claim's record, if it is still there.
func (s *Store) change(ctx context.Context, key, claim string, to func(*found) ([]clientv3.Op, error)) error {
	for {
		got, err := s.client.Get(ctx, s.call(key))
		if err != nil {
			return fmt.Errorf("etcdstore: %w", err)
		}
		f, err := parse(got.Kvs)
		if err != nil {
			return fmt.Errorf("etcdstore: %w", err)
		}
		if f == nil || f.ID != claim {
			return idempotency.ErrLost
		}
		ops, err := to(f)
		if err != nil {
			return fmt.Errorf("etcdstore: %w", err)
		}
		done, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(s.call(key)), "=", f.revision)).Then(ops...).Commit()
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			s.forgetLeases() // etcd has lost what it knew, or stood still for longer than a result is kept
			continue
		}
		if err != nil {
			return fmt.Errorf("etcdstore: %w", err)
		}
		if done.Succeeded {
			return nil
		}
	}
}

// lease returns one that ends when keep has passed, or up to a quarter later.
func (s *Store) lease(ctx context.Context, keep time.Duration) (clientv3.LeaseID, error) {
	s.mu.Lock()
	l := s.leases[keep]
	s.mu.Unlock()
	now := time.Now()
	if now.Before(l.until) {
		return l.id, nil
	}
	granted, err := s.client.Grant(ctx, seconds(keep+keep/4)+1)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leases[keep] = lease{granted.ID, now.Add(keep / 8)}
	return granted.ID, nil
}

func (s *Store) forgetLeases() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.leases)
}

const (
	// sweepEvery is how long after a sweep the next one is due, and sweepAtOnce how many records one looks at.
	sweepEvery  = time.Minute
	sweepAtOnce = 100
)

// sweep removes records without a result whose time has passed and whose owner is dead. It goes on where the last one ended.
func (s *Store) sweep(ctx context.Context) error {
	s.mu.Lock()
	from, due := s.next, time.Since(s.swept) >= sweepEvery
	if due {
		s.swept = time.Now()
	}
	s.mu.Unlock()
	if !due {
		return nil
	}
	all := s.running("")
	if from == "" {
		from = all
	}
	got, err := s.client.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(all)), clientv3.WithLimit(sweepAtOnce), clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	next := ""
	for _, mark := range got.Kvs {
		key := strings.TrimPrefix(string(mark.Key), all)
		if err := s.remove(ctx, key); err != nil {
			return err
		}
		if got.More {
			next = string(mark.Key) + "\x00"
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = next
	return nil
}

// remove removes a key's record if it has no result, its time has passed and its owner is dead.
func (s *Store) remove(ctx context.Context, key string) error {
	got, err := s.client.Get(ctx, s.call(key))
	if err != nil {
		return err
	}
	f, err := parse(got.Kvs)
	if err != nil || f == nil || f.Result != nil || !f.over() { // without a record it has just been finished or released
		return err
	}
	_, err = s.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(s.call(key)), "=", f.revision), clientv3.Compare(clientv3.CreateRevision(s.owner(f.Owner)), "=", 0)).
		Then(clientv3.OpDelete(s.call(key)), clientv3.OpDelete(s.running(key))).Commit()
	return err
}
