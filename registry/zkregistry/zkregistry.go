package zkregistry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/hull-go/hull/registry"
)

const (
	// DefaultPrefix is the znode that all others are below.
	DefaultPrefix = "/hull"
	// DefaultPort is that of hosts which name none.
	DefaultPort = "2181"

	requestTimeout = 5 * time.Second
)

// Options configure a Driver. The zero value is an engine without encryption and credentials.
type Options struct {
	// Prefix is the znode that all others are below; empty = DefaultPrefix. It is made if it is not there.
	Prefix string
	// TLS encrypts the connection; nil = it is plain.
	TLS *tls.Config
	// Credentials tells user and password for each session; nil, or an empty user = none.
	Credentials func() (user, password string, err error)
}

// Driver is a registry in ZooKeeper. It is a registry.Driver, Announcer and Deregisterer, and an io.Closer.
type Driver struct {
	servers []string
	opt     Options
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	// Guarded by mu.
	mu      sync.Mutex
	closed  bool
	links   map[time.Duration]*link    // by TTL; 0 = the one that reads
	dialing map[time.Duration]*dialing // attempts under way
	failed  error                      // the last attempt did, until retryAt nobody tries again
	strikes int                        // how many in a row did
	retryAt time.Time
	ours    map[int64]struct{} // all sessions that announced nodes
	held    map[string]*lease  // by path
}

// New returns a driver for ZooKeeper servers of the form host:port. It does not connect before it is first asked.
func New(servers []string, o Options) (*Driver, error) {
	if len(servers) == 0 {
		return nil, errors.New("zkregistry: no server given: write host:port")
	}
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	o.Prefix = "/" + strings.Trim(o.Prefix, "/")
	for name := range strings.SplitSeq(o.Prefix[1:], "/") {
		if registry.ValidName("prefix", name) != nil || len(o.Prefix) > 256 || o.Prefix == "/zookeeper" {
			return nil, fmt.Errorf("zkregistry: prefix %.60q: write it as %s, with plain names between the slashes", o.Prefix, DefaultPrefix)
		}
	}
	if o.Credentials == nil {
		o.Credentials = func() (string, string, error) { return "", "", nil }
	}
	d := &Driver{servers: slices.Clone(servers), opt: o, links: map[time.Duration]*link{}, dialing: map[time.Duration]*dialing{},
		ours: map[int64]struct{}{}, held: map[string]*lease{}}
	rand.Shuffle(len(d.servers), func(i, k int) { d.servers[i], d.servers[k] = d.servers[k], d.servers[i] })
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d, nil
}

// Parameters are the query parameters of a ZooKeeper URL.
func Parameters() []registry.Parameter {
	return append([]registry.Parameter{{Name: "prefix", Default: DefaultPrefix, Usage: "the znode that all others are below"}},
		registry.SecureParameters()...)
}

// FromURL returns a driver for zk://user:password@host:port,host:port?prefix=/hull.
func FromURL(u *url.URL) (registry.Driver, error) {
	if u.Scheme != "zk" || u.Opaque != "" || strings.Trim(u.Path, "/") != "" {
		return nil, errors.New("zkregistry: write the URL as zk://host:port,host:port?prefix=" + DefaultPrefix)
	}
	d, err := fromURL(u)
	if err != nil {
		return nil, fmt.Errorf("zkregistry: %w", err)
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
	o := Options{Prefix: q.Get("prefix")}
	if o.TLS, err = registry.TLSConfig(q); err != nil {
		return nil, err
	}
	if o.Credentials, err = registry.Credentials(u, q); err != nil {
		return nil, err
	}
	if user, password, _ := o.Credentials(); (user == "") != (password == "") {
		return nil, errors.New("ZooKeeper wants a user and a password: write user:password, or neither")
	}
	return New(hosts, o)
}

// List returns the names of the services that have a node.
func (d *Driver) List(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*requestTimeout)
	defer cancel()
	l, err := d.connect(ctx, 0)
	if err != nil {
		return nil, err
	}
	services, err := read(ctx, l, func(c *zk.Conn) ([]string, error) {
		names, _, err := c.Children(d.opt.Prefix)
		return names, err
	})
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil
	}
	if err != nil {
		return nil, d.explain(l, err)
	}
	services = slices.DeleteFunc(services, func(s string) bool { return registry.ValidName("service", s) != nil })
	found := make([]bool, len(services))
	err = each(ctx, l, len(services), func(ctx context.Context, i int) error {
		stat, err := read(ctx, l, func(c *zk.Conn) (*zk.Stat, error) {
			_, stat, err := c.Exists(d.servicePath(services[i]))
			return stat, err
		})
		found[i] = err == nil && stat.NumChildren > 0
		return err
	})
	if err != nil {
		return nil, d.explain(l, err)
	}
	var names []string
	for i, s := range services {
		if found[i] {
			names = append(names, s)
		}
	}
	return names, nil
}

// Deregister removes a node's entry, whoever announced it.
func (d *Driver) Deregister(ctx context.Context, service, id string) error {
	if registry.ValidName("service", service) != nil || registry.ValidName("node id", id) != nil {
		return registry.ErrUnknown
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	l, err := d.connect(ctx, 0)
	if err != nil {
		return err
	}
	gone, err := d.remove(ctx, l, service, id, byHand, 0)
	if err == nil && !gone {
		return registry.ErrUnknown
	}
	return d.explain(l, err)
}

// Close ends all watches with an error, deregisters what is still announced, and ends its sessions.
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
		_ = l.Close(ctx) // what stays ends with the session
	}
	d.mu.Lock()
	d.closed = true
	links := slices.Collect(maps.Values(d.links))
	d.mu.Unlock()
	for _, l := range links {
		l.end(registry.ErrClosed, true)
	}
	d.cancel()
	d.wg.Wait()
	return nil
}

func (d *Driver) servicePath(service string) string { return d.opt.Prefix + "/" + service }

func (d *Driver) nodePath(service, id string) string { return d.servicePath(service) + "/" + id }

// parsePath takes a path apart; the ID of a service's own is empty.
func (d *Driver) parsePath(path string) (service, id string, ok bool) {
	rest, ok := strings.CutPrefix(path, d.opt.Prefix+"/")
	if !ok {
		return "", "", false
	}
	service, id, _ = strings.Cut(rest, "/")
	return service, id, registry.ValidName("service", service) == nil && !strings.Contains(id, "/")
}

func (d *Driver) where() string { return strings.Join(d.servers, ",") }

// spawn runs f on a goroutine that Close waits for, unless it is too late.
func (d *Driver) spawn(f func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.wg.Go(f)
	return true
}
