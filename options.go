package hull

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/fileregistry"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/muxtransport"
)

// ClientOption changes a Client.
type ClientOption interface{ client(*clientOptions) error }

// ServerOption changes a Server.
type ServerOption interface{ server(*serverOptions) error }

// Option changes either.
type Option interface {
	ClientOption
	ServerOption
}

type sharedOptions struct {
	registry *registry.Registry
	log      *slog.Logger
}

// openRegistry returns the registry to use, and what to call when it is no longer needed.
func (o *sharedOptions) openRegistry() (r *registry.Registry, done func(), err error) {
	if o.registry != nil {
		return o.registry, func() {}, nil
	}
	d, err := fileregistry.New(fileregistry.Options{Logger: o.log})
	if err != nil {
		return nil, nil, fmt.Errorf("opening the registry on this machine: %w", err)
	}
	r, err = registry.New(d, registry.Options{Logger: o.log})
	if err != nil {
		return nil, nil, errors.Join(err, d.Close())
	}
	return r, func() { _ = r.Close() }, nil // closes the driver too
}

type clientOptions struct {
	shared sharedOptions
	spec   *spec.Spec
	dialer transport.Dialer
	ways   []way
	tls    *tls.Config
	mux    muxtransport.Options
	send   int // bounds requests where the server does not say how much it takes; 0 = 4 MiB
	unary  []UnaryMiddleware
	stream []StreamMiddleware
	seen   func(*CallInfo)
	admin  adminOptions
	tune   func(service string, o *balance.Options) // nil = nobody
}

type serverOptions struct {
	shared       sharedOptions
	log          *slog.Logger
	addr         string
	listener     net.Listener
	http         http.Handler
	explainTo    func(*peer.Peer) bool // nil = to this machine
	trust        *Trust                // set by NewServer if no option did
	admin        adminOptions
	limits       Limits
	tls          *tls.Config
	origins      []string
	hidden       bool
	node         registry.Node
	mux          muxtransport.Options
	unary        []grpc.UnaryServerInterceptor
	stream       []grpc.StreamServerInterceptor
	drainWait    time.Duration
	drainTimeout time.Duration
	spec         *spec.Spec
	signals      func() Signals
	phases       []func(PhaseChange)
	watchdog     watchdog
	warmUp       func(context.Context) error
	warmUpMost   time.Duration
	health       registry.Health // Check is nil without
	keys         idempotency.Options
}

type bothOption struct {
	c func(*clientOptions) error
	s func(*serverOptions) error
}

func (o bothOption) client(c *clientOptions) error { return o.c(c) }
func (o bothOption) server(s *serverOptions) error { return o.s(s) }

type clientOption func(*clientOptions) error

func (o clientOption) client(c *clientOptions) error { return o(c) }

type serverOption func(*serverOptions) error

func (o serverOption) server(s *serverOptions) error { return o(s) }

// WithRegistry says where services are found and announced. Without it programs of one user on one machine find each
// other through files (see package fileregistry). The registry stays the caller's to close.
func WithRegistry(r *registry.Registry) Option {
	set := func(o *sharedOptions) error {
		if r == nil {
			return errors.New("WithRegistry: the registry is nil")
		}
		o.registry = r
		return nil
	}
	return bothOption{func(o *clientOptions) error { return set(&o.shared) }, func(o *serverOptions) error { return set(&o.shared) }}
}

// WithLogger says where changes of state are logged, a line each: nodes that cannot be reached, and a client's policies (a breaker that
// opened, a budget that ran empty) within a second. Without it only panics of handlers are, to slog's default logger.
func WithLogger(l *slog.Logger) Option {
	return bothOption{func(o *clientOptions) error { o.shared.log, o.mux.Logger = l, l; return nil },
		func(o *serverOptions) error { o.shared.log, o.log, o.mux.Logger = l, l, l; return nil }}
}

