package etcdregistry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/hull-go/hull/registry"
)

const (
	// patience is how long a connection may be broken before watches fail.
	patience = 2 * time.Second
	// pingEvery and pingTimeout find an engine that is silent. gRPC does not ping more often, and etcd would not have it.
	pingEvery, pingTimeout = 10 * time.Second, 2 * time.Second
	// A network that is cut is found sooner, by the kernels: they look after idleAfter, and give up when pingTimeout has passed as well.
	idleAfter, idleEvery = 2 * time.Second, time.Second
	// authTimeout bounds the check of a password; strikeMin and strikeMax the pause after it has failed, half of which
	// is random.
	authTimeout          = 3 * time.Second
	strikeMin, strikeMax = time.Second, 3 * time.Second
	// tries is how often a request that changes nothing is sent if it fails at once; the Registry tries again, too.
	tries = 3
)

var (
	errSilent = errors.New("etcd does not answer")
	errOther  = errors.New("etcd has lost its data, or it is another etcd: listing anew")
	errChange = errors.New("the credentials have changed: connecting anew")
)

// link is a connection, with the credentials it was made with.
type link struct {
	client         *clientv3.Client
	user, password string
}

// dialing is an attempt to connect that all who want to share.
type dialing struct {
	done chan struct{}
	link *link
	err  error
}

// connect returns the connection. Making it costs no request, except with a password, which etcd checks first.
func (d *Driver) connect(ctx context.Context) (*link, error) {
	d.mu.Lock()
	switch {
	case d.closed:
		d.mu.Unlock()
		return nil, registry.ErrClosed
	case d.refused != nil && time.Now().Before(d.retryAt):
		defer d.mu.Unlock()
		return nil, d.refused
	case d.link != nil:
		defer d.mu.Unlock()
		return d.link, nil
	}
	a := d.dialing
	if a == nil {
		a = &dialing{done: make(chan struct{})}
		d.dialing = a
		d.spawn(func() { d.dial(a) })
	}
	d.mu.Unlock()
	select {
	case <-a.done:
		return a.link, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("connecting to etcd at %s: %w", d.where(), ctx.Err())
	}
}

func (d *Driver) dial(a *dialing) {
	defer close(a.done)
	l, err := d.newLink()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dialing = nil
	if err == nil && d.closed {
		_ = l.client.Close()
		err = registry.ErrClosed
	}
	if err != nil {
		a.err = d.explainLocked(err)
		return
	}
	a.link, d.link, d.refused = l, l, nil
	d.spawn(func() { d.follow(l) })
}

func (d *Driver) newLink() (*link, error) {
	user, password, err := d.opt.Credentials()
	if err != nil {
		return nil, err
	}
	scheme := "http://"
	if d.opt.TLS != nil {
		scheme = "https://"
	}
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: idleAfter, Interval: idleEvery, Count: int(pingTimeout / idleEvery)}}
	options := []grpc.DialOption{grpc.WithIdleTimeout(0), grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", addr)
	}), grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
		MinConnectTimeout: 3 * time.Second})}
	if d.opt.TLS != nil && d.opt.TLS.ServerName != "" { // the client would ignore it
		options = append(options, grpc.WithAuthority(d.opt.TLS.ServerName))
	}
	c := clientv3.Config{Context: d.ctx, Username: user, Password: password, TLS: d.opt.TLS, DialTimeout: authTimeout,
		DialKeepAliveTime: pingEvery, DialKeepAliveTimeout: pingTimeout, MaxUnaryRetries: tries, Logger: zap.NewNop(),
		DialOptions: options}
	for _, e := range d.endpoints {
		c.Endpoints = append(c.Endpoints, scheme+e)
	}
	client, err := clientv3.New(c)
	if err != nil {
		return nil, err
	}
	return &link{client: client, user: user, password: password}, nil
}

// follow watches over a connection: when it has been broken for longer than patience watches fail, and when it is back
// it is found out whether the data are still the same.
func (d *Driver) follow(l *link) {
	ctx, conn := l.client.Ctx(), l.client.ActiveConnection()
	broken, failed := false, false
	for ctx.Err() == nil {
		state := conn.GetState()
		wait, cancel := ctx, context.CancelFunc(func() {})
		switch {
		case state == connectivity.Ready && !broken:
		case state == connectivity.Ready:
			if d.verify(l) {
				broken, failed = false, false
				continue
			}
			wait, cancel = context.WithTimeout(ctx, 200*time.Millisecond)
		case state == connectivity.Idle && !broken: // nothing has been asked yet
		case !failed:
			broken = true
			wait, cancel = context.WithTimeout(ctx, patience)
		}
		changed := conn.WaitForStateChange(wait, state)
		cancel()
		if !changed && ctx.Err() == nil && broken && !failed && state != connectivity.Ready {
			failed = true
			d.fail(fmt.Errorf("%w at %s: the connection has been broken for %v: %s", errSilent, d.where(), patience, cmp.Or(l.ailment(), "no answer")))
		}
		if state == connectivity.Ready && changed {
			broken = true
		}
	}
}

