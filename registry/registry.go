package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hull-go/hull/status"
)

// Defaults of Options, and the Registry's own constants.
const (
	DefaultTTL        = 30 * time.Second
	DefaultInterval   = 10 * time.Second
	DefaultDisbelieve = 0.15
	DefaultGrace      = 60 * time.Second
	DefaultLinger     = 30 * time.Second
	DefaultRelist     = 10 * time.Minute

	jitter     = 0.2                    // share by which an interval varies, each way
	backoffMin = 100 * time.Millisecond // first pause after a failed watch or renewal; full jitter
	backoffMax = 2 * time.Second
	maxIdle    = 1024 // services watched though nobody has them open
)

// Options configure a Registry. The zero value is the default of every setting.
type Options struct {
	// TTL is how long an announced node stays known without a renewal; 0 = 30 s.
	TTL time.Duration
	// Interval is the time between renewals, ± 20 %; 0 = a third of TTL. It must be less than TTL/1.2.
	Interval time.Duration
	// Disbelieve is the share of a service's nodes above which vanishing at once is disbelieved, from 0 to 1;
	// 0 = 0.15. With 1 only an empty answer is.
	Disbelieve float64
	// Grace is how long a vanished node is kept without a sign of life that is certainly its own; 0 = 60 s. One that can be
	// asked who it is (Node.Identifies) goes after 30 s without an answer, if there is a Probe.
	Grace time.Duration
	// Linger is how long a service stays watched after its last View was closed; 0 = 30 s, negative = not at all.
	Linger time.Duration
	// Relist is how long, ± 50 %, a watch goes on before a new one takes its place, which lists the service anew: so that
	// a watch that has died silently, or has missed a change, is not believed for ever; 0 = 10 min, negative = never. Drivers
	// that are SelfChecking are left alone.
	Relist time.Duration
	// Snapshot is the directory for last-known-good sets, one small file per service, so that a program can start
	// while the engine is down; empty = none. It belongs to one program and one engine. A set is believed for 24 h.
	// A directory that cannot be used is logged, not fatal.
	Snapshot string
	// Probe looks at an absent node that has not been heard of for 10 s, where no View has a probe; nil = such nodes go
	// after Grace. It is called on a goroutine of its own, with at most 8 at a time.
	Probe Probe
	// Logger is told about bad entries, disbelief, sick engines and their return; nil = nobody is.
	Logger *slog.Logger
	// Rand is the source of jitter and of IDs, used under a lock; nil = randomly seeded.
	Rand rand.Source
}

