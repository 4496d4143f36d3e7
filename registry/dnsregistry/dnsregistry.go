package dnsregistry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/registry"
)

const (
	// DefaultName is the template of names.
	DefaultName = "{service}"
	// DefaultPort is that of servers which name none.
	DefaultPort = "53"
	// MinTTL is how long an answer is taken for true at least.
	MinTTL = time.Second
	// MaxTTL is how long it is at most.
	MaxTTL = 30 * time.Second

	placeholder = "{service}"
	resolvConf  = "/etc/resolv.conf"
)

// Options configure a Driver. The zero value asks the system's servers for SRV records of the service's name.
type Options struct {
	// Servers are the DNS servers, as host:port; none = those of /etc/resolv.conf, read once.
	Servers []string
	// Name is the template of names, with {service} in it; empty = DefaultName. Names are full, no domain is added.
	Name string
	// Port is that of all nodes, whose addresses then come from A and AAAA records; 0 = SRV records say.
	Port int
	// Protocols are what the nodes speak; none = they do not say, and callers find out.
	Protocols []string
}

// Driver is a registry in DNS. It holds nothing open and is safe for concurrent use.
type Driver struct {
	opt  Options
	good atomic.Int64 // index of the server that answered last
}

// New returns a driver. It fails if no server is given and the system's cannot be found out.
func New(o Options) (*Driver, error) {
	if o.Name == "" {
		o.Name = DefaultName
	}
	if !strings.Contains(o.Name, placeholder) {
		return nil, fmt.Errorf("dnsregistry: the name %.100q has no %s in it", o.Name, placeholder)
	}
	if _, err := fullName(strings.ReplaceAll(o.Name, placeholder, "a")); err != nil {
		return nil, fmt.Errorf("dnsregistry: the name %.100q: %w", o.Name, err)
	}
	if o.Port < 0 || o.Port > 65535 {
		return nil, fmt.Errorf("dnsregistry: port %d: choose one from 1 to 65535, or 0 for SRV records", o.Port)
	}
	o.Servers, o.Protocols = slices.Clone(o.Servers), slices.Clone(o.Protocols)
	if len(o.Servers) == 0 {
		text, err := os.ReadFile(resolvConf)
		if err != nil {
			return nil, fmt.Errorf("dnsregistry: the system's DNS servers cannot be found out, name one as dns://host: %w", err)
		}
		if o.Servers = nameservers(string(text)); len(o.Servers) == 0 {
			return nil, errors.New("dnsregistry: " + resolvConf + " names no DNS server: name one as dns://host")
		}
	}
	return &Driver{opt: o}, nil
}

// nameservers returns the servers that a resolv.conf names.
func nameservers(text string) []string {
	var servers []string
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "nameserver" {
			servers = append(servers, net.JoinHostPort(f[1], DefaultPort))
		}
	}
	return servers
}

// Parameters are the query parameters of a dns URL.
func Parameters() []registry.Parameter {
	return []registry.Parameter{
		{Name: "name", Default: DefaultName, Usage: "how a service is called in DNS, such as {service}.service.consul"},
		{Name: "port", Usage: "port of all nodes, for A and AAAA records; none = SRV records say"},
		{Name: "protocol", Usage: "what the nodes speak, separated by commas: hull/1, grpc, http; none = callers find out"},
	}
}

// FromURL returns a driver for dns://server,server/?name={service}.example&port=8080; dns:/// asks the system's servers.
func FromURL(u *url.URL) (registry.Driver, error) {
	if u.Scheme != "dns" || u.Opaque != "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return nil, errors.New("dnsregistry: write the URL as dns://server/?name=" + DefaultName + ".example&port=8080")
	}
	q, err := registry.CheckQuery(u, Parameters())
	if err != nil {
		return nil, fmt.Errorf("dnsregistry: %w", err)
	}
	o := Options{Name: q.Get("name"), Protocols: slices.DeleteFunc(strings.Split(q.Get("protocol"), ","), func(s string) bool { return s == "" })}
	if u.Host != "" {
		if o.Servers, err = registry.Hosts(u, DefaultPort); err != nil {
			return nil, fmt.Errorf("dnsregistry: %w", err)
		}
	}
	if s := q.Get("port"); s != "" {
		if o.Port, err = strconv.Atoi(s); err != nil || o.Port == 0 {
			return nil, fmt.Errorf("dnsregistry: port=%.20q: write a number from 1 to 65535", s)
		}
	}
	return New(o)
}

// List returns nothing: DNS does not tell which names there are.
func (d *Driver) List(ctx context.Context) ([]string, error) { return nil, ctx.Err() }

// Watch asks for a service again and again, as often as its answers allow.
func (d *Driver) Watch(ctx context.Context, service string, emit func(registry.Update)) error {
	var last map[string]*registry.Node
	for {
		found, ttl, err := d.resolve(ctx, service)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("DNS: %w", err)
		}
		if last == nil || !maps.EqualFunc(found, last, (*registry.Node).Equal) {
			last = found
			emit(registry.Update{Nodes: slices.Collect(maps.Values(found))})
		}
		ttl = min(max(ttl, MinTTL), MaxTTL)
		t := time.NewTimer(ttl + time.Duration(rand.Int64N(int64(ttl/10)))) // clients of one answer do not come back at once
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// resolve returns the nodes of a service, by ID, and how long they are true.
func (d *Driver) resolve(ctx context.Context, service string) (map[string]*registry.Node, time.Duration, error) {
	nodes := map[string]*registry.Node{}
	name, err := fullName(strings.ReplaceAll(d.opt.Name, placeholder, service))
	if err != nil { // it cannot be in DNS
		return nodes, MaxTTL, nil //nolint:nilerr // which is an answer
	}
	add := func(ip net.IP, port uint16, weight int, labels map[string]string) {
		address := net.JoinHostPort(ip.String(), strconv.Itoa(int(port)))
		nodes[address] = &registry.Node{ID: address, Service: service, Address: address, Protocols: d.opt.Protocols, Weight: weight, Labels: labels}
	}
	if d.opt.Port != 0 {
		ips, ttl, err := d.addresses(ctx, name)
		for _, ip := range ips {
			add(ip, uint16(d.opt.Port), 0, nil)
		}
		return nodes, ttl, err
	}
	a, err := d.ask(ctx, name, typeSRV)
	if err != nil {
		return nil, 0, err
	}
	ttl, weighted := a.ttl, false
	best := a.best()
	for _, s := range best {
		weighted = weighted || s.weight > 0
	}
	for _, s := range best {
		ips := a.glue[s.target]
		if len(ips) == 0 {
			var t time.Duration
			if ips, t, err = d.addresses(ctx, s.target); err != nil {
				return nil, 0, err
			}
			ttl = min(ttl, t)
		}
		weight := 0
		if weighted {
			weight = max(int(s.weight), 1)
		}
		for _, ip := range ips {
			add(ip, s.port, weight, map[string]string{"host": strings.TrimSuffix(s.target, ".")})
		}
	}
	return nodes, ttl, nil
}

// addresses returns the addresses of a host, of both families.
func (d *Driver) addresses(ctx context.Context, name string) ([]net.IP, time.Duration, error) {
	var ips []net.IP
	ttl := MaxTTL
	for _, t := range []recordType{typeA, typeAAAA} {
		a, err := d.ask(ctx, name, t)
		if err != nil {
			return nil, 0, err
		}
		ips, ttl = append(ips, a.ips...), min(ttl, a.ttl)
	}
	return ips, ttl, nil
}
