package muxtransport_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/muxtransport"
	"github.com/hull-go/hull/transport/transporttest"
)

// newCert makes a certificate for the loopback interface that is its own authority.
func newCert(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestMutualTLS runs the suite inside of TLS, where each side knows the other by its certificate.
func TestMutualTLS(t *testing.T) {
	serverCert, serverPool := newCert(t)
	clientCert, clientPool := newCert(t)
	h := harness("")
	h.Listen = func(t *testing.T) (net.Listener, transporttest.DialFunc) {
		ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{serverCert}, NextProtos: []string{muxtransport.ALPN},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clientPool})
		if err != nil {
			t.Fatal(err)
		}
		return ln, dialTCP
	}
	h.NewDialer = func(dial transporttest.DialFunc, l transporttest.Limits) (transport.Dialer, error) {
		o := options(l)
		o.Dial, o.TLS = dial, &tls.Config{RootCAs: serverPool, Certificates: []tls.Certificate{clientCert}}
		return muxtransport.NewDialer(o)
	}
	transporttest.Run(t, h)
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

// TestUnix runs the suite over a Unix socket.
func TestUnix(t *testing.T) {
	h := harness("")
	h.Listen = func(t *testing.T) (net.Listener, transporttest.DialFunc) {
		path := filepath.Join(t.TempDir(), "s")
		ln, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		return ln, func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	}
	transporttest.Run(t, h)
}

// peerHandler answers with the name in the caller's certificate.
type peerHandler struct{}

func (peerHandler) Unary(_ context.Context, in *transport.Incoming) transport.Outgoing {
	name := "nobody"
	if in.TLS != nil && len(in.TLS.PeerCertificates) > 0 {
		name = in.TLS.PeerCertificates[0].Subject.CommonName
	}
	return transport.Outgoing{Codec: codec.Bytes{}, Message: []byte(name)}
}

func (peerHandler) Stream(context.Context, *transport.Incoming, transport.ServerStream) transport.Outgoing {
	return transport.Outgoing{}
}

// Whatever the two sides have against each other is a failed handshake; one that hangs up says nothing.
func TestTLSHandshake(t *testing.T) {
	serverCert, serverPool := newCert(t)
	clientCert, clientPool := newCert(t)
	otherCert, _ := newCert(t)
	mutual := &tls.Config{Certificates: []tls.Certificate{serverCert}, NextProtos: []string{muxtransport.ALPN},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clientPool}
	known := &tls.Config{RootCAs: serverPool, Certificates: []tls.Certificate{clientCert}}
	for name, c := range map[string]struct {
		server, client *tls.Config
		want           status.Kind // 0 = works
	}{
		"both are known":         {mutual, known, 0},
		"the server is unknown":  {mutual, &tls.Config{Certificates: []tls.Certificate{clientCert}}, status.Handshake},
		"the client is unknown":  {mutual, &tls.Config{RootCAs: serverPool, Certificates: []tls.Certificate{otherCert}}, status.Handshake},
		"the client is nobody":   {mutual, &tls.Config{RootCAs: serverPool}, status.Handshake},
		"another protocol":       {&tls.Config{Certificates: []tls.Certificate{serverCert}, NextProtos: []string{"h2"}}, known, status.Handshake},
		"no protocol named":      {&tls.Config{Certificates: []tls.Certificate{serverCert}}, known, status.Handshake},
		"a server without TLS":   {nil, known, status.Dial},
		"a name it does not own": {mutual, &tls.Config{RootCAs: serverPool, Certificates: []tls.Certificate{clientCert}, ServerName: "elsewhere"}, status.Handshake},
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			if c.server != nil {
				ln = tls.NewListener(ln, c.server)
			}
			serveOn(t, ln, peerHandler{}, muxtransport.Options{})
			d, err := muxtransport.NewDialer(muxtransport.Options{TLS: c.client})
			if err != nil {
				t.Fatal(err)
			}
			conn, serr := d.Dial(context.Background(), ln.Addr().String())
			if c.want != 0 {
				if serr == nil || serr.Kind != c.want || serr.Fate != status.NotSent {
					t.Errorf("%v, want kind %v", serr, c.want)
				}
				return
			}
			if serr != nil {
				t.Fatal(serr)
			}
			defer conn.Close()
			var answer []byte
			serr = conn.Call(context.Background(), &transport.Request{Method: "a.B/C", Codec: codec.Bytes{}, Message: []byte(nil),
				Deadline: policy.Now().Add(time.Minute), PathAttempt: 1}, &transport.Reply{Message: &answer})
			if serr != nil || string(answer) != "test" {
				t.Errorf("the server says its caller is %q: %v", answer, serr)
			}
		})
	}
}

// TestUnixAddress dials a Unix socket by its address.
func TestUnixAddress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, ln, peerHandler{}, muxtransport.Options{})
	d, err := muxtransport.NewDialer(muxtransport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"unix://" + path, "unix:" + path} {
		c, serr := d.Dial(context.Background(), addr)
		if serr != nil {
			t.Fatalf("%s: %v", addr, serr)
		}
		c.Close()
	}
}
