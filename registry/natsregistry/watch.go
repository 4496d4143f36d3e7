package natsregistry

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hull-go/hull/registry"
)

// watching is one call of Watch, or of List.
type watching struct {
	cancel context.CancelCauseFunc
	anew   chan struct{} // a token: list again
}

func (w *watching) again() {
	select {
	case w.anew <- struct{}{}:
	default:
	}
}

// begin returns a context that ends when the connection has been broken for too long, and what to call at the end with
// one's error; it returns the error that counts.
func (d *Driver) begin(caller context.Context) (ctx context.Context, end func(error) error, err error) {
	ctx, _, end, err = d.beginWatch(caller)
	return ctx, end, err
}

func (d *Driver) beginWatch(caller context.Context) (ctx context.Context, w *watching, end func(error) error, err error) {
	if err := caller.Err(); err != nil {
		return nil, nil, nil, err
	}
	ctx, cancel := context.WithCancelCause(caller)
	w = &watching{cancel: cancel, anew: make(chan struct{}, 1)}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		cancel(nil)
		return nil, nil, nil, registry.ErrClosed
	}
	d.watches[w] = struct{}{}
	return ctx, w, func(err error) error {
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
	ctx, w, end, err := d.beginWatch(ctx)
	if err != nil {
		return err
	}
	return end(d.watch(ctx, w, service, emit))
}

func (d *Driver) watch(ctx context.Context, w *watching, service string, emit func(registry.Update)) error {
	l, err := d.connect(ctx)
	if err != nil {
		return err
	}
	for {
		err := l.stream(ctx, w, service, emit)
		if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) {
			err = l.openBucket(ctx)
		}
		if err != nil {
			return d.explain(l, err)
		}
	}
}

// stream lists a service and takes its changes, until it is to be listed anew.
func (l *link) stream(caller context.Context, w *watching, service string, emit func(registry.Update)) error {
	ctx, cancel := context.WithCancelCause(caller)
	defer cancel(nil)
	// The context is the watch's as long as it lives, so that the bound is for its beginning alone.
	late := time.AfterFunc(requestTimeout, func() { cancel(context.DeadlineExceeded) })
	kv, err := l.bucket.Watch(ctx, kindNode+"."+escape(service)+".*")
	late.Stop()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		return err
	}
	defer func() { _ = kv.Stop() }()
	r, listed := registry.NewRoster(service), false
	for {
		var e jetstream.KeyValueEntry
		var more bool
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-w.anew:
			return nil
		case e, more = <-kv.Updates():
		}
		for some := true; some; { // a burst is one update
			switch {
			case !more:
				return errors.New("the watch has ended")
			case e == nil:
				listed = true
			default:
				take(r, e)
			}
			select {
			case e, more = <-kv.Updates():
			default:
				some = false
			}
		}
		if listed && r.Changed() {
			emit(r.Update())
		}
	}
}

// take puts an entry into the roster.
func take(r *registry.Roster, e jetstream.KeyValueEntry) {
	_, id, ok := parseKey(e.Key())
	switch {
	case !ok:
		r.Refuse(e.Key(), errors.New("a key that is none of a node's"))
	case e.Operation() == jetstream.KeyValueDelete:
		r.Leave(id, why(e.Value()))
	case e.Operation() == jetstream.KeyValuePurge:
		r.Remove(id)
	default:
		r.Put(id, e.Value())
	}
}
