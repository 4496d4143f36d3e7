package etcdregistry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hull-go/hull/registry"
)

const (
	// DefaultPrefix is what the keys begin with.
	DefaultPrefix = "/hull/"
	// DefaultPort is that of hosts which name none.
	DefaultPort = "2379"

	// requestTimeout bounds one request whose caller sets no bound.
	requestTimeout = 5 * time.Second
	// namesPage is how many keys are read at once to find the names of services.
	namesPage = 1000
)

// Options configure a Driver. The zero value is an engine without encryption and credentials.
type Options struct {
	// Prefix is what all keys begin with; empty = DefaultPrefix. A slash is added if it does not end with one.
	Prefix string
	// TLS encrypts the connection; nil = it is plain.
	TLS *tls.Config
	// Credentials tells user and password each time they are needed; nil, or an empty user = none.
	Credentials func() (user, password string, err error)
}

// Driver is a registry in etcd. It is a registry.Driver, Announcer and Deregisterer, and an io.Closer.
type Driver struct {
	endpoints []string
	opt       Options
	ctx       context.Context
	cancel    context.CancelFunc
	wg        sync.WaitGroup

	// Guarded by mu.
	mu       sync.Mutex
	closed   bool
	link     *link     // nil = not connected yet
	dialing  *dialing  // an attempt under way
	refused  error     // the credentials were, until notBefore nobody tries again
	strikes  int       // how often in a row
	retryAt  time.Time // when they may be tried again
	epoch    string    // as last read; empty = there was none
	revision int64     // the highest that was seen
	watches  map[*watching]struct{}
	sessions map[int64]*session // by TTL in seconds
	held     map[string]*lease  // by key

	grave grave
}

// New returns a driver for etcd at endpoints of the form host:port. It does not connect before it is first asked.
func New(endpoints []string, o Options) (*Driver, error) {
	if len(endpoints) == 0 {
		return nil, errors.New("etcdregistry: no endpoint given: write host:port")
	}
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if !strings.HasSuffix(o.Prefix, "/") {
		o.Prefix += "/"
	}
	if len(o.Prefix) > 256 {
		return nil, errors.New("etcdregistry: the prefix has more than 256 bytes: choose a shorter one")
	}
	if o.Credentials == nil {
		o.Credentials = func() (string, string, error) { return "", "", nil }
	}
	d := &Driver{endpoints: slices.Clone(endpoints), opt: o, watches: map[*watching]struct{}{},
		sessions: map[int64]*session{}, held: map[string]*lease{}, grave: grave{turn: make(chan struct{}, 1)}}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d, nil
}

// Parameters are the query parameters of an etcd URL.
func Parameters() []registry.Parameter {
	return append([]registry.Parameter{{Name: "prefix", Default: DefaultPrefix, Usage: "what all keys begin with"}},
		registry.SecureParameters()...)
}

// FromURL returns a driver for etcd://user:password@host:port,host:port?prefix=/hull/.
func FromURL(u *url.URL) (registry.Driver, error) {
	if u.Scheme != "etcd" || u.Opaque != "" || strings.Trim(u.Path, "/") != "" {
		return nil, errors.New("etcdregistry: write the URL as etcd://host:port,host:port?prefix=" + DefaultPrefix)
	}
	d, err := fromURL(u)
	if err != nil {
		return nil, fmt.Errorf("etcdregistry: %w", err)
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
		return nil, errors.New("etcd wants a user and a password: write user:password, or neither")
	}
	return New(hosts, o)
}

// List returns the names of the services that have a node. It reads keys only, and of a large service not all.
func (d *Driver) List(ctx context.Context) ([]string, error) {
	ctx, end, err := d.begin(ctx)
	if err != nil {
		return nil, err
	}
	names, err := d.names(ctx)
	return names, end(err)
}

func (d *Driver) names(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	l, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]struct{}{}
	end := clientv3.GetPrefixRangeEnd(d.opt.Prefix)
	for from := d.opt.Prefix; ; {
		res, err := l.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithKeysOnly(), clientv3.WithLimit(namesPage))
		if err != nil {
			return nil, d.explain(l, err)
		}
		for _, kv := range res.Kvs {
			if service, kind, _, ok := d.parseKey(string(kv.Key)); ok && kind == kindNode {
				found[service] = struct{}{}
			}
		}
		if !res.More || len(res.Kvs) == 0 {
			return slices.Collect(maps.Keys(found)), nil
		}
		last := string(res.Kvs[len(res.Kvs)-1].Key)
		from = last + "\x00"
		if service, _, _, ok := d.parseKey(last); ok {
			if _, known := found[service]; known {
				from = d.opt.Prefix + service + "0" // what follows all of service + "/"
			}
		}
	}
}

// Deregister removes a node's entry, whoever announced it.
func (d *Driver) Deregister(ctx context.Context, service, id string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	l, err := d.connect(ctx)
	if err != nil {
		return err
	}
	key := d.nodeKey(service, id)
	gone, err := d.remove(ctx, l, service, id, byHand, clientv3.Compare(clientv3.CreateRevision(key), ">", 0))
	if err == nil && !gone {
		return registry.ErrUnknown
	}
	return err
}

// Close ends all watches with an error, deregisters what is still announced, and disconnects.
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
	link := d.link
	for w := range d.watches {
		w.cancel(registry.ErrClosed)
	}
	d.mu.Unlock()
	d.cancel()
	if link != nil {
		_ = link.client.Close()
	}
	d.wg.Wait()
	return nil
}