// WithSpec sets the policies: of a client toward the services that it calls, of a server what the document says of its own nodes (server_limit,
// server_rate, server_pressure). Client.Apply and Server.Apply change them later.
func WithSpec(s *spec.Spec) Option {
	return bothOption{func(o *clientOptions) error { o.spec = s; return nil }, func(o *serverOptions) error { o.spec = s; return nil }}
}

// WithDialer has all connections made by d, whatever nodes speak. See WithTransport for one that is chosen.
func WithDialer(d transport.Dialer) ClientOption {
	return clientOption(func(o *clientOptions) error { o.dialer = d; return nil })
}

// WithTransport adds a way to reach nodes that speak a protocol, by the name that discovery has for it, or replaces the one that is
// there: "hull/1", "grpc" and "http". A node is reached by the first of its protocols in this order, others after them in the order
// given; one that does not say what it speaks is tried with each.
func WithTransport(protocol string, d transport.Dialer) ClientOption {
	return clientOption(func(o *clientOptions) error {
		if protocol == "" || d == nil {
			return fmt.Errorf("WithTransport: protocol %q with dialer %v: both are needed", protocol, d)
		}
		if slices.ContainsFunc(o.ways, func(w way) bool { return w.protocol == protocol }) {
			return fmt.Errorf("WithTransport: %q is given twice", protocol)
		}
		o.ways = append(o.ways, way{protocol, d})
		return nil
	})
}

// WithTLS encrypts all connections. A server is verified as cfg says, by default against the machine's certificate authorities and the host of
// its address; certificates in cfg let servers verify the client. cfg is not changed.
func WithTLS(cfg *tls.Config) ClientOption {
	return clientOption(func(o *clientOptions) error {
		if cfg == nil {
			return errors.New("WithTLS: the configuration is nil")
		}
		o.tls = cfg.Clone()
		return nil
	})
}

// WithMaxReply bounds the size of an answer in bytes; 4 MiB without it.
func WithMaxReply(n int) ClientOption {
	return clientOption(func(o *clientOptions) error {
		if n <= 0 {
			return fmt.Errorf("WithMaxReply: %d is no size", n)
		}
		o.mux.MaxMessage = n
		return nil
	})
}

// WithMaxRequest bounds the size of a request in bytes toward servers that do not say how much they take, those of gRPC and JSON; 4 MiB
// without it. grpc.MaxCallSendMsgSize does it for one call. Servers of Hull's protocol say it themselves.
func WithMaxRequest(n int) ClientOption {
	return clientOption(func(o *clientOptions) error {
		if n <= 0 {
			return fmt.Errorf("WithMaxRequest: %d is no size", n)
		}
		o.send = n
		return nil
	})
}

// WithObserver has f told of every call: of one that a fallback answers, how it failed. It is called on the caller's goroutine and must not block or keep the info.
func WithObserver(f func(*CallInfo)) ClientOption {
	return clientOption(func(o *clientOptions) error { o.seen = f; return nil })
}

// UnaryMiddleware wraps unary calls of a client. next makes the call, with all its policies; middleware sees a call once,
// not its attempts.
type UnaryMiddleware func(ctx context.Context, method string, req, reply any, next UnaryInvoker, opts ...CallOption) error

// UnaryInvoker is what follows a UnaryMiddleware.
type UnaryInvoker func(ctx context.Context, method string, req, reply any, opts ...CallOption) error

// StreamMiddleware wraps the beginning of a client's streams.
type StreamMiddleware func(ctx context.Context, desc *grpc.StreamDesc, method string, next StreamInvoker, opts ...CallOption) (grpc.ClientStream, error)

// StreamInvoker is what follows a StreamMiddleware.
type StreamInvoker func(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...CallOption) (grpc.ClientStream, error)

// WithMiddleware adds middleware around unary calls, the first outermost.
func WithMiddleware(m ...UnaryMiddleware) ClientOption {
	return clientOption(func(o *clientOptions) error { o.unary = append(o.unary, m...); return nil })
}

