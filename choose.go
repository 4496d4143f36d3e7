package hull

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/grpctransport"
	"github.com/hull-go/hull/transport/httptransport"
	"github.com/hull-go/hull/transport/muxtransport"
	"github.com/hull-go/hull/transport/pool"
)

// way is how nodes that speak a protocol are reached.
type way struct {
	protocol string
	dialer   transport.Dialer
}

// chooser is the dialer of a client: it takes the first of its ways that a node speaks. A node that says nothing is tried with each in
// turn, until one of them gets an answer in its own language.
type chooser struct {
	ways  []way
	clear bool // nothing is encrypted
	now   func() policy.Time

	mu     sync.Mutex
	worked map[string]remembered // how silent nodes were reached last
}

// remembered is which way a silent node was reached by, until when it is tried first.
type remembered struct {
	way   int
	until policy.Time
}

var (
	_ transport.Dialer = (*chooser)(nil)
	_ pool.ViaDialer   = (*chooser)(nil)
)

const (
	// maxWorked bounds what a chooser remembers; with more silent nodes than that they are tried in order again.
	maxWorked = 4096
	// rememberFor is how long: connections that end together are made again without asking around, but a node that learns a better
	// protocol, and an address that becomes another node's, are noticed.
	rememberFor = time.Minute
)

// newDialer returns the dialer that a client's options ask for.
func newDialer(o *clientOptions) (transport.Dialer, error) {
	if o.dialer != nil {
		return o.dialer, nil
	}
	c := &chooser{clear: o.tls == nil, now: policy.Now, worked: map[string]remembered{}}
	o.mux.TLS = o.tls
	for _, d := range [...]struct {
		protocol string
		open     func() (transport.Dialer, error)
	}{
		{protocolNative, func() (transport.Dialer, error) { return muxtransport.NewDialer(o.mux) }},
		{protocolGRPC, func() (transport.Dialer, error) {
			return grpctransport.NewDialer(grpctransport.Options{TLS: o.tls, MaxMessage: o.mux.MaxMessage, MaxRequest: o.send})
		}},
		{protocolHTTP, func() (transport.Dialer, error) {
			return httptransport.NewDialer(httptransport.Options{TLS: o.tls, MaxMessage: o.mux.MaxMessage, MaxRequest: o.send})
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

// Dial implements transport.Dialer, for a node that says nothing.
func (c *chooser) Dial(ctx context.Context, addr string) (transport.Conn, *status.Error) {
	return c.ask(ctx, addr)
}

// DialVia implements pool.ViaDialer; said is what the node says that it speaks.
func (c *chooser) DialVia(ctx context.Context, addr string, said []string) (transport.Conn, *status.Error) {
	if len(said) == 0 {
		return c.ask(ctx, addr)
	}
	var refused []error
	for _, w := range c.ways {
		if !slices.Contains(said, w.protocol) {
			continue
		}
		conn, err := c.dial(ctx, w, addr)
		if err == nil {
			return conn, nil
		}
		// Only an answer in another language is worth another try: where nobody is at home, nobody speaks anything.
		if err.Kind != status.Handshake || errors.Is(err, transport.ErrTLS) {
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

// dial reaches a node by a way that it says it can be reached by. Where connecting proves nothing, as with plain HTTP, the node is asked first: its
// port may have learned to speak TLS since, and then the first call would go there for everybody to read. A node that keeps silent is called:
// a TLS port would have said so, or hung up. One that hangs up without an answer is not.
func (c *chooser) dial(ctx context.Context, w way, addr string) (transport.Conn, *status.Error) {
	p, ok := w.dialer.(prover)
	if !ok || !c.clear {
		return w.dialer.Dial(ctx, addr)
	}
	asking, cancel := context.WithTimeout(ctx, patience(ctx))
	conn, err := p.Prove(asking, addr)
	cancel()
	if err == nil || err.Kind == status.Handshake || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return conn, err
	}
	return w.dialer.Dial(ctx, addr)
}

// prover is a dialer that can make sure that its protocol is spoken, where connecting proves nothing.
type prover interface {
	Prove(ctx context.Context, addr string) (transport.Conn, *status.Error)
}

// ask tries one way after the other. Servers that are spoken to in another language answer in their own, hang up, or wait in silence for
// the rest of what they take for a request: the next way begins when the one before has failed, or when it has had half of the time that was
// left. The first that gets an answer in its own language is taken.
func (c *chooser) ask(ctx context.Context, addr string) (_ transport.Conn, e *status.Error) {
	type answer struct {
		way  int
		conn transport.Conn
		err  *status.Error
	}
	dialing, cancel := context.WithCancel(ctx)
	order := c.order(addr)
	answers := make(chan answer, len(order))
	under := 0
	defer func() {
		cancel()
		for ; under > 0; under-- {
			if a := <-answers; a.conn != nil {
				_ = a.conn.Close()
			}
		}
		if e != nil {
			c.remember(addr, 0)
		}
	}()
	var failed []error
	var why *status.Error // an answer says more than silence
	next := time.NewTimer(0)
	defer next.Stop()
	for len(order) > 0 || under > 0 {
		select {
		case <-next.C:
			if len(order) == 0 {
				continue
			}
			i := order[0]
			order, under = order[1:], under+1
			go func() {
				conn, err := c.ways[i].try(dialing, addr)
				answers <- answer{i, conn, err}
			}()
			next.Reset(patience(ctx))
		case a := <-answers:
			under--
			if a.err == nil {
				c.remember(addr, a.way)
				return a.conn, nil
			}
			if ctx.Err() != nil && why == nil || errors.Is(a.err, transport.ErrTLS) || nobody(a.err) {
				return nil, a.err
			}
			failed = append(failed, fmt.Errorf("%s: %w", c.ways[a.way].protocol, a.err))
			if why == nil || why.Kind != status.Handshake && a.err.Kind == status.Handshake {
				why = a.err
			}
			if ctx.Err() == nil {
				next.Reset(0)
			} else {
				order = nil
			}
		}
	}
	return nil, &status.Error{Code: why.Code, Kind: why.Kind, Fate: status.NotSent, Cause: errors.Join(failed...)}
}

// patience is how long a way is waited for before the next one begins.
func patience(ctx context.Context) time.Duration {
	if until, ok := ctx.Deadline(); ok {
		return time.Until(until) / 2
	}
	return time.Second
}

// try dials, and makes sure that the protocol is spoken.
func (w way) try(ctx context.Context, addr string) (transport.Conn, *status.Error) {
	if p, ok := w.dialer.(prover); ok {
		return p.Prove(ctx, addr)
	}
	return w.dialer.Dial(ctx, addr)
}

// nobody reports whether a dial failed before anything could be said.
func nobody(err *status.Error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial" && !op.Timeout()
}

// order returns the ways as a silent node is tried with them.
func (c *chooser) order(addr string) []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]int, 0, len(c.ways))
	if r, ok := c.worked[addr]; ok && c.now() < r.until {
		list = append(list, r.way)
	}
	for i := range c.ways {
		if len(list) == 0 || i != list[0] {
			list = append(list, i)
		}
	}
	return list
}

// remember notes which way worked; 0, the first of all, needs no note.
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
	c.worked[addr] = remembered{i, c.now().Add(rememberFor)}
}

// via is which way connections to a node are made: nodes of one address that speak different things have none in common.
func (c *Client) via(n *registry.Node) []string {
	if c.opt.dialer != nil {
		return nil
	}
	return n.Protocols
}

// reach returns the pool's side of a node.
func (c *Client) reach(n *registry.Node) *pool.Node { return c.pool.Node(n.Address, c.via(n)...) }

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
