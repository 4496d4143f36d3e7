package consulregistry

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/registry"
)

const (
	// DefaultPort is that of hosts which name none.
	DefaultPort = "8500"

	requestTimeout = 5 * time.Second
	dialTimeout    = 2 * time.Second
	// maxPolls is how many blocking queries there are at once; an agent takes 200 connections from one address.
	maxPolls = 100
	// maxGuards is how many nodes of a process are looked after between their renewals.
	maxGuards = 32
)

// Options configure a Driver. The zero value is an agent without encryption and tokens.
type Options struct {
	// Prefix is what the names of services begin with in Consul; empty = nothing.
	Prefix string
	// Datacenter is whose services are looked for; empty = the agent's own. Nodes are announced in that one.
	Datacenter string
	// Protocols are what services speak that were not registered by Hull; empty = they are refused.
	Protocols []string
	// TLS encrypts the connection; nil = it is plain.
	TLS *tls.Config
	// Token tells the token for each request; nil, or empty = none.
	Token func() (string, error)
}

// Driver is a registry in Consul. It is a registry.Driver, Announcer and Deregisterer, and an io.Closer.
type Driver struct {
	agents []string
	opt    Options
	owner  string // tells our own entries
	client *http.Client
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	polls  chan struct{} // a token for each blocking query under way
	heard  atomic.Int64  // when an agent last answered something, in nanoseconds of the wall clock

	// Guarded by mu.
	mu      sync.Mutex
	closed  bool
	agent   int // the one that is asked
	watches map[*watching]struct{}
	probing bool
	held    map[string]*lease // by the ID that Consul has
}

// New returns a driver for Consul agents of the form host:port. It does not connect before it is first asked.
func New(agents []string, o Options) (*Driver, error) {
	if len(agents) == 0 {
		return nil, errors.New("consulregistry: no agent given: write host:port")
	}
	if o.Prefix != "" && (registry.EscapeName(o.Prefix) != o.Prefix || len(o.Prefix) > 64 || registry.ValidName("prefix", o.Prefix) != nil) {
		return nil, fmt.Errorf("consulregistry: prefix %.70q: choose at most 64 lower-case letters, digits, dots and dashes", o.Prefix)
	}
	if o.Token == nil {
		o.Token = func() (string, error) { return "", nil }
	}
	d := &Driver{agents: slices.Clone(agents), opt: o, owner: rand.Text(), polls: make(chan struct{}, maxPolls),
		watches: map[*watching]struct{}{}, held: map[string]*lease{}}
	d.client = &http.Client{
		Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, TLSClientConfig: o.TLS,
			TLSHandshakeTimeout: dialTimeout, MaxIdleConnsPerHost: maxPolls, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a token is for no one else
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d, nil
}

// Parameters are the query parameters of a Consul URL.
func Parameters() []registry.Parameter {
	return append([]registry.Parameter{
		{Name: "prefix", Usage: "what the names of services begin with in Consul"},
		{Name: "dc", Default: "the agent's", Usage: "datacenter whose services are looked for"},
		{Name: "protocol", Usage: "what services speak that others have registered, separated by commas: hull/1, grpc, http; none = they are refused"},
	}, registry.SecureParameters()...)
}

// FromURL returns a driver for consul://token@host:port,host:port?prefix=x.
func FromURL(u *url.URL) (registry.Driver, error) {
	if u.Scheme != "consul" || u.Opaque != "" || strings.Trim(u.Path, "/") != "" {
		return nil, errors.New("consulregistry: write the URL as consul://host:port")
	}
	d, err := fromURL(u)
	if err != nil {
		return nil, fmt.Errorf("consulregistry: %w", err)
	}
	return d, nil
}

func fromURL(u *url.URL) (*Driver, error) {
	q, err := registry.CheckQuery(u, Parameters())
	if err != nil {
		return nil, err
	}
	hosts, err := registry.Hosts(u, DefaultPort)
	if err != nil {
		return nil, err
	}
	o := Options{Prefix: q.Get("prefix"), Datacenter: q.Get("dc")}
	if p := q.Get("protocol"); p != "" {
		o.Protocols = strings.Split(p, ",")
	}
	if o.TLS, err = registry.TLSConfig(q); err != nil {
		return nil, err
	}
	credentials, err := registry.Credentials(u, q)
	if err != nil {
		return nil, err
	}
	o.Token = func() (string, error) {
		user, password, err := credentials()
		if password != "" { // any user: Consul knows tokens only
			return password, err
		}
		return user, err
	}
	return New(hosts, o)
}

// List returns the names of the services that have a node.
func (d *Driver) List(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var services map[string][]string
	agent := d.current()
	if _, err := d.get(ctx, agent, "/v1/catalog/services", d.query(), &services); err != nil {
		return nil, d.explain(agent, err)
	}
	found := map[string]struct{}{}
	for service, tags := range services {
		ours := false
		for _, tag := range tags {
			if name, ok := strings.CutPrefix(tag, tagPrefix); ok && registry.ValidName("service", name) == nil && d.serviceName(name) == service {
				found[name], ours = struct{}{}, true
			}
		}
		if name, ok := strings.CutPrefix(service, d.opt.Prefix); ok && !ours && len(d.opt.Protocols) > 0 && registry.ValidName("service", name) == nil {
			found[name] = struct{}{}
		}
	}
	return slices.Collect(maps.Keys(found)), nil
}

// query is what reading requests have in common.
func (d *Driver) query() url.Values {
	q := url.Values{}
	if d.opt.Datacenter != "" {
		q.Set("dc", d.opt.Datacenter)
	}
	return q
}

// Deregister removes a node's entry, whoever announced it, if the agent has it. One of another agent has to be removed
// there.
func (d *Driver) Deregister(ctx context.Context, service, id string) error {
	if registry.ValidName("service", service) != nil || registry.ValidName("node id", id) != nil {
		return registry.ErrUnknown
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	agent, sid := d.current(), d.serviceID(service, id)
	local, _, err := d.local(ctx, agent, sid)
	if err != nil {
		return d.explain(agent, err)
	}
	if local != nil && local.Meta[leftKey] == "" {
		return d.explain(agent, d.leave(ctx, agent, local, service, byHand))
	}
	if local != nil {
		return registry.ErrUnknown
	}
	entries, _, err := d.health(ctx, agent, service, d.query(), 0)
	if err != nil {
		return d.explain(agent, err)
	}
	for _, e := range entries {
		if e.Service.ID == sid && e.Service.Meta[leftKey] == "" {
			return fmt.Errorf("%s of %s is registered with the agent %.60q at %.60q: deregister it there", id, service, e.Node.Node, e.Node.Address)
		}
	}
	return registry.ErrUnknown
}

// Close ends all watches with an error, and deregisters what is still announced.
func (d *Driver) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	held := slices.Collect(maps.Values(d.held))
	d.mu.Unlock()

	ctx, cancel := context.WithTimeout(d.ctx, 2*time.Second)
	defer cancel()
	for _, l := range held {
		_ = l.Close(ctx) // what stays expires
	}
	d.mu.Lock()
	d.closed = true
	for w := range d.watches {
		w.cancel(registry.ErrClosed)
	}
	d.mu.Unlock()
	d.cancel()
	d.wg.Wait()
	d.client.CloseIdleConnections()
	return nil
}

// current is the agent that is asked.
func (d *Driver) current() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.agents[d.agent]
}

// leaveAgent takes the next agent after one that does not answer.
func (d *Driver) leaveAgent(agent string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.agents[d.agent] == agent {
		d.agent = (d.agent + 1) % len(d.agents)
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
