package natsregistry

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hull-go/hull/registry"
)

const (
	// DefaultBucket is the name of the bucket.
	DefaultBucket = "hull"
	// DefaultPort is that of hosts which name none.
	DefaultPort = "4222"

	requestTimeout = 5 * time.Second
	// markerTTL is how long it stays known that a key is gone, and why.
	markerTTL = time.Minute
)

// Options configure a Driver. The zero value is a server without encryption and credentials.
type Options struct {
	// Bucket is the key-value bucket; empty = DefaultBucket. It is made if it is not there.
	Bucket string
	// Replicas is how many servers keep the bucket if it has to be made; 0 = 1.
	Replicas int
	// Memory keeps the bucket in memory if it has to be made, instead of on disk.
	Memory bool
	// TLS encrypts the connection; nil = it is plain, unless the server wants it.
	TLS *tls.Config
	// Credentials tells user and password for each connection; a user without a password is a token. nil = none.
	Credentials func() (user, password string, err error)
	// CredsFile is a file of NATS with a JWT and its key, instead of Credentials; empty = none. It is read for each
	// connection.
	CredsFile string
}

// Driver is a registry in NATS. It is a registry.Driver, Announcer and Deregisterer, and an io.Closer.
type Driver struct {
	servers []string
	opt     Options
	owner   string // tells our own entries
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	// Guarded by mu.
	mu      sync.Mutex
	closed  bool
	link    *link    // nil = not connected yet
	dialing *dialing // an attempt under way
	failed  error    // the last one did, until retryAt nobody tries again
	strikes int      // how many in a row did
	retryAt time.Time
	watches map[*watching]struct{}
	held    map[string]*lease // by key
}

// New returns a driver for NATS servers of the form host:port. It does not connect before it is first asked.
func New(servers []string, o Options) (*Driver, error) {
	if len(servers) == 0 {
		return nil, errors.New("natsregistry: no server given: write host:port")
	}
	if o.Bucket == "" {
		o.Bucket = DefaultBucket
	}
	if !regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`).MatchString(o.Bucket) {
		return nil, fmt.Errorf("natsregistry: bucket %.70q: choose letters, digits, _ and -", o.Bucket)
	}
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	if o.Replicas < 0 || o.Replicas > 5 {
		return nil, fmt.Errorf("natsregistry: %d replicas: choose 1, 3 or 5", o.Replicas)
	}
	d := &Driver{servers: slices.Clone(servers), opt: o, owner: rand.Text(), watches: map[*watching]struct{}{}, held: map[string]*lease{}}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d, nil
}

// Parameters are the query parameters of a nats URL.
func Parameters() []registry.Parameter {
	return append([]registry.Parameter{
		{Name: "bucket", Default: DefaultBucket, Usage: "the key-value bucket; it is made if it is not there"},
		{Name: "replicas", Default: "1", Usage: "how many servers keep the bucket, if it has to be made"},
		{Name: "storage", Default: "file", Usage: "where they keep it, if it has to be made: file or memory"},
		{Name: "creds", Usage: "file of NATS with a JWT and its key"},
	}, registry.SecureParameters()...)
}

// FromURL returns a driver for nats://user:password@host:port,host:port?bucket=hull; nats://token@host has a token.
func FromURL(u *url.URL) (registry.Driver, error) {
	if u.Scheme != "nats" || u.Opaque != "" || strings.Trim(u.Path, "/") != "" {
		return nil, errors.New("natsregistry: write the URL as nats://host:port,host:port?bucket=" + DefaultBucket)
	}
	d, err := fromURL(u)
	if err != nil {
		return nil, fmt.Errorf("natsregistry: %w", err)
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
	o := Options{Bucket: q.Get("bucket"), CredsFile: q.Get("creds")}
	if s := q.Get("replicas"); s != "" {
		if o.Replicas, err = strconv.Atoi(s); err != nil || o.Replicas < 1 {
			return nil, fmt.Errorf("replicas=%.20q: write a number", s)
		}
	}
	switch s := q.Get("storage"); s {
	case "memory":
		o.Memory = true
	case "", "file":
	default:
		return nil, fmt.Errorf("storage=%.20q: write file or memory", s)
	}
	if o.TLS, err = registry.TLSConfig(q); err != nil {
		return nil, err
	}
	if o.Credentials, err = registry.Credentials(u, q); err != nil {
		return nil, err
	}
	if o.CredsFile != "" && (u.User != nil || q.Get("credentials") != "") {
		return nil, errors.New("credentials are given twice: leave creds or the others out")
	}
	return New(hosts, o)
}

// List returns the names of the services that have a node.
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
	keys, err := l.bucket.ListKeysFiltered(ctx, kindNode+".>")
	if err != nil {
		return nil, d.explain(l, err)
	}
	defer func() { _ = keys.Stop() }()
	found := map[string]struct{}{}
	for {
		select {
		case key, more := <-keys.Keys():
			if !more {
				if ctx.Err() != nil {
					return nil, d.explain(l, ctx.Err())
				}
				return slices.Collect(maps.Keys(found)), nil
			}
			if service, _, ok := parseKey(key); ok {
				found[service] = struct{}{}
			}
		case <-ctx.Done():
			return nil, d.explain(l, ctx.Err())
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
	key := nodeKey(service, id)
	for range 3 { // the node may be renewed meanwhile
		last, err := l.last(ctx, key)
		if err != nil {
			return d.explain(l, err)
		}
		if last == nil || last.over {
			return registry.ErrUnknown
		}
		if err = l.remove(ctx, key, byHand, last.revision); err == nil || !isConflict(err) {
			return d.explain(l, err)
		}
	}
	return fmt.Errorf("natsregistry: %s of %s changes too fast: try again", id, service)
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
		link.close()
	}
	d.wg.Wait()
	return nil
}

// storage is where the bucket is kept.
func (d *Driver) storage() jetstream.StorageType {
	if d.opt.Memory {
		return jetstream.MemoryStorage
	}
	return jetstream.FileStorage
}

// authentication are the options that say who we are.
func (d *Driver) authentication() []nats.Option {
	if d.opt.CredsFile != "" {
		return []nats.Option{nats.UserCredentials(d.opt.CredsFile)}
	}
	if d.opt.Credentials == nil {
		return nil
	}
	user, password, err := d.opt.Credentials()
	if err == nil && user == "" {
		return nil
	}
	if err == nil && password == "" {
		return []nats.Option{nats.TokenHandler(func() string {
			token, _, _ := d.opt.Credentials()
			return token
		})}
	}
	return []nats.Option{nats.UserInfoHandler(func() (string, string) {
		user, password, _ := d.opt.Credentials() // without them the server refuses
		return user, password
	})}
}
