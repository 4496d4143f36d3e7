package hull

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Limits bound what peers may do to a server's port, whatever they speak. The zero value of each field is the default. What is over a limit
// is refused or closed, and counted in ServerSnapshot.Port.
type Limits struct {
	// Conns is the number of connections at a time; 0 = 80 % of the descriptors that the process may have. ConnsPerPeer is the same for one
	// address; 0 = no bound of its own, because behind a proxy everybody has the same address.
	Conns, ConnsPerPeer int
	// WaitingConns is the number of HTTP/2 connections at a time that have not asked for anything yet; 0 = half of Conns.
	WaitingConns int
	// StreamsPerConn is the number of calls and streams at a time on one connection; 0 = 1000.
	StreamsPerConn int
	// Header is the most metadata with one call, in bytes; 0 = 16 KiB, at most 24 KiB.
	Header int
	// Handshake is how long a connection may take to say what it speaks, and a request's headers to come; 0 = 5 s.
	Handshake time.Duration
	// SlowSender is how long the body of a request with one message may take to come over HTTP and gRPC; 0 = 30 s, or
	// the call's deadline if that is sooner. Set, it is also how long one frame of the native protocol may take, 10 s otherwise.
	SlowSender time.Duration
	// SlowReader is how long a peer may take nothing at all of what is sent to it; 0 = 10 s. Over HTTP/2 it counts for each answer too,
	// and thirty times as much for a stream's messages; see docs/protocols.md.
	SlowReader time.Duration
	// Resets is how many calls and streams a peer may reset in one second, over HTTP/2 and the native protocol (which counts those with time left only);
	// 0 = 5000 and 10000.
	Resets int
	// ControlFrames is how many PING, SETTINGS, PRIORITY and empty DATA frames an HTTP/2 peer may send in one second, beside one for each frame of
	// answers that it gets, Pings how many PINGs one of the native protocol; 0 = 20000 and 100. Pings is at least 60.
	ControlFrames, Pings int
}

// The defaults of Limits that more than one protocol needs.
const (
	defaultMaxRequest = 4 << 20
	defaultHeader     = 16 << 10
	maxHeader         = 24 << 10
	defaultStreams    = 1000
	minPings          = 60
	defaultHandshake  = 5 * time.Second
	defaultSlowSender = 30 * time.Second
	defaultSlowReader = 10 * time.Second
)

// WithLimits sets the limits of a server's port.
func WithLimits(l Limits) ServerOption {
	return serverOption(func(o *serverOptions) error {
		for name, n := range map[string]int{"Conns": l.Conns, "ConnsPerPeer": l.ConnsPerPeer, "WaitingConns": l.WaitingConns,
			"StreamsPerConn": l.StreamsPerConn, "Header": l.Header, "Resets": l.Resets, "ControlFrames": l.ControlFrames,
			"Pings": l.Pings} {
			if n < 0 {
				return fmt.Errorf("the limit %s is %d: use 0 for the default", name, n)
			}
		}
		for name, d := range map[string]time.Duration{"Handshake": l.Handshake, "SlowSender": l.SlowSender, "SlowReader": l.SlowReader} {
			if d < 0 {
				return fmt.Errorf("the limit %s is %v: use 0 for the default", name, d)
			}
		}
		if l.Pings > 0 && l.Pings < minPings {
			return fmt.Errorf("the limit Pings is %d: peers that do nothing wrong send up to %d", l.Pings, minPings)
		}
		if l.Header > maxHeader {
			return fmt.Errorf("the limit Header is %d: at most %d are possible", l.Header, maxHeader)
		}
		o.limits = l
		return nil
	})
}

func (l *Limits) header() int              { return orDefault(l.Header, defaultHeader) }
func (l *Limits) streams() int             { return orDefault(l.StreamsPerConn, defaultStreams) }
func (l *Limits) handshake() time.Duration { return orDefault(l.Handshake, defaultHandshake) }
func (l *Limits) slowSender() time.Duration {
	return orDefault(l.SlowSender, defaultSlowSender)
}

func (l *Limits) slowReader() time.Duration {
	return orDefault(l.SlowReader, defaultSlowReader)
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func (o *serverOptions) maxRequest() int { return orDefault(o.mux.MaxMessage, defaultMaxRequest) }

// ServeTLS makes the server's port speak TLS, and only TLS, with every protocol inside of it. The config needs a certificate; for mutual TLS set its
// ClientAuth and ClientCAs. Handlers see the caller's certificate in grpc's peer.Peer. NextProtos is the server's own business.
func ServeTLS(cfg *tls.Config) ServerOption {
	return serverOption(func(o *serverOptions) error {
		if cfg == nil || (len(cfg.Certificates) == 0 && cfg.GetCertificate == nil && cfg.GetConfigForClient == nil) {
			return errors.New("ServeTLS: the config has no certificate: set Certificates or GetCertificate")
		}
		o.tls = cfg.Clone()
		return nil
	})
}

// AllowOrigins lets pages from elsewhere call the server's methods with their readers' browsers, from origins such as https://app.example.com.
// Without it only pages that the server itself serves may.
func AllowOrigins(origins ...string) ServerOption {
	return serverOption(func(o *serverOptions) error {
		for _, origin := range origins {
			if err := http.NewCrossOriginProtection().AddTrustedOrigin(origin); err != nil {
				return fmt.Errorf("%q is no origin: write scheme://host, for instance https://example.com: %w", origin, err)
			}
		}
		o.origins = append(o.origins, origins...)
		return nil
	})
}

// HideMethods keeps a server from telling which methods it serves: without gRPC's reflection, without the descriptions that GET
// answers with, and without suggestions for a name that it does not serve. Calls are not affected, nor what discovery publishes.
func HideMethods() ServerOption {
	return serverOption(func(o *serverOptions) error { o.hidden = true; return nil })
}
