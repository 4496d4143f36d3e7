package hull

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hull-go/hull/internal/hop"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/transport"
)

// Trust says who may tell a server where a call stands in its call tree: its attempt number, that it is critical-plus, how often it may be
// repeated (x-envoy-max-retries, x-envoy-retry-on), its trace and its baggage, which pass on to the calls that are made to serve it. What others
// say of it does not count; they are strangers. Their call is a first attempt, critical at most, takes MaxTime at most, and what they say reaches
// neither handlers nor the calls below, except that handlers still see trace and baggage.
//
// The zero value trusts nobody. A server that is told nothing has DefaultTrust.
type Trust struct {
	// Networks are whose addresses are trusted. Addresses that are not IP's, of Unix sockets and listeners in memory, count as 127.0.0.1.
	Networks []netip.Prefix
	// Certificate reports whether a caller is trusted who has shown a certificate that TLS verified; nil = that alone is not enough. It is called
	// once for each native connection, else for each call, and must not block.
	Certificate func(*x509.Certificate) bool
	// Proxied: calls are trusted as the proxy is that they came through. Without it calls that say so (via, forwarded, x-forwarded-…), and those of
	// browsers, are strangers', whatever the address and the certificate: they are the proxy's, and it passes on what it is sent.
	Proxied bool
	// MaxTime is how long a stranger's unary call may take at most, whatever he says or leaves out; 0 = DefaultMaxTime, negative = as long as
	// he says. Streams are not bounded.
	MaxTime time.Duration
}

// DefaultMaxTime is Trust.MaxTime where it is not said. Proxies give up at about that time too.
const DefaultMaxTime = time.Minute

// DefaultTrust is what a server has that is told nothing: callers on this machine, in private networks (RFC 1918, RFC 4193, link-local) or with a
// certificate that TLS has verified are trusted, unless they come through a proxy. A load balancer that forwards connections hides where they
// come from, so servers behind one that faces the world should have WithEdge.
func DefaultTrust() Trust {
	return Trust{Networks: slices.Clone(privateNetworks()), Certificate: func(*x509.Certificate) bool { return true }}
}

func privateNetworks() []netip.Prefix {
	return []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8),
		netip.PrefixFrom(netip.AddrFrom4([4]byte{10}), 8),
		netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16}), 12),
		netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168}), 16),
		netip.PrefixFrom(netip.AddrFrom4([4]byte{169, 254}), 16),
		netip.PrefixFrom(netip.IPv6Loopback(), 128),
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfc}), 7),
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfe, 0x80}), 10),
	}
}

// WithTrustedCallers says who may tell the server where a call stands in its call tree; DefaultTrust without it. It is no part of the document
// that WithSpec takes: who is trusted is not changed while a program runs.
func WithTrustedCallers(t Trust) ServerOption {
	return serverOption(func(o *serverOptions) error {
		for _, p := range t.Networks {
			if !p.IsValid() {
				return fmt.Errorf("WithTrustedCallers: %v is no network: make it with netip.ParsePrefix", p)
			}
		}
		t.Networks = slices.Clone(t.Networks)
		o.trust = &t
		return nil
	})
}

// WithEdge is for servers that the world can reach: every caller is a stranger, as with WithTrustedCallers(Trust{}). What is called on
// behalf of their calls is a new call tree.
func WithEdge() ServerOption { return WithTrustedCallers(Trust{}) }

// knows reports whether whoever is at the other end of a connection is trusted.
func (t *Trust) knows(addr net.Addr, state *tls.ConnectionState) bool {
	if t.Certificate != nil && state != nil && len(state.VerifiedChains) > 0 && t.Certificate(state.VerifiedChains[0][0]) {
		return true
	}
	if len(t.Networks) == 0 {
		return false
	}
	ip := callerIP(addr)
	return slices.ContainsFunc(t.Networks, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// callerIP is a caller's address; what is none of IP's is this machine's own.
func callerIP(addr net.Addr) netip.Addr {
	switch a := addr.(type) {
	case nil:
		return netip.Addr{}
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	if ap, err := netip.ParseAddrPort(addr.String()); err == nil {
		return ap.Addr().Unmap().WithZone("")
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// relayed reports whether a call says that it comes through a proxy or from a browser.
func relayed(md transport.Metadata) bool {
	return slices.ContainsFunc(md, func(f transport.Field) bool {
		switch f.Key {
		case "via", "forwarded", "x-real-ip", "x-envoy-external-address", "true-client-ip", "cf-connecting-ip", "fastly-client-ip",
			"origin", "sec-fetch-site":
			return true
		}
		return strings.HasPrefix(f.Key, "x-forwarded-")
	})
}

// ofStrangers are the headers that only trusted callers may set. The trace and the baggage are for handlers to judge.
func ofStrangers(f transport.Field) bool {
	switch f.Key {
	case transport.HeaderAttempt, transport.HeaderCriticality, hop.MaxRetries, hop.RetryOn, hop.RetryGRPCOn:
		return true
	}
	return false
}

// heed takes from a call what its caller has no right to say. That of a trusted caller without headers it leaves as it is.
func (s *Server) heed(from *caller, in *transport.Incoming, m *method) {
	if from.trusts(in.Metadata) {
		return
	}
	in.PathAttempt = 1
	if in.Criticality == policy.CriticalPlus {
		in.Criticality = policy.Critical
	}
	if most := s.strangersTime(in, m); most != 0 && (in.Deadline == 0 || in.Deadline > most) {
		in.Deadline = most
	}
	if slices.ContainsFunc(in.Metadata, ofStrangers) {
		in.Metadata = slices.DeleteFunc(slices.Clone(in.Metadata), ofStrangers)
	}
}

// strangersTime is until when a stranger's call may take; 0 = as long as he says.
func (s *Server) strangersTime(in *transport.Incoming, m *method) policy.Time {
	most := s.opt.trust.MaxTime
	if most == 0 {
		most = DefaultMaxTime
	}
	if most < 0 || m == nil || m.serve == nil {
		return 0
	}
	received := in.Received
	if received == 0 {
		received = policy.Now()
	}
	return received.Add(most)
}

// trusts reports whether a call that came over the connection is a trusted caller's.
func (c *caller) trusts(md transport.Metadata) bool {
	return !c.stranger && (c.proxied || !relayed(md))
}

// bounded returns ctx with a deadline that comes before its own.
func bounded(ctx context.Context, deadline policy.Time) context.Context {
	ctx, cancel := context.WithDeadline(ctx, deadline.Clock())
	context.AfterFunc(ctx, cancel) // the transport ends its context with the call, and the timer with it
	return ctx
}