// WithStreamMiddleware adds middleware around streams, the first outermost.
func WithStreamMiddleware(m ...StreamMiddleware) ClientOption {
	return clientOption(func(o *clientOptions) error { o.stream = append(o.stream, m...); return nil })
}

// Addr is where a server listens, host:port. Without it: a free port on the loopback interface. With an empty host it is
// reached under this machine's address, see Advertise. unix:///path is a Unix socket, which only callers on this machine reach: discovery
// that reaches further leads others to nothing. A socket that a killed server has left is taken over.
func Addr(addr string) ServerOption {
	return serverOption(func(o *serverOptions) error {
		if err := checkAddr("the address", addr); err != nil {
			return err
		}
		o.addr = addr
		return nil
	})
}

// Listener is a listener to serve on instead of Addr. The server closes it.
func Listener(l net.Listener) ServerOption {
	return serverOption(func(o *serverOptions) error { o.listener = l; return nil })
}

// Advertise is the address that discovery publishes, where it differs from the one listened on.
func Advertise(addr string) ServerOption {
	return serverOption(func(o *serverOptions) error {
		if err := checkAddr("the advertised address", addr); err != nil {
			return err
		}
		o.node.Address = addr
		return nil
	})
}

// NodeID names this instance in discovery; random without it. It must not be the name of another running instance.
func NodeID(id string) ServerOption {
	return serverOption(func(o *serverOptions) error { o.node.ID = id; return nil })
}

// Version is published in discovery; callers can select by it.
func Version(v string) ServerOption {
	return serverOption(func(o *serverOptions) error { o.node.Version = v; return nil })
}

// Zone and region where the server runs are published in discovery.
func Zone(zone, region string) ServerOption {
	return serverOption(func(o *serverOptions) error { o.node.Zone, o.node.Region = zone, region; return nil })
}

// Weight is the server's share of the load relative to others; 100 without it.
func Weight(w int) ServerOption {
	return serverOption(func(o *serverOptions) error {
		if w <= 0 {
			return fmt.Errorf("the weight %d is not positive", w)
		}
		o.node.Weight = w
		return nil
	})
}

// Label is published in discovery; callers can select by it.
func Label(key, value string) ServerOption {
	return serverOption(func(o *serverOptions) error {
		if key == "" || strings.ContainsAny(key, "=,! ") {
			return fmt.Errorf("the label %q cannot be selected by: use letters, digits, dots and dashes", key)
		}
		if o.node.Labels == nil {
			o.node.Labels = map[string]string{}
		}
		o.node.Labels[key] = value
		return nil
	})
}

// HTTP serves h on the server's own port, to connections that speak HTTP.
func HTTP(h http.Handler) ServerOption {
	return serverOption(func(o *serverOptions) error { o.http = h; return nil })
}

// MaxRequest bounds the size of a request in bytes; 4 MiB without it.
func MaxRequest(n int) ServerOption {
	return serverOption(func(o *serverOptions) error {
		if n <= 0 {
			return fmt.Errorf("MaxRequest: %d is no size", n)
		}
		o.mux.MaxMessage = n
		return nil
	})
}

// Intercept adds grpc interceptors around unary methods, generated and typed, the first outermost.
func Intercept(i ...grpc.UnaryServerInterceptor) ServerOption {
	return serverOption(func(o *serverOptions) error { o.unary = append(o.unary, i...); return nil })
}

// InterceptStream adds grpc interceptors around streams, the first outermost.
func InterceptStream(i ...grpc.StreamServerInterceptor) ServerOption {
	return serverOption(func(o *serverOptions) error { o.stream = append(o.stream, i...); return nil })
}

// Drain sets how long a server that stops waits for callers to hear of it, and how long calls under way may take;
// DefaultDrainWait and DefaultDrainTimeout without it.
func Drain(wait, timeout time.Duration) ServerOption {
	return serverOption(func(o *serverOptions) error {
		if wait < 0 || timeout < 0 {
			return fmt.Errorf("negative drain times %v, %v", wait, timeout)
		}
		o.drainWait, o.drainTimeout = wait, timeout
		return nil
	})
}
