package zkregistry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/hull-go/hull/registry"
)

const (
	// readerTTL is the timeout of the session that reads: two thirds of it find a server that is silent.
	readerTTL = 10 * time.Second
	// patience is how long a connection may be broken before it is given up with its session.
	patience = 2 * time.Second
	// helloTimeout is what one server has to make a session, dialTimeout what all have. A server that makes them for a thousand
	// programs takes longer, and what has been given up it makes all the same: the time doubles with each failure, up to maxHello.
	dialTimeout, helloTimeout = 4 * time.Second, 1500 * time.Millisecond
	maxHello                  = 6 * time.Second
	reconnectMin              = 100 * time.Millisecond
	reconnectMax              = time.Second
	// maxAnswer bounds what a server sends at once, in bytes: the names of a service.
	maxAnswer = 64 << 20
	// maxRequest is what the link that reads sends at once, in bytes: its watches, 128 KiB of them, or the log of a service.
	maxRequest = 256 << 10
	// parallel is how many requests of one kind are sent before the first is answered.
	parallel = 32
)

var (
	errSilent  = errors.New("ZooKeeper does not answer")
	errExpired = errors.New("the session has ended")
)

// link is a session, with the connection it has at the moment.
type link struct {
	d    *Driver
	ttl  time.Duration // 0 = the one that reads
	conn *zk.Conn
	// hello is what one server has to make the session.
	hello time.Duration
	// ctx ends when the link is given up, and its cause says why.
	ctx    context.Context
	cancel context.CancelCauseFunc
	ready  chan struct{} // closed when the session is there
	none   chan struct{} // closed when no server could be reached before that

	mu        sync.Mutex
	wire      net.Conn
	dialed    int // servers tried
	tries     int // since there was a session
	session   int64
	connected bool
	ended     bool
	ailment   error       // why the last dial failed
	giveUp    *time.Timer // runs while there is no connection
	watches   map[string]map[*watching]struct{}
	leases    map[string]*lease
}

// dialing is an attempt to connect that all who want to share.
type dialing struct {
	done chan struct{}
	link *link
	err  error
}

// connect returns the link for a TTL.
func (d *Driver) connect(ctx context.Context, ttl time.Duration) (*link, error) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, registry.ErrClosed
	}
	if l := d.links[ttl]; l != nil {
		defer d.mu.Unlock()
		return l, nil
	}
	if d.failed != nil && time.Now().Before(d.retryAt) {
		defer d.mu.Unlock()
		return nil, d.failed
	}
	a := d.dialing[ttl]
	if a == nil {
		a = &dialing{done: make(chan struct{})}
		d.dialing[ttl] = a
		d.wg.Go(func() { d.dial(a, ttl) })
	}
	d.mu.Unlock()
	select {
	case <-a.done:
		return a.link, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("connecting to ZooKeeper at %s: %w", d.where(), ctx.Err())
	}
}