// verify looks at the data behind a connection that is back. It reports whether that could be found out.
func (d *Driver) verify(l *link) bool {
	ctx, cancel := context.WithTimeout(l.client.Ctx(), requestTimeout)
	defer cancel()
	known := d.known()
	res, err := l.client.Get(ctx, d.opt.Prefix+epochKey)
	if err != nil {
		_ = d.explain(l, err) // notes refused credentials
		return false
	}
	epoch := ""
	if len(res.Kvs) > 0 {
		epoch = string(res.Kvs[0].Value)
	}
	d.same(epoch, res.Header.GetRevision(), known)
	d.mu.Lock()
	held := slices.Collect(maps.Values(d.held))
	for _, s := range d.sessions {
		s.suspect.Store(true)
	}
	d.mu.Unlock()
	for _, l := range held {
		l.rouse()
	}
	return true
}

// data is what tells one etcd's data from another's.
type data struct {
	epoch    string // empty = it had none, or it was not read yet
	revision int64
}

// known returns what is known of the data now.
func (d *Driver) known() data {
	revision := d.reached(0)
	d.mu.Lock()
	defer d.mu.Unlock()
	return data{d.epoch, revision}
}

// same reports whether an epoch and a revision can be those of the data known so far, and if not tells all watches. known is what was
// known before they were asked for: an answer from before the first epoch was written may arrive after it.
func (d *Driver) same(epoch string, revision int64, known data) bool {
	d.mu.Lock()
	same := revision >= known.revision && (known.epoch == "" || known.epoch == epoch) && (epoch == "" || d.epoch == "" || d.epoch == epoch)
	if same {
		d.epoch = cmp.Or(d.epoch, epoch)
		d.revision = max(d.revision, revision)
	} else {
		d.epoch, d.revision = epoch, revision
	}
	d.mu.Unlock()
	if !same {
		d.fail(errOther)
	}
	return same
}

// fail ends all watches.
func (d *Driver) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for w := range d.watches {
		w.cancel(err)
	}
}

func (d *Driver) where() string { return strings.Join(d.endpoints, ",") }

// explain says what an error of etcd means, and notes refused credentials.
func (d *Driver) explain(l *link, err error) error {
	if isRefusal(err) {
		d.replace(l)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		if why := l.ailment(); why != "" {
			return fmt.Errorf("%w at %s: %s: %w", errSilent, d.where(), why, err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.explainLocked(err)
}

// ailment says what is wrong with a connection, empty if that is not known. Requests wait for the connection, and so
// never hear of it; one that does not wait is told at once, and not sent.
func (l *link) ailment() string {
	conn := l.client.ActiveConnection()
	if conn.GetState() == connectivity.Ready {
		return ""
	}
	ctx, cancel := context.WithTimeout(l.client.Ctx(), 100*time.Millisecond)
	defer cancel()
	_, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte{0}}, grpc.WaitForReady(false))
	if s, ok := status.FromError(err); ok && s.Code() == codes.Unavailable {
		return s.Message()
	}
	return ""
}

// replace gives a connection up if there are other credentials now.
func (d *Driver) replace(l *link) {
	user, password, err := d.opt.Credentials()
	if err != nil || user == l.user && password == l.password {
		return
	}
	d.mu.Lock()
	var held []*lease
	if d.link == l {
		d.link = nil
		held = slices.Collect(maps.Values(d.held))
		d.spawn(func() { _ = l.client.Close() })
		for w := range d.watches {
			w.cancel(errChange)
		}
	}
	d.mu.Unlock()
	for _, h := range held {
		h.end() // it is announced again through the next connection, on the same lease of etcd's
	}
}

// spawn runs f on a goroutine that Close waits for, unless it is too late; d.mu is held.
func (d *Driver) spawn(f func()) bool {
	if d.closed {
		return false
	}
	d.wg.Go(f)
	return true
}

func (d *Driver) explainLocked(err error) error {
	switch {
	case isRefusal(err):
		err = fmt.Errorf("etcd at %s refuses the credentials: %s; check user and password", d.where(), message(err))
		if d.refused == nil || time.Now().After(d.retryAt) {
			bound := min(strikeMin<<min(d.strikes, 10), strikeMax)
			d.strikes++
			d.retryAt = time.Now().Add(bound/2 + time.Duration(rand.Int64N(int64(bound/2))))
		}
		d.refused = err
		return err
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		return fmt.Errorf("etcd at %s denies the permission: the role needs read, and to announce also write, on the prefix %s", d.where(), d.opt.Prefix)
	case errors.Is(err, context.Canceled), errors.Is(err, registry.ErrClosed), errors.Is(err, errSilent):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w at %s in time: %w", errSilent, d.where(), err)
	}
	return fmt.Errorf("etcd at %s: %s", d.where(), message(err))
}

// accepted notes that the credentials are good.
func (d *Driver) accepted() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused, d.strikes = nil, 0
}

// isRefusal reports whether etcd does not take the credentials, which is expensive for it to find out.
func isRefusal(err error) bool {
	for _, refusal := range []error{rpctypes.ErrAuthFailed, rpctypes.ErrInvalidAuthToken, rpctypes.ErrUserEmpty, rpctypes.ErrUserNotFound, rpctypes.ErrAuthOldRevision} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// message is an error without the words of gRPC around it.
func message(err error) string {
	if s, ok := status.FromError(err); ok {
		return s.Message()
	}
	return err.Error()
}
