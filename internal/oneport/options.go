package oneport

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// Options say what a Port accepts. The zero value of each field is the default; negative values are errors.
type Options struct {
	// TLS makes the port speak TLS, and only TLS. Its NextProtos are replaced, and those of what its GetConfigForClient returns.
	TLS *tls.Config
	// Handshake is how long a connection may take to say what it speaks, TLS included, and an HTTP/2 request's header from its first byte to its last, while the
	// server reads; 0 = 5 s.
	Handshake time.Duration
	// MaxConns is the number of connections at a time; 0 = 80 % of the descriptors that this process may have.
	MaxConns int
	// MaxConnsPerPeer is the number of connections at a time from one address; 0 = as many as there may be in total, because
	// behind a proxy everybody has the same.
	MaxConnsPerPeer int
	// MaxWaiting is the number of HTTP/2 connections at a time that have not asked for anything yet; 0 = half of MaxConns.
	MaxWaiting int
	// SlowReader is how long a peer of an HTTP or gRPC connection may take nothing at all of what is written; 0 = 10 s.
	SlowReader time.Duration
	// SlowSender is how long the one message of a gRPC request may take to come; 0 = 30 s.
	SlowSender time.Duration
	// MaxResets is how many HTTP/2 streams a connection may reset in a second; 0 = 5000.
	MaxResets int
	// MaxControl is how many PING, SETTINGS, PRIORITY and empty DATA frames an HTTP/2 connection may send in a second, beside one for each HEADERS, DATA and PING frame
	// that it gets; 0 = 20000.
	MaxControl int
	// MaxHeader and MaxStreams are the limits that the protocols' servers have for a request's header, in bytes, and for the streams of an HTTP/2
	// connection. Here they only say what is counted; 0 = nothing is.
	MaxHeader, MaxStreams int
	// Logger is told of listener trouble; nil = nobody.
	Logger *slog.Logger
}

// complete fills in the defaults.
func (o *Options) complete() error {
	for _, f := range [...]struct {
		name string
		v    *time.Duration
		def  time.Duration
	}{{"handshake time", &o.Handshake, 5 * time.Second}, {"slow reader time", &o.SlowReader, 10 * time.Second}, {"slow sender time", &o.SlowSender, 30 * time.Second}} {
		if *f.v < 0 {
			return fmt.Errorf("the %s %v is negative", f.name, *f.v)
		}
		if *f.v == 0 {
			*f.v = f.def
		}
	}
	for _, f := range [...]struct {
		name string
		v    *int
		def  func() int
	}{
		{"number of connections", &o.MaxConns, func() int { return max(descriptors()/5*4, 16) }},
		{"number of connections per peer", &o.MaxConnsPerPeer, func() int { return o.MaxConns }},
		{"number of waiting connections", &o.MaxWaiting, func() int { return max(o.MaxConns/2, 1) }},
		{"number of resets", &o.MaxResets, func() int { return 5000 }},
		{"number of control frames", &o.MaxControl, func() int { return 20000 }},
		{"size of headers", &o.MaxHeader, func() int { return 0 }},
		{"number of streams", &o.MaxStreams, func() int { return 0 }},
	} {
		if *f.v < 0 {
			return fmt.Errorf("the %s %d is negative", f.name, *f.v)
		}
		if *f.v == 0 {
			*f.v = f.def()
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.TLS != nil {
		o.TLS = named(o.TLS)
	}
	return nil
}

// named returns cfg with the port's protocols, whichever configuration it chooses for a client.
func named(cfg *tls.Config) *tls.Config {
	cfg = cfg.Clone()
	cfg.NextProtos = []string{alpnNative, "h2", "http/1.1"}
	if choose := cfg.GetConfigForClient; choose != nil {
		cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hello)
			if chosen == nil || err != nil {
				return nil, err
			}
			chosen = chosen.Clone() // sessions are resumed with the outer configuration's keys, or those set in the chosen one
			chosen.NextProtos = cfg.NextProtos
			return chosen, nil
		}
	}
	return cfg
}

// alpnNative names the native protocol in TLS.
const alpnNative = "hull/1"

// Counters are how often something happened since the Port was made; Conns and Waiting are how many there are now.
type Counters struct {
	// Conns are open, Waiting of them HTTP/2 connections without a request so far.
	Conns, Waiting int64
	// Native, GRPC and HTTP connections were handed over.
	Native, GRPC, HTTP int64
	// OverTotal and OverPeer connections were closed at once because of MaxConns and MaxConnsPerPeer, OverWaiting because of
	// MaxWaiting.
	OverTotal, OverPeer, OverWaiting int64
	// HandshakesFailed: nothing came in time, or TLS failed.
	HandshakesFailed int64
	// SlowReaders: connections whose peer took nothing of what was written to it, and gRPC streams. SlowSenders: gRPC streams whose request did not come whole.
	SlowReaders, SlowSenders int64
	// ResetFloods and ControlFloods: connections closed because of MaxResets and MaxControl; ControlFloods also those that a protocol's server told to be
	// calm, as grpc-go does if they ping too often.
	ResetFloods, ControlFloods int64
	// ShutConns: those connections of SlowReaders that were closed because they had no room for any answer, and got none when streams were cut off.
	ShutConns int64
	// LargeHeaders: requests whose header was larger than the protocol's server takes. SlowHeaders: connections closed because a request's header did not come
	// whole within Handshake. OverStreams: streams opened beyond MaxStreams.
	LargeHeaders, SlowHeaders, OverStreams int64
}

type counters struct {
	conns, waiting, native, grpc, http, overTotal, overPeer, overWaiting, handshakesFailed, slowReaders, shutConns, slowSenders, resetFloods,
	controlFloods, largeHeaders, slowHeaders, overStreams atomic.Int64
}

func (c *counters) read() Counters {
	return Counters{
		Conns: c.conns.Load(), Waiting: c.waiting.Load(), Native: c.native.Load(), GRPC: c.grpc.Load(), HTTP: c.http.Load(),
		OverTotal: c.overTotal.Load(), OverPeer: c.overPeer.Load(), OverWaiting: c.overWaiting.Load(),
		HandshakesFailed: c.handshakesFailed.Load(), SlowReaders: c.slowReaders.Load(), ShutConns: c.shutConns.Load(), SlowSenders: c.slowSenders.Load(), ResetFloods: c.resetFloods.Load(),
		ControlFloods: c.controlFloods.Load(), LargeHeaders: c.largeHeaders.Load(), SlowHeaders: c.slowHeaders.Load(), OverStreams: c.overStreams.Load(),
	}
}