func (d *Driver) dial(a *dialing, ttl time.Duration) {
	defer close(a.done)
	l, err := d.newLink(ttl)
	if err != nil {
		err = d.explain(l, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.dialing, ttl)
	if err == nil && d.closed {
		err = registry.ErrClosed
	}
	if err != nil {
		if l != nil {
			l.endLocked(err)
		}
		a.err, d.failed = err, err
		bound := min(reconnectMin<<min(d.strikes, 10), reconnectMax)
		d.retryAt = time.Now().Add(bound/2 + time.Duration(rand.Int64N(int64(bound/2))))
		d.strikes++
		return
	}
	a.link, d.failed, d.strikes = l, nil, 0
	if l.ctx.Err() == nil { // or it has been given up already
		d.links[ttl] = l
	}
}

func (d *Driver) newLink(ttl time.Duration) (*link, error) {
	user, password, err := d.opt.Credentials()
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	hello := min(helloTimeout<<min(d.strikes, 10), maxHello)
	d.mu.Unlock()
	l := &link{d: d, ttl: ttl, hello: hello, ready: make(chan struct{}), none: make(chan struct{}),
		watches: map[string]map[*watching]struct{}{}, leases: map[string]*lease{}}
	l.ctx, l.cancel = context.WithCancelCause(d.ctx)
	timeout, sends := ttl, maxRecord+8192
	if timeout == 0 {
		timeout, sends = readerTTL, maxRequest
	}
	l.mu.Lock() // the first events wait until conn is set
	conn, events, err := zk.Connect(d.servers, timeout, zk.WithDialer(l.dial), zk.WithHostProvider((*hosts)(l)),
		zk.WithEventCallback(l.hear), zk.WithLogger(quiet{}), zk.WithLogInfo(false), zk.WithMaxBufferSize(maxAnswer),
		zk.WithMaxConnBufferSize(sends))
	l.conn = conn
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	d.wg.Go(func() {
		for range events { // until all its goroutines have ended
		}
	})
	ctx, cancel := context.WithTimeout(l.ctx, dialTimeout+hello-helloTimeout)
	defer cancel()
	select {
	case <-l.ready:
	case <-l.none:
		return l, errSilent
	case <-ctx.Done():
		return l, errSilent
	}
	if user == "" {
		return l, nil
	}
	_, err = ask(ctx, l, func(c *zk.Conn) (struct{}, error) {
		return struct{}{}, c.AddAuth("digest", []byte(user+":"+password))
	})
	return l, err
}

// acl is whom that which is made belongs to.
func (d *Driver) acl() []zk.ACL {
	if user, _, err := d.opt.Credentials(); err == nil && user == "" {
		return zk.WorldACL(zk.PermAll)
	}
	return zk.AuthACL(zk.PermAll)
}

// hosts is how a link chooses its servers: one after the other, with a pause when all have been tried.
type hosts link

// Init implements zk.HostProvider.
func (h *hosts) Init([]string) error { return nil }

// Len implements zk.HostProvider.
func (h *hosts) Len() int { return len(h.d.servers) }

// Connected implements zk.HostProvider.
func (h *hosts) Connected() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tries = 0
}

// Next implements zk.HostProvider.
func (h *hosts) Next() (server string, again bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.d.servers)
	again = h.tries > 0 && h.tries%n == 0 || h.ctx.Err() != nil
	server = h.d.servers[h.dialed%n]
	h.tries++
	h.dialed++
	return server, again
}

// dial connects to a server. A link that has been given up connects to none.
func (l *link) dial(network, address string, timeout time.Duration) (net.Conn, error) {
	l.mu.Lock()
	again := l.tries > 1
	l.mu.Unlock()
	if again { // not all programs at once
		select {
		case <-time.After(time.Duration(rand.Int64N(int64(200 * time.Millisecond)))):
		case <-l.ctx.Done():
		}
	}
	ctx, cancel := context.WithTimeout(l.ctx, timeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err == nil && l.d.opt.TLS != nil {
		conn, err = secure(ctx, conn, address, l.d.opt.TLS)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ailment = err
	if err == nil && l.ctx.Err() != nil {
		_ = conn.Close()
		err = context.Cause(l.ctx)
	}
	if err != nil {
		if l.dialed == len(l.d.servers) && l.session == 0 {
			close(l.none)
		}
		return nil, err
	}
	l.wire = &wire{Conn: conn, hello: l.hello}
	return l.wire, nil
}

func secure(ctx context.Context, conn net.Conn, address string, config *tls.Config) (net.Conn, error) {
	config = config.Clone()
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(address)
	}
	t := tls.Client(conn, config)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return t, nil
}

// wire is a connection on which a server has to say its first word soon. The client would wait for it for minutes.
type wire struct {
	net.Conn
	hello   time.Duration
	greeted bool // of the one goroutine that reads
}

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.greeted = w.greeted || n > 0
	return n, err
}

func (w *wire) SetReadDeadline(t time.Time) error {
	if soon := time.Now().Add(w.hello); !w.greeted && t.After(soon) {
		t = soon
	}
	return w.Conn.SetReadDeadline(t)
}

// quiet takes what the client would log: the driver returns errors instead.
type quiet struct{}

// Printf implements zk.Logger.
func (quiet) Printf(string, ...any) {}

// hear takes an event of the client. It does not block.
func (l *link) hear(e zk.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Type != zk.EventSession {
		l.tell(e)
		return
	}
	switch e.State {
	case zk.StateHasSession:
		if l.giveUp != nil {
			l.giveUp.Stop()
			l.giveUp = nil
		}
		l.connected = true
		switch id := l.conn.SessionID(); {
		case l.session == 0:
			l.session = id
			close(l.ready)
		case l.session != id:
			go l.end(errExpired, false)
		}
	case zk.StateExpired:
		go l.end(errExpired, false)
	case zk.StateDisconnected:
		l.connected = false
		if l.session != 0 && l.giveUp == nil {
			l.giveUp = time.AfterFunc(patience, func() {
				l.end(fmt.Errorf("%w at %s: the connection has been broken for %v", errSilent, l.d.where(), patience), false)
			})
		}
	}
}

