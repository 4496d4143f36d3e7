package natsregistry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hull-go/hull/registry"
)

const (
	// patience is how long a connection may be broken before watches fail.
	patience = 2 * time.Second
	// pingEvery finds a server that is silent: the second ping without an answer is the end.
	pingEvery, pingsOut = 3 * time.Second, 2
	dialTimeout         = 3 * time.Second
	reconnectMin        = 100 * time.Millisecond
	reconnectMax        = time.Second
)

var (
	errSilent = errors.New("NATS does not answer")
	errTTL    = errors.New("its keys do not expire one by one: let hull make the bucket, or give it a LimitMarkerTTL of 1m")
)

// link is a connection.
type link struct {
	d      *Driver
	conn   *nats.Conn
	js     jetstream.JetStream
	bucket jetstream.KeyValue
	broken atomic.Int64 // counts interruptions
}

// dialing is an attempt to connect that all who want to share.
type dialing struct {
	done chan struct{}
	link *link
	err  error
}

// connect returns the connection, and makes it and the bucket if they are not there.
func (d *Driver) connect(ctx context.Context) (*link, error) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, registry.ErrClosed
	}
	if d.link != nil {
		defer d.mu.Unlock()
		return d.link, nil
	}
	if d.failed != nil && time.Now().Before(d.retryAt) {
		defer d.mu.Unlock()
		return nil, d.failed
	}
	a := d.dialing
	if a == nil {
		a = &dialing{done: make(chan struct{})}
		d.dialing = a
		d.wg.Go(func() { d.dial(a) })
	}
	d.mu.Unlock()
	select {
	case <-a.done:
		return a.link, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("connecting to NATS at %s: %w", d.where(), ctx.Err())
	}
}

func (d *Driver) dial(a *dialing) {
	defer close(a.done)
	l := &link{d: d}
	err := l.open(d.ctx)
	d.mu.Lock()
	if d.dialing = nil; err == nil && d.closed {
		err = registry.ErrClosed
	}
	d.mu.Unlock()
	if err != nil {
		l.close()
		err = d.explain(l, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		a.err, d.failed, d.retryAt = err, err, time.Now().Add(pause(d.strikes))
		d.strikes++
		return
	}
	a.link, d.link, d.failed, d.strikes = l, l, nil, 0
}

// pause is the time to the next attempt to connect, half of it by chance.
func pause(attempts int) time.Duration {
	bound := min(reconnectMin<<min(attempts, 10), reconnectMax)
	return bound/2 + time.Duration(rand.Int64N(int64(bound/2)))
}

func (l *link) open(ctx context.Context) error {
	d := l.d
	servers := make([]string, len(d.servers))
	for i, s := range d.servers {
		servers[i] = "nats://" + s
	}
	options := append(d.authentication(),
		nats.Name("hull registry"), nats.MaxReconnects(-1), nats.Timeout(dialTimeout), nats.IgnoreAuthErrorAbort(),
		nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(pingsOut), nats.ReconnectBufSize(-1),
		nats.CustomReconnectDelay(pause),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { l.interrupted(err) }),
		nats.ReconnectHandler(func(*nats.Conn) { l.back() }),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // requests and watches have their own
	if d.opt.TLS != nil {
		options = append(options, nats.Secure(d.opt.TLS.Clone()))
	}
	var err error
	if l.conn, err = nats.Connect(strings.Join(servers, ","), options...); err != nil {
		return err
	}
	if l.js, err = jetstream.New(l.conn); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return l.openBucket(ctx)
}

// openBucket finds the bucket, or makes it. It is called again when the bucket is gone.
func (l *link) openBucket(ctx context.Context) error {
	name := l.d.opt.Bucket
	b, err := l.js.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		b, err = l.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: name, Description: "the nodes of services", History: 1,
			LimitMarkerTTL: markerTTL, Storage: l.d.storage(), Replicas: l.d.opt.Replicas})
		if errors.Is(err, jetstream.ErrBucketExists) { // another was faster
			b, err = l.js.KeyValue(ctx, name)
		}
	}
	if err != nil {
		return err
	}
	s, err := b.Status(ctx)
	if err != nil {
		return err
	}
	if s.LimitMarkerTTL() == 0 {
		return fmt.Errorf("bucket %s: %w", name, errTTL)
	}
	if l.bucket == nil { // it is addressed by its name: one made anew is the same to us
		l.bucket = b
	}
	return nil
}

func (l *link) close() {
	if l.conn != nil {
		l.conn.Close()
	}
}

// interrupted is called when the connection breaks; if it is not back in time watches fail.
func (l *link) interrupted(err error) {
	n := l.broken.Add(1)
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.d.closed {
		return
	}
	l.d.wg.Go(func() {
		t := time.NewTimer(patience)
		defer t.Stop()
		select {
		case <-t.C:
		case <-l.d.ctx.Done():
			return
		}
		if l.broken.Load() != n || l.conn.IsConnected() {
			return
		}
		if last := l.conn.LastError(); last != nil {
			err = last
		}
		why := errSilent
		if err != nil {
			why = l.d.explain(l, err)
		}
		l.d.mu.Lock()
		defer l.d.mu.Unlock()
		for w := range l.d.watches {
			w.cancel(fmt.Errorf("the connection has been broken for %v: %w", patience, why))
		}
	})
}

// back is called when the connection is there again: watches list their services anew, and nodes are renewed.
func (l *link) back() {
	l.broken.Add(1)
	l.d.mu.Lock()
	for w := range l.d.watches {
		w.again()
	}
	held := slices.Collect(maps.Values(l.d.held))
	l.d.mu.Unlock()
	for _, h := range held {
		h.rouse()
	}
}

func (d *Driver) where() string { return strings.Join(d.servers, ",") }

// explain says what an error of NATS means.
func (d *Driver) explain(l *link, err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, registry.ErrClosed), errors.Is(err, errSilent), errors.Is(err, errTTL):
		return err
	case isRefusal(err):
		return fmt.Errorf("NATS at %s refuses the credentials: %w; check user, password or token", d.where(), err)
	case errors.Is(err, nats.ErrPermissionViolation):
		return fmt.Errorf("NATS at %s denies the permission: %w; allow $JS.API.>, $KV.%s.> and the inbox", d.where(), err, d.opt.Bucket)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("NATS at %s keeps nothing: %w; start it with -js", d.where(), err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrReconnectBufExceeded):
		if l.conn != nil && !l.conn.IsConnected() {
			if last := l.conn.LastError(); last != nil && isRefusal(last) {
				return d.explain(l, last)
			}
		}
		return fmt.Errorf("%w at %s: %w", errSilent, d.where(), err)
	}
	return fmt.Errorf("NATS at %s: %w", d.where(), err)
}

func isRefusal(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked) ||
		errors.Is(err, nats.ErrAccountAuthExpired)
}
