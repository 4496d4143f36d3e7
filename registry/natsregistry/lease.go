package natsregistry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hull-go/hull/registry"
)

const (
	minTTL, maxTTL = time.Second, 24 * time.Hour
	// ownerHeader says which process wrote an entry.
	ownerHeader = "Hull-Owner"
	// operationHeader and deleteOperation are how NATS writes that a key is deleted.
	operationHeader, deleteOperation = "KV-Operation", "DEL"
	// maxHeaders is what the headers of a message need at most, in bytes.
	maxHeaders = 1024
)

// entry is the last message of a key.
type entry struct {
	revision uint64
	over     bool // it says that the key is gone
	mortal   bool // it expires
	owner    string
	value    []byte
}

// last returns the last message of a key; nil = there is none.
func (l *link) last(ctx context.Context, key string) (*entry, error) {
	s, err := l.js.Stream(ctx, "KV_"+l.d.opt.Bucket)
	if err != nil {
		return nil, err
	}
	m, err := s.GetLastMsgForSubject(ctx, l.subject(key))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil //nolint:nilnil // nothing is an answer
	}
	if err != nil {
		return nil, err
	}
	return &entry{revision: m.Sequence, over: m.Header.Get(operationHeader) != "" || m.Header.Get(jetstream.MarkerReasonHeader) != "",
		mortal: m.Header.Get(jetstream.MsgTTLHeader) != "", owner: m.Header.Get(ownerHeader), value: m.Data}, nil
}

func (l *link) subject(key string) string { return "$KV." + l.d.opt.Bucket + "." + key }

// write puts an entry in the place of the one with that revision; 0 = there must be none.
func (l *link) write(ctx context.Context, key string, value []byte, ttl time.Duration, revision uint64) (uint64, error) {
	return l.publish(ctx, key, value, "", ttl, revision)
}

// remove leaves word why a key is gone.
func (l *link) remove(ctx context.Context, key, why string, revision uint64) error {
	_, err := l.publish(ctx, key, []byte(why), deleteOperation, markerTTL, revision)
	return err
}

func (l *link) publish(ctx context.Context, key string, value []byte, operation string, ttl time.Duration, revision uint64) (uint64, error) {
	if most := l.conn.MaxPayload(); most > 0 && int64(len(value)+maxHeaders) > most {
		return 0, fmt.Errorf("the node says too much about itself: %d bytes of at most %d, which max_payload of the server allows", len(value), most-maxHeaders)
	}
	m := nats.NewMsg(l.subject(key))
	m.Data = value
	m.Header.Set(ownerHeader, l.d.owner)
	if operation != "" {
		m.Header.Set(operationHeader, operation)
	}
	ack, err := l.js.PublishMsg(ctx, m, jetstream.WithMsgTTL(ttl), jetstream.WithExpectLastSequencePerSubject(revision), jetstream.WithRetryAttempts(0))
	if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, jetstream.ErrStreamNotFound) { // the bucket is gone
		if err := l.openBucket(ctx); err != nil {
			return 0, err
		}
		ack, err = l.js.PublishMsg(ctx, m, jetstream.WithMsgTTL(ttl), jetstream.WithExpectLastSequencePerSubject(revision))
	}
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// isConflict reports whether the last message of a key was another than expected.
func isConflict(err error) bool {
	e, ok := errors.AsType[*jetstream.APIError](err)
	return ok && e.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}

// lease is one announced node.
type lease struct {
	d    *Driver
	link *link
	key  string
	ttl  time.Duration
	sub  *nats.Subscription // hears of it when somebody else deletes the key

	mu       sync.Mutex
	value    []byte
	revision uint64
	gone     bool
	lost     chan struct{}
	told     bool // lost is closed
}

