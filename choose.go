package hull

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/grpctransport"
	"github.com/hull-go/hull/transport/httptransport"
	"github.com/hull-go/hull/transport/muxtransport"
)

// way is how nodes that speak a protocol are reached.
type way struct {
	protocol string
	dialer   transport.Dialer
}

// chooser is the dialer of a client: it takes the first of its ways that a node speaks. A node that says nothing is tried with each in
// turn, as long as it answers something else than what it was asked.
type chooser struct {
	ways []way
	said func(addr string) []string // what discovery knows of the node's protocols

	mu     sync.Mutex
	worked map[string]int // which way a silent node was reached by last
}

var _ transport.Dialer = (*chooser)(nil)

// maxWorked bounds what a chooser remembers; with more silent nodes than that they are tried in order again.
const maxWorked = 4096

// newDialer returns the dialer that a client's options ask for.
func newDialer(o *clientOptions, said func(addr string) []string) (transport.Dialer, error) {
	if o.dialer != nil {
		return o.dialer, nil
	}
	c := &chooser{said: said, worked: map[string]int{}}
	o.mux.TLS = o.tls
	for _, d := range [...]struct {
		protocol string
		open     func() (transport.Dialer, error)
	}{
		{protocolNative, func() (transport.Dialer, error) { return muxtransport.NewDialer(o.mux) }},
		{protocolGRPC, func() (transport.Dialer, error) {
			return grpctransport.NewDialer(grpctransport.Options{TLS: o.tls, MaxMessage: o.mux.MaxMessage})
		}},
		{protocolHTTP, func() (transport.Dialer, error) {
			return httptransport.NewDialer(httptransport.Options{TLS: o.tls, MaxMessage: o.mux.MaxMessage})
		}},
	} {
		w := way{protocol: d.protocol}
		if i := slices.IndexFunc(o.ways, func(w way) bool { return w.protocol == d.protocol }); i >= 0 {
			w.dialer = o.ways[i].dialer
		} else {
			var err error
			if w.dialer, err = d.open(); err != nil {
				return nil, err
			}
		}
		c.ways = append(c.ways, w)
	}
	for _, w := range o.ways {
		if !slices.ContainsFunc(c.ways, func(have way) bool { return have.protocol == w.protocol }) {
			c.ways = append(c.ways, w)
		}
	}
	return c, nil
}

// Dial implements transport.Dialer.
func (c *chooser) Dial(ctx context.Context, addr string) (transport.Conn, *status.Error) {
	said := c.said(addr)
	var refused []error
	first := 0
	if len(said) == 0 {
		c.mu.Lock()
		first = c.worked[addr]
		c.mu.Unlock()
	}
	for i := range c.ways {
		i = (first + i) % len(c.ways)
		w := c.ways[i]
		if len(said) > 0 && !slices.Contains(said, w.protocol) {
			continue
		}
		conn, err := w.dialer.Dial(ctx, addr)
		if err == nil {
			if len(said) == 0 {
				c.remember(addr, i)
			}
			return conn, nil
		}
		// Only an answer in another language is worth another try: where nobody is at home, nobody speaks anything.
		if err.Kind != status.Handshake {
			return nil, err
		}
		refused = append(refused, fmt.Errorf("%s: %w", w.protocol, err))
	}
	e := &status.Error{Code: status.Unavailable, Kind: status.Handshake, Fate: status.NotSent, Cause: errors.Join(refused...)}
	if len(refused) == 0 {
		e.Message = fmt.Sprintf("node %s speaks %s, and this client does not: add it with hull.WithTransport", addr, strings.Join(said, ", "))
	}
	return nil, e
}

func (c *chooser) remember(addr string, i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i == 0 {
		delete(c.worked, addr)
		return
	}
	if len(c.worked) >= maxWorked {
		clear(c.worked)
	}
	c.worked[addr] = i
}

// protocols returns what discovery says that a node speaks; nil = nothing.
func (c *Client) protocols(addr string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.services {
		snap := s.seen.Load()
		if snap == nil {
			continue
		}
		for _, n := range snap.Nodes {
			if n.Address == addr && len(n.Protocols) > 0 {
				return n.Protocols
			}
		}
	}
	return nil
}

// targets is discovery for services that are named by the URL of a server: the address is the only node. Their names are the URL's
// parts with targetSign in between.
type targets struct{}

const targetSign = "@"

// speaks returns what a server at a URL of that scheme speaks; "" = no such scheme.
func speaks(scheme string) string {
	switch scheme {
	case "hull":
		return protocolNative
	case "grpc":
		return protocolGRPC
	case "http":
		return protocolHTTP
	}
	return ""
}

// targetName returns the service name that stands for a URL. ok is false for what is no URL but a name.
func targetName(raw string) (name string, ok bool, err error) {
	if !strings.Contains(raw, "://") {
		return raw, false, nil
	}
	u, err := url.Parse(raw)
	if err != nil || u.Port() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil || speaks(u.Scheme) == "" {
		return raw, true, fmt.Errorf("%q is no address of a server: write grpc://host:port, http://host:port or hull://host:port", raw)
	}
	return u.Scheme + targetSign + u.Host, true, nil
}

// List implements registry.Driver.
func (targets) List(ctx context.Context) ([]string, error) { return nil, ctx.Err() }

// Watch implements registry.Driver.
func (targets) Watch(ctx context.Context, service string, emit func(registry.Update)) error {
	scheme, addr, _ := strings.Cut(service, targetSign)
	emit(registry.Update{Nodes: []*registry.Node{{ID: addr, Service: service, Address: addr, Protocols: []string{speaks(scheme)}}}})
	<-ctx.Done()
	return ctx.Err()
}