func (o *Options) normalise() error {
	if o.TTL == 0 {
		o.TTL = DefaultTTL
	}
	if o.Interval == 0 {
		o.Interval = o.TTL / 3
	}
	if o.Disbelieve == 0 {
		o.Disbelieve = DefaultDisbelieve
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	if o.Linger == 0 {
		o.Linger = DefaultLinger
	}
	if o.Relist == 0 {
		o.Relist = DefaultRelist
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Rand == nil {
		o.Rand = rand.NewPCG(rand.Uint64(), rand.Uint64())
	}
	switch {
	case o.TTL < 0 || o.Interval < 0 || o.Grace < 0:
		return errors.New("registry: TTL, Interval and Grace cannot be negative")
	case float64(o.Interval)*(1+jitter) >= float64(o.TTL):
		return fmt.Errorf("registry: an interval of %v is too long for a TTL of %v: at most a third is wise", o.Interval, o.TTL)
	case o.Relist > 0 && o.Relist < time.Second:
		return fmt.Errorf("registry: Relist is %v: to list every service that often would be a storm, choose a second at least", o.Relist)
	case o.Disbelieve < 0 || o.Disbelieve > 1:
		return fmt.Errorf("registry: Disbelieve is a share from 0 to 1, not %v", o.Disbelieve)
	}
	return nil
}

// Registry finds and announces nodes through a Driver. It is safe for concurrent use.
type Registry struct {
	driver Driver
	opt    Options
	disk   *disk // nil = no snapshots
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	kick   chan struct{} // wakes the housekeeper

	randMu sync.Mutex

	mu            sync.Mutex
	closed        bool
	services      map[string]*watch
	idle          int // services without a view
	registrations map[*Registration]struct{}

	dirtyMu sync.Mutex
	dirty   map[*watch]struct{}

	names names
}

// New returns a Registry over a driver, which it owns from now on.
func New(d Driver, o Options) (*Registry, error) {
	if d == nil {
		return nil, errors.New("registry: no driver given")
	}
	if err := o.normalise(); err != nil {
		return nil, err
	}
	r := &Registry{driver: d, opt: o, kick: make(chan struct{}, 1), services: map[string]*watch{},
		registrations: map[*Registration]struct{}{}, dirty: map[*watch]struct{}{}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if o.Snapshot != "" {
		dk, err := openDisk(o.Snapshot)
		if err != nil {
			o.Logger.Warn("registry: no snapshots are kept on disk", "dir", o.Snapshot, "error", err)
		}
		r.disk = dk
	}
	r.wg.Go(r.keepHouse)
	return r, nil
}

// Options returns the options with defaults filled in.
func (r *Registry) Options() Options { return r.opt }

// Changes reports whether nodes can come and go: not in a registry whose driver is Fixed.
func (r *Registry) Changes() bool {
	_, fixed := r.driver.(Fixed)
	return !fixed
}

// Open returns a view of a service. All views of one service share one watch, which begins with the first and ends
// some time after the last is closed. Open never blocks and never fails: a view of a name that cannot exist stays
// empty and Wait says why.
func (r *Registry) Open(service string) *View {
	if err := ValidName("service", service); err != nil {
		return &View{w: deadWatch(service, &status.Error{Code: status.InvalidArgument, Kind: status.NoNode, Fate: status.NotSent, Cause: err})}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return &View{w: deadWatch(service, unavailable(service, ErrClosed))}
	}
	w := r.services[service]
	if w == nil {
		w = newWatch(r, service)
		r.services[service] = w
		r.wg.Go(w.run)
	} else if w.views == 0 {
		r.idle--
	}
	w.views++
	return &View{w: w}
}

// release gives up one view of w.
func (r *Registry) release(w *watch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || w.views == 0 {
		return
	}
	if w.views--; w.views > 0 {
		return
	}
	r.idle++
	w.idleSince = time.Now()
	if r.opt.Linger < 0 {
		r.drop(w)
		return
	}
	if r.idle > maxIdle {
		oldest := w
		for _, o := range r.services {
			if o.views == 0 && o.idleSince.Before(oldest.idleSince) {
				oldest = o
			}
		}
		r.drop(oldest)
	}
	r.touch(w)
}

// drop ends the watch of an idle service; r.mu is held.
func (r *Registry) drop(w *watch) {
	if r.services[w.name] == w && w.views == 0 {
		delete(r.services, w.name)
		r.idle--
		w.cancel()
	}
}

// Lookup returns the nodes of a service, once. It asks the engine only if the service is not being watched already;
// concurrent lookups share one question, and a negative answer is remembered. A service without nodes is an error
// that wraps *NotFoundError; an engine that fails is reported at once, unless a last good set is there.
func (r *Registry) Lookup(ctx context.Context, service string) (*Service, error) {
	v := r.Open(service)
	defer v.Close()
	return v.wait(ctx, false)
}

// List returns the names of the services that have nodes, sorted.
func (r *Registry) List(ctx context.Context) ([]string, error) {
	return r.names.list(ctx, r)
}

// Deregister removes the entry of a node of another process: one that was planted by hand, or left behind. A node whose
// process lives announces itself again, or the error wraps ErrAlive. It wraps ErrUnknown if there is no such entry, and
// ErrReadOnly if the driver cannot do it.
func (r *Registry) Deregister(ctx context.Context, service, id string) error {
	for _, err := range []error{ValidName("service", service), ValidName("node id", id)} {
		if err != nil {
			return fmt.Errorf("cannot deregister: %w", err)
		}
	}
	d, ok := r.driver.(Deregisterer)
	if !ok {
		return fmt.Errorf("cannot deregister %s of %q: %w", id, service, ErrReadOnly)
	}
	if err := d.Deregister(ctx, service, id); err != nil {
		return fmt.Errorf("cannot deregister %s of %q: %w", id, service, err)
	}
	return nil
}

// Report tells what a caller has seen of a node. healthy: it answered, and is certainly the instance meant (the
// handshake or TLS says so), which keeps a node the engine has lost. Not healthy: it cannot be reached, or has been
// ejected, which lets such a node go; one slow call is not a reason to say so. Cheap, and free for a healthy node of
// an undoubted service.
func (r *Registry) Report(service, nodeID string, healthy bool) {
	r.mu.Lock()
	w := r.services[service]
	r.mu.Unlock()
	if w != nil {
		w.report(nodeID, healthy)
	}
}

// Close deregisters what is still registered, ends all watches, waits for every goroutine and closes the driver.
// Views keep their last snapshot.
func (r *Registry) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	regs := make([]*Registration, 0, len(r.registrations))
	for g := range r.registrations {
		regs = append(regs, g)
	}
	r.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), r.opTimeout())
	defer cancel()
	for _, g := range regs {
		g.beginClose(ctx)
	}
	var errs []error
	for _, g := range regs {
		errs = append(errs, g.Close(ctx))
	}
	r.cancel()
	r.wg.Wait()
	if c, ok := r.driver.(io.Closer); ok {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// opTimeout bounds one request to the engine.
func (r *Registry) opTimeout() time.Duration { return min(r.opt.Interval, 5*time.Second) }

// float returns a random number in [0, 1).
func (r *Registry) float() float64 {
	r.randMu.Lock()
	defer r.randMu.Unlock()
	return float64(r.opt.Rand.Uint64()>>11) / (1 << 53)
}

func (r *Registry) newID() string {
	r.randMu.Lock()
	defer r.randMu.Unlock()
	return fmt.Sprintf("%016x", r.opt.Rand.Uint64())
}

// backoff returns the pause after the n-th failure in a row, counted from 0: full jitter up to a doubling bound.
func (r *Registry) backoff(n int) time.Duration {
	bound := backoffMax
	if n < 10 {
		bound = min(backoffMin<<n, backoffMax)
	}
	return max(time.Millisecond, time.Duration(r.float()*float64(bound)))
}

// relist returns how long the next watch goes on, at most; 0 = as long as it likes. Services that were opened together are not
// listed together.
func (r *Registry) relist() time.Duration {
	if _, ok := r.driver.(SelfChecking); ok || r.opt.Relist < 0 {
		return 0
	}
	return max(time.Millisecond, time.Duration((0.5+r.float())*float64(r.opt.Relist)))
}

// interval returns the time to the next renewal.
func (r *Registry) interval() time.Duration {
	return time.Duration(float64(r.opt.Interval) * (1 - jitter + 2*jitter*r.float()))
}

// sleep waits for d and reports whether ctx is still alive then.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func unavailable(service string, cause error) error {
	return &status.Error{Code: status.Unavailable, Kind: status.NoNode, Fate: status.NotSent,
		Message: fmt.Sprintf("service %q cannot be looked up", service), Cause: cause}
}
