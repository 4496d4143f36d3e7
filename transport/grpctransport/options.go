package grpctransport

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"time"
)

// Options say how a Dialer connects and what it accepts. The zero value of each field is the default; negative values are
// errors.
type Options struct {
	// Dial opens the network connection; nil = TCP, or a Unix socket where the address is unix:///path.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// TLS secures connections; nil = they are not. Certificates in it make it mutual. The server's name is that of the address
	// unless ServerName is set, and ALPN says h2.
	TLS *tls.Config
	// MaxMessage is the largest message to receive and MaxRequest the largest to send, in bytes; 0 = 4 MiB, what servers accept
	// unless they are told otherwise.
	MaxMessage, MaxRequest int
	// MaxHeader is the most metadata to send, or to receive with one frame, in bytes; 0 = 16 KiB. What is received may have 48 KiB more, for the status.
	MaxHeader int
	// HandshakeTimeout bounds dialling with its handshakes; 0 = 5 s.
	HandshakeTimeout time.Duration
	// Keepalive is how long a connection with calls under way may be silent before the server is pinged; 0 = 5 min, at least 10 s.
	// Servers close connections that ping more often than they allow, and five minutes is what they allow by default.
	// KeepaliveTimeout is how long the answer may take; 0 = 2 s.
	//
	// A connection that died in silence is noticed without pings too: one on which a call ran out of time, after a second or more in
	// which not a byte came, is not used for further calls.
	Keepalive, KeepaliveTimeout time.Duration
	// UserAgent stands before grpc-go's own; "" = hull.
	UserAgent string
}

func (o *Options) complete() error {
	for _, f := range [...]struct {
		name string
		v    *int
		def  int
		top  int
	}{
		{"MaxMessage", &o.MaxMessage, 4 << 20, 1 << 30},
		{"MaxRequest", &o.MaxRequest, 4 << 20, 1 << 30},
		{"MaxHeader", &o.MaxHeader, 16 << 10, 1 << 20},
	} {
		if *f.v == 0 {
			*f.v = f.def
		}
		if *f.v < 0 || *f.v > f.top {
			return fmt.Errorf("grpctransport: %s is %d; choose a value from 1 to %d", f.name, *f.v, f.top)
		}
	}
	for _, f := range [...]struct {
		name     string
		v        *time.Duration
		def, low time.Duration
	}{
		{"HandshakeTimeout", &o.HandshakeTimeout, 5 * time.Second, 1},
		{"Keepalive", &o.Keepalive, 5 * time.Minute, 10 * time.Second},
		{"KeepaliveTimeout", &o.KeepaliveTimeout, 2 * time.Second, 1},
	} {
		if *f.v == 0 {
			*f.v = f.def
		}
		if *f.v < f.low {
			return fmt.Errorf("grpctransport: %s is %v; choose at least %v", f.name, *f.v, f.low)
		}
	}
	if o.UserAgent == "" {
		o.UserAgent = "hull"
	}
	if o.Dial == nil {
		o.Dial = dialNetwork
	}
	return nil
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
