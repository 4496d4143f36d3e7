package httptransport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// Options say how a Dialer connects and what it accepts. The zero value of each field is the default; negative values are
// errors.
type Options struct {
	// Dial opens a network connection; nil = TCP, or a Unix socket where the address is unix:///path.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// TLS secures connections; nil = they are not. Certificates in it make it mutual. The server's name is that of the address unless
	// ServerName is set. ALPN chooses between HTTP/2 and HTTP/1.1.
	TLS *tls.Config
	// H2C speaks HTTP/2 where there is no TLS; without it that is HTTP/1.1.
	H2C bool
	// MaxMessage is the largest message to receive and MaxRequest the largest to send, in bytes; 0 = 4 MiB.
	MaxMessage, MaxRequest int
	// MaxHeader is the most metadata to send or to receive, in bytes; 0 = 16 KiB.
	MaxHeader int
	// MaxConns is how many network connections one Conn may have; 0 = 256. Calls above it wait, within their deadline.
	MaxConns int
	// HandshakeTimeout bounds dialling with its handshakes; 0 = 5 s.
	HandshakeTimeout time.Duration
	// IdleTime is how long a network connection is kept for its next call; 0 = 90 s.
	IdleTime time.Duration
	// Routes say how methods are asked for, by pkg.Service/Method; a method that is not in it is POST /pkg.Service/Method.
	Routes map[string]Route
	// UserAgent is what servers are told; "" = hull.
	UserAgent string
}

func (o *Options) complete() error {
	for _, f := range [...]struct {
		name     string
		v        *int
		def, top int
	}{
		{"MaxMessage", &o.MaxMessage, 4 << 20, 1 << 30},
		{"MaxRequest", &o.MaxRequest, 4 << 20, 1 << 30},
		{"MaxHeader", &o.MaxHeader, 16 << 10, 1 << 20},
		{"MaxConns", &o.MaxConns, 256, 1 << 16},
	} {
		if *f.v == 0 {
			*f.v = f.def
		}
		if *f.v < 0 || *f.v > f.top {
			return fmt.Errorf("httptransport: %s is %d; choose a value from 1 to %d", f.name, *f.v, f.top)
		}
	}
	for _, f := range [...]struct {
		name string
		v    *time.Duration
		def  time.Duration
	}{
		{"HandshakeTimeout", &o.HandshakeTimeout, 5 * time.Second},
		{"IdleTime", &o.IdleTime, 90 * time.Second},
	} {
		if *f.v == 0 {
			*f.v = f.def
		}
		if *f.v < 0 {
			return fmt.Errorf("httptransport: %s is %v; choose a positive duration", f.name, *f.v)
		}
	}
	var errs []error
	for method, r := range o.Routes {
		if err := r.check(); err != nil {
			errs = append(errs, fmt.Errorf("httptransport: route of %s: %w", method, err))
		}
	}
	if o.UserAgent == "" {
		o.UserAgent = "hull"
	}
	if o.Dial == nil {
		o.Dial = dialNetwork
	}
	return errors.Join(errs...)
}

// unixScheme begins the address of a Unix socket.
const unixScheme = "unix://"

func dialNetwork(ctx context.Context, addr string) (net.Conn, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, unixScheme); ok {
		network, addr = "unix", path
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// host is what stands in URLs for an address. The zone of an IPv6 address means something on this machine only, and no URL of a request has it.
func host(addr string) string {
	if strings.HasPrefix(addr, unixScheme) {
		return "localhost"
	}
	if name, port, err := net.SplitHostPort(addr); err == nil && strings.Contains(name, "%") {
		name, _, _ = strings.Cut(name, "%")
		return net.JoinHostPort(name, port)
	}
	return addr
}
