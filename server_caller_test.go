package hull

import (
	"crypto/tls"
	"crypto/x509"
	"hash/maphash"
	"net/url"
	"testing"
)

// TestIdentityOfCallers: callers are told apart by what their certificate proves, and without one that was verified by their host.
func TestIdentityOfCallers(t *testing.T) {
	chain := func(subject, uri string) *tls.ConnectionState {
		leaf := &x509.Certificate{RawSubject: []byte(subject)}
		if uri != "" {
			u, err := url.Parse(uri)
			if err != nil {
				t.Fatal(err)
			}
			leaf.URIs = []*url.URL{u}
		}
		return &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}, PeerCertificates: []*x509.Certificate{leaf}}
	}
	unverified := &tls.ConnectionState{PeerCertificates: chain("shop", "").PeerCertificates}
	seed := maphash.MakeSeed()
	for _, tt := range []struct {
		name       string
		addr, also string
		tls, other *tls.ConnectionState
		same       bool
	}{
		{"another connection", "10.0.0.1:1", "10.0.0.1:2", nil, nil, true},
		{"another host", "10.0.0.1:1", "10.0.0.2:1", nil, nil, false},
		{"another port of a host of version 6", "[::1]:1", "[::1]:2", nil, nil, true},
		{"a certificate from elsewhere", "10.0.0.1:1", "10.0.0.2:1", chain("shop", ""), chain("shop", ""), true},
		{"two certificates of a host", "10.0.0.1:1", "10.0.0.1:1", chain("shop", ""), chain("bank", ""), false},
		{"one name, two subjects", "10.0.0.1:1", "10.0.0.2:1", chain("shop", "spiffe://x/shop"), chain("shop 2", "spiffe://x/shop"), true},
		{"two names, one subject", "10.0.0.1:1", "10.0.0.1:1", chain("", "spiffe://x/shop"), chain("", "spiffe://x/bank"), false},
		{"a certificate that nobody has verified", "10.0.0.1:1", "10.0.0.2:1", unverified, unverified, false},
		{"with one and without", "10.0.0.1:1", "10.0.0.1:1", chain("shop", ""), nil, false},
		{"a subject like a host", "10.0.0.1:1", "shop:1", chain("shop", ""), nil, false},
	} {
		id := func(addr string, state *tls.ConnectionState) uint64 {
			c := &caller{addr: nodeAddr(addr), tls: state}
			first := c.identity(seed)
			if again := c.identity(seed); again != first || first == 0 {
				t.Errorf("%s: %d, and then %d", tt.name, first, again)
			}
			return first
		}
		if a, b := id(tt.addr, tt.tls), id(tt.also, tt.other); (a == b) != tt.same {
			t.Errorf("%s: the same caller: %v, want %v", tt.name, a == b, tt.same)
		}
	}
	if (&caller{}).identity(seed) == 0 {
		t.Error("a caller without an address is none")
	}
}