// tell passes an event on to those it concerns; l.mu is held.
func (l *link) tell(e zk.Event) {
	if held := l.leases[e.Path]; held != nil {
		held.rouse()
	}
	if service, id, ok := l.d.parsePath(e.Path); ok {
		for w := range l.watches[service] {
			w.hear(id, e.Type)
		}
	}
}

// end gives a link up. In good order its session ends, too; else it is left to end by itself, since nodes may be on it
// that are announced anew in their place.
func (l *link) end(why error, good bool) {
	if good {
		l.cancel(why) // nobody asks any more
		if l.up() {
			l.conn.Close()
		}
	}
	l.d.mu.Lock()
	held := l.endLocked(why)
	l.d.mu.Unlock()
	for _, h := range held {
		h.over()
	}
}

// endLocked is end while d.mu is held; it returns the leases that are over.
func (l *link) endLocked(why error) []*lease {
	if l.d.links[l.ttl] == l {
		delete(l.d.links, l.ttl)
	}
	l.cancel(why)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return nil
	}
	l.ended = true
	if l.giveUp != nil {
		l.giveUp.Stop()
	}
	if l.wire != nil {
		_ = l.wire.Close()
	}
	l.d.wg.Go(l.conn.Close)
	var held []*lease
	for _, h := range l.leases {
		held = append(held, h)
	}
	return held
}

func (l *link) up() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.connected
}

// ask sends a request, which the client cannot cancel: it is left behind.
func ask[T any](ctx context.Context, l *link, request func(*zk.Conn) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	answered := make(chan answer, 1)
	if !l.d.spawn(func() {
		value, err := request(l.conn)
		answered <- answer{value, err}
	}) {
		return none, registry.ErrClosed
	}
	select {
	case a := <-answered:
		if a.err != nil && l.ctx.Err() != nil {
			return none, context.Cause(l.ctx)
		}
		return a.value, a.err
	case <-l.ctx.Done():
		return none, context.Cause(l.ctx)
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// read sends a request that changes nothing, again if the connection breaks meanwhile.
func read[T any](ctx context.Context, l *link, request func(*zk.Conn) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for {
		v, err := ask(ctx, l, request)
		if !errors.Is(err, zk.ErrConnectionClosed) && !errors.Is(err, zk.ErrNoServer) {
			return v, err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-l.ctx.Done():
			return v, context.Cause(l.ctx)
		case <-ctx.Done():
			return v, ctx.Err()
		}
	}
}

// each calls f with 0 … n-1, several at a time, and returns the first error.
func each(ctx context.Context, l *link, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(parallel, n) {
		wg.Go(func() {
			for i := range next {
				if err := f(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range n {
		if ctx.Err() != nil || l.ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	if l.ctx.Err() != nil {
		return context.Cause(l.ctx)
	}
	return context.Cause(ctx)
}

// explain says what an error of ZooKeeper means. l is nil if there is no link.
func (d *Driver) explain(l *link, err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, registry.ErrClosed), errors.Is(err, registry.ErrLost),
		errors.Is(err, registry.ErrTaken), l == nil:
		return err
	case errors.Is(err, zk.ErrAuthFailed):
		return fmt.Errorf("ZooKeeper at %s refuses the credentials: check user and password", d.where())
	case errors.Is(err, zk.ErrNoAuth):
		return fmt.Errorf("ZooKeeper at %s denies the permission: the znodes below %s belong to others; check user and password", d.where(), d.opt.Prefix)
	case errors.Is(err, errSilent), errors.Is(err, context.DeadlineExceeded), errors.Is(err, zk.ErrNoServer), errors.Is(err, zk.ErrConnectionClosed):
		l.mu.Lock()
		ailment := l.ailment
		l.mu.Unlock()
		if ailment != nil && !errors.Is(ailment, context.Canceled) {
			return fmt.Errorf("%w at %s: %w", errSilent, d.where(), ailment)
		}
		if errors.Is(err, errSilent) && !errors.Is(errSilent, err) { // it says where
			return err
		}
		return fmt.Errorf("%w at %s", errSilent, d.where())
	}
	return fmt.Errorf("ZooKeeper at %s: %w", d.where(), err)
}