// Announce writes the node's key.
func (d *Driver) Announce(ctx context.Context, n *registry.Node, ttl time.Duration) (registry.Lease, error) {
	if ttl < minTTL || ttl > maxTTL {
		return nil, fmt.Errorf("natsregistry: a TTL of %v: choose one from %v to %v", ttl, minTTL, maxTTL)
	}
	ttl = ttl.Round(time.Second)
	data, err := registry.EncodeNode(n)
	if err != nil {
		return nil, fmt.Errorf("natsregistry: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	l, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	made := &lease{d: d, link: l, key: nodeKey(n.Service, n.ID), ttl: ttl, value: data, lost: make(chan struct{})}
	made.revision, err = l.write(ctx, made.key, data, ttl, 0)
	if isConflict(err) {
		made.revision, err = d.replace(ctx, l, made.key, n, data, ttl)
	}
	if errors.Is(err, registry.ErrTaken) {
		return nil, err
	}
	if err != nil {
		return nil, d.explain(l, err)
	}
	if made.sub, err = l.conn.Subscribe(l.subject(made.key), made.hear); err != nil {
		return nil, d.explain(l, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, registry.ErrClosed
	}
	d.held[made.key] = made
	return made, nil
}

// replace puts a node in the place of what is there, if that does not live.
func (d *Driver) replace(ctx context.Context, l *link, key string, n *registry.Node, data []byte, ttl time.Duration) (uint64, error) {
	last, err := l.last(ctx, key)
	if err != nil {
		return 0, err
	}
	if last == nil { // it has run out meanwhile
		return l.write(ctx, key, data, ttl, 0)
	}
	d.mu.Lock()
	held := d.held[key] != nil
	d.mu.Unlock()
	_, broken := registry.DecodeNode(n.Service, n.ID, last.value)
	ours := last.owner == d.owner && !held
	if !last.over && !ours && last.mortal && broken == nil {
		return 0, fmt.Errorf("natsregistry: %s of %s: %w", n.ID, n.Service, registry.ErrTaken)
	}
	revision, err := l.write(ctx, key, data, ttl, last.revision)
	if isConflict(err) {
		return 0, fmt.Errorf("natsregistry: %s of %s is being announced by another: %w", n.ID, n.Service, registry.ErrTaken)
	}
	return revision, err
}

// hear looks at what is written to the key.
func (l *lease) hear(m *nats.Msg) {
	if m.Header.Get(ownerHeader) != l.d.owner {
		l.rouse()
	}
}

// Lost is closed when somebody else wrote to the key, or the connection has been broken.
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

// Renew writes the key anew.
func (l *lease) Renew(ctx context.Context) error {
	l.mu.Lock()
	value := l.value
	l.mu.Unlock()
	return l.write(ctx, value)
}

// Update replaces the node's record.
func (l *lease) Update(ctx context.Context, n *registry.Node) error {
	data, err := registry.EncodeNode(n)
	if err != nil {
		return fmt.Errorf("natsregistry: %w", err)
	}
	return l.write(ctx, data)
}

func (l *lease) write(ctx context.Context, value []byte) error {
	l.mu.Lock()
	gone, revision := l.gone, l.revision
	l.mu.Unlock()
	if gone {
		return registry.ErrLost
	}
	if _, err := l.d.connect(ctx); err != nil {
		return err
	}
	written, err := l.link.write(ctx, l.key, value, l.ttl, revision)
	if isConflict(err) {
		// The key is another's, or gone; or the answer to our last write was lost.
		var last *entry
		if last, err = l.link.last(ctx, l.key); err == nil {
			if last == nil || last.over || last.owner != l.d.owner {
				l.end()
				return registry.ErrLost
			}
			written, err = l.link.write(ctx, l.key, value, l.ttl, last.revision)
		}
	}
	if err != nil {
		return l.d.explain(l.link, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.value, l.revision = value, written
	if l.told {
		l.told, l.lost = false, make(chan struct{})
	}
	return nil
}

// end notes that the lease is over.
func (l *lease) end() {
	l.mu.Lock()
	l.gone = true
	l.mu.Unlock()
	_ = l.sub.Unsubscribe()
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.d.held[l.key] == l {
		delete(l.d.held, l.key)
	}
}

// Close deletes the key, on purpose.
func (l *lease) Close(ctx context.Context) error {
	l.mu.Lock()
	gone, revision := l.gone, l.revision
	l.mu.Unlock()
	if gone {
		return nil
	}
	if _, err := l.d.connect(ctx); err != nil {
		return err
	}
	err := l.link.remove(ctx, l.key, deregistered, revision)
	if isConflict(err) {
		var last *entry
		if last, err = l.link.last(ctx, l.key); err == nil && last != nil && !last.over && last.owner == l.d.owner {
			err = l.link.remove(ctx, l.key, deregistered, last.revision)
		}
	}
	if err != nil {
		return l.d.explain(l.link, err)
	}
	l.end()
	return nil
}
