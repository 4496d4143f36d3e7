package hull

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"weak"

	"google.golang.org/grpc"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/pool"
)

// Client calls services by their name in discovery. One is enough for a program. It is safe for concurrent use.
type Client struct {
	opt      clientOptions
	log      *slog.Logger
	book     *spec.Book
	registry *registry.Registry
	closeReg func()
	pool     *pool.Pool
	calls    sync.Pool // of *unaryCall
	recorder recorder
	tallies  tallies
	origin   origin
	admin    *adminPage
	events   sync.WaitGroup // logEvents
	quiet    func()         // ends it; nil without a logger

	mu       sync.Mutex
	closed   bool
	services map[string]*service
	resting  map[string]weak.Pointer[service] // see makeRoom
	targets  *registry.Registry               // nil until a service is named by an address
}

// NewClient returns a client. With no options it finds services on this machine and has every policy on.
func NewClient(opts ...ClientOption) (*Client, error) {
	c := &Client{services: map[string]*service{}, resting: map[string]weak.Pointer[service]{}}
	var errs []error
	for _, o := range opts {
		if err := o.client(&c.opt); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("hull: client: %w", errors.Join(errs...))
	}
	if c.log = c.opt.shared.log; c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.opt.seen != nil {
		c.recorder.next = observer(c.opt.seen)
	}
	var err error
	if c.book, err = spec.NewBook(c.opt.spec); err != nil {
		return nil, fmt.Errorf("hull: client: %w", err)
	}
	if c.opt.tune != nil {
		c.book.Tune(c.opt.tune)
	}
	dialer, err := newDialer(&c.opt)
	if err != nil {
		return nil, fmt.Errorf("hull: client: %w", err)
	}
	if c.pool, err = pool.New(dialer, pool.Options{OnState: c.nodeState}); err != nil {
		return nil, fmt.Errorf("hull: client: %w", err)
	}
	if c.registry, c.closeReg, err = c.opt.shared.openRegistry(); err != nil {
		return nil, errors.Join(fmt.Errorf("hull: client: %w", err), c.pool.Close())
	}
	if c.admin, err = openAdmin(c.opt.admin, nil, c, c.log); err != nil {
		c.closeReg()
		return nil, errors.Join(fmt.Errorf("hull: client: %w", err), c.pool.Close())
	}
	if l := c.opt.shared.log; l != nil {
		var ctx context.Context
		ctx, c.quiet = context.WithCancel(context.Background())
		c.events.Go(func() { c.logEvents(ctx, l) })
	}
	return c, nil
}

// To returns the connection to a service, by its name in discovery. It costs next to nothing and opens nothing: ask for it
// where it is needed. Options hold for every call made through it. Whether the service exists shows at the first call.
//
// A server that no discovery knows is named by its address instead: grpc://host:port, http://host:port (JSON) or hull://host:port.
func (c *Client) To(name string, opts ...CallOption) *Conn {
	name, direct, err := targetName(name)
	c.mu.Lock()
	s := c.lookup(name)
	var rested []*service
	if s == nil {
		rested = c.makeRoom()
		s = newService(c, name)
		s.registry, s.closed = c.registry, c.closed
		if s.err == nil && direct {
			s.registry, s.err = c.direct()
		}
		if err != nil {
			s.err = err
		}
		c.services[name] = s
	}
	s.used.Store(true)
	c.mu.Unlock()
	c.retire(rested)
	if len(opts) == 0 {
		return s.conn
	}
	return newConn(s, opts)
}

// direct returns the registry of services that are named by their address. mu is held.
func (c *Client) direct() (*registry.Registry, error) {
	if c.targets == nil && !c.closed {
		r, err := registry.New(targets{}, registry.Options{})
		if err != nil {
			return nil, err
		}
		c.targets = r
	}
	return c.targets, nil
}

// Apply puts another specification in force, also for connections that exist. Calls under way finish with the one they began
// with; policies whose options did not change keep their state. An invalid one is refused and changes nothing.
func (c *Client) Apply(s *spec.Spec) error { return c.apply(s, "the program, with Client.Apply") }

// apply notes who says what is in force.
func (c *Client) apply(s *spec.Spec, who string) error {
	if err := c.book.Apply(s); err != nil {
		return err
	}
	c.origin.set(who)
	return nil
}

// Spec returns the specification in force. It must not be changed.
func (c *Client) Spec() *spec.Spec { return c.book.Spec() }

// Registry returns the registry that the client finds services in.
func (c *Client) Registry() *registry.Registry { return c.registry }

// Close closes every connection and waits until nothing of the client runs any more. Calls under way fail.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	var views []*registry.View
	for _, s := range c.services {
		if v := s.close(); v != nil {
			views = append(views, v)
		}
	}
	direct := c.targets
	c.mu.Unlock()
	c.admin.close()
	if c.quiet != nil {
		c.quiet()
		c.events.Wait()
	}
	err := c.pool.Close()
	for _, v := range views {
		v.Close()
	}
	if direct != nil {
		err = errors.Join(err, direct.Close())
	}
	c.closeReg()
	return err
}

// nodeState is told by the pool when a node becomes reachable or unreachable, and tells it to everybody who calls the node.
func (c *Client) nodeState(n *pool.Node, up bool, err *status.Error) {
	if up {
		c.log.Debug("node is reachable", "address", n.Addr())
	} else {
		c.log.Warn("node cannot be reached", "address", n.Addr(), "error", err)
	}
	c.mu.Lock()
	services := slices.Collect(maps.Values(c.services))
	c.mu.Unlock()
	now := policy.Now()
	for _, s := range services {
		if s.linked(now, n) && up {
			c.book.Nudge(now, s.name)
		}
	}
}

// forget drains the connections to nodes of which no service has any more, where they are and as they were reached.
func (c *Client) forget(old, snap *registry.Service) {
	var gone []*registry.Node
	for _, n := range old.Nodes { // mostly the same ones, reached as before
		if m := snap.Node(n.ID); m == nil || m.Address != n.Address || !slices.Equal(c.via(m), c.via(n)) {
			gone = append(gone, n)
		}
	}
	if len(gone) == 0 {
		return
	}
	has := make(map[string]bool, len(snap.Nodes))
	c.note(has, snap)
	c.mu.Lock()
	for _, s := range c.services {
		c.note(has, s.seen.Load())
	}
	c.mu.Unlock()
	for _, n := range gone {
		if !has[c.reachedAs(n)] && c.pool.Known(n.Address, c.via(n)...) != nil {
			c.pool.Forget(n.Address, c.via(n)...)
		}
	}
}

// note adds how the nodes of snap are reached.
func (c *Client) note(to map[string]bool, snap *registry.Service) {
	if snap == nil {
		return
	}
	for _, n := range snap.Nodes {
		to[c.reachedAs(n)] = true
	}
}

// reachedAs is the same for nodes that have connections in common.
func (c *Client) reachedAs(n *registry.Node) string {
	return n.Address + "\x00" + strings.Join(c.via(n), "\x00")
}

// observer tells the user's function what pipelines observe.
type observer func(*CallInfo)

// Call implements policy.Observer.
func (f observer) Call(now policy.Time, c *policy.Call, s *policy.Story) {
	var i CallInfo
	i.fill(now, c, s)
	f(&i)
}

var _ grpc.ClientConnInterface = (*Conn)(nil)
var _ transport.Handler = (*handler)(nil)
