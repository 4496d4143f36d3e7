package oneport_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/hull-go/hull/internal/oneport"
	"github.com/hull-go/hull/internal/porttest"
)

// arrived is a connection as a protocol got it, and what was read from it up to its end.
type arrived struct {
	protocol string
	conn     net.Conn
	read     []byte
}

// start serves a port on a real socket. What arrives is read to its end and told of.
func start(t *testing.T, o oneport.Options) (addr string, p *oneport.Port, got chan arrived) {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got = make(chan arrived, 16)
	take := func(protocol string) func(net.Conn) {
		return func(c net.Conn) {
			b, _ := io.ReadAll(c)
			got <- arrived{protocol, c, b}
			c.Close()
		}
	}
	p, err = oneport.New(ln, porttest.Magic, oneport.Protocols{Native: take("native"), GRPC: take("gRPC"), HTTP: take("HTTP")}, o)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- p.Serve() }()
	t.Cleanup(func() {
		p.StopAccepting()
		if err := <-served; err != nil {
			t.Error(err)
		}
		p.Wait()
		if n := p.Counters(); n.Conns != 0 || n.Waiting != 0 {
			t.Errorf("connections are left: %+v", n)
		}
	})
	return ln.Addr().String(), p, got
}

const preface = http2.ClientPreface

var grpcHeaders = porttest.GRPC()

// TestProtocols: what is sent decides who gets the connection, and the protocol gets it all, but for what was meant for the port.
func TestProtocols(t *testing.T) {
	settings := porttest.Frames(func(f *http2.Framer) { _ = f.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20}) })
	ack := porttest.Frames(func(f *http2.Framer) { _ = f.WriteSettingsAck() })
	ping := porttest.Frames(func(f *http2.Framer) { _ = f.WritePing(false, [8]byte{1, 2}) })
	window := porttest.Frames(func(f *http2.Framer) { _ = f.WriteWindowUpdate(0, 5) })
	data := porttest.Frames(func(f *http2.Framer) { _ = f.WriteData(1, true, []byte("hello")) })
	grpc := porttest.Frames(func(f *http2.Framer) { porttest.Request(f, grpcHeaders) })
	head := func(kv ...string) string {
		return porttest.Frames(func(f *http2.Framer) {
			porttest.Request(f, porttest.Headers(append([]string{":method", "POST", ":path", "/a.B/C"}, kv...)...))
		})
	}
	split := porttest.Frames(func(f *http2.Framer) {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: grpcHeaders[:9], PadLength: 7, Priority: http2.PriorityParam{Weight: 3}})
		_ = f.WriteContinuation(1, false, grpcHeaders[9:12])
		_ = f.WriteContinuation(1, true, grpcHeaders[12:])
	})
	tests := []struct{ name, send, protocol, read string }{
		{"native", "\x9eHULL", "native", "\x9eHULL"},
		{"HTTP/1.1", "GET / HTTP/1.1\r\n\r\n", "HTTP", "GET / HTTP/1.1\r\n\r\n"},
		{"a verb that begins like the preface", "PROPFIND / HTTP/1.1\r\n\r\n", "HTTP", "PROPFIND / HTTP/1.1\r\n\r\n"},
		{"nonsense", "SSH-2.0\r\n", "HTTP", "SSH-2.0\r\n"},
		{"gRPC", preface + settings + ack + grpc + data, "gRPC", preface + settings + grpc + data},
		{"gRPC whose ack comes late", preface + settings + grpc + data + ack + data, "gRPC", preface + settings + grpc + data + data},
		{"gRPC with its own acks too", preface + settings + ack + grpc + ack + data, "gRPC", preface + settings + grpc + ack + data},
		{"gRPC after a ping", preface + settings + ping + window + grpc + ack + ping, "gRPC", preface + settings + window + grpc + ping},
		{"gRPC in pieces", preface + settings + split, "gRPC", preface + settings + split},
		{"gRPC by another name", preface + settings + head("content-type", "application/grpc-web"), "HTTP", preface + settings + head("content-type", "application/grpc-web")},
		{"gRPC through a proxy", preface + settings + head("content-type", "application/grpc", "via", "1.1 x"), "HTTP", preface + settings + head("content-type", "application/grpc", "via", "1.1 x")},
		{"gRPC through Envoy", preface + settings + head("content-type", "application/grpc", "x-envoy-expected-rq-timeout-ms", "1"), "HTTP",
			preface + settings + head("content-type", "application/grpc", "x-envoy-expected-rq-timeout-ms", "1")},
		{"a Hull client's second attempt", preface + settings + head("content-type", "application/grpc", "x-envoy-attempt-count", "2"), "gRPC",
			preface + settings + head("content-type", "application/grpc", "x-envoy-attempt-count", "2")},
		{"JSON", preface + settings + ack + head("content-type", "application/json") + data, "HTTP", preface + settings + head("content-type", "application/json") + data},
		{"data before any request", preface + settings + data + ack, "HTTP", preface + settings + data},
		{"no settings first", preface + data, "HTTP", preface + data},
		{"headers that do not decode", preface + settings + porttest.Frames(func(f *http2.Framer) { porttest.Request(f, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) }), "HTTP",
			preface + settings + porttest.Frames(func(f *http2.Framer) { porttest.Request(f, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) })},
	}
	for _, tt := range tests {
		for _, pieces := range []bool{false, true} {
			addr, _, got := start(t, oneport.Options{})
			c := dial(t, addr)
			if pieces { // one byte in a segment, as far as the kernel lets it be
				for i := range len(tt.send) {
					if _, err := io.WriteString(c, tt.send[i:i+1]); err != nil {
						t.Fatal(err)
					}
				}
			} else if _, err := io.WriteString(c, tt.send); err != nil {
				t.Fatal(err)
			}
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			a := <-got
			if a.protocol != tt.protocol || string(a.read) != tt.read {
				t.Errorf("%s (in pieces %v): %s got %q, want %s and %q", tt.name, pieces, a.protocol, a.read, tt.protocol, tt.read)
			}
		}
	}
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestNativeKeepsItsConnection: the native protocol gets a connection whose descriptor it can reach, with nothing in front of it.
func TestNativeKeepsItsConnection(t *testing.T) {
	addr, _, got := start(t, oneport.Options{})
	c := dial(t, addr)
	if _, err := c.Write([]byte{porttest.Magic}); err != nil {
		t.Fatal(err)
	}
	c.Close()
	a := <-got
	if _, ok := a.conn.(interface{ SetNoDelay(bool) error }); !ok {
		t.Errorf("the native protocol got a %T", a.conn)
	}
}

// TestFloods: too many resets or control frames in a second end the connection.
func TestFloods(t *testing.T) {
	open := preface + porttest.Frames(func(f *http2.Framer) {
		_ = f.WriteSettings()
		porttest.Request(f, grpcHeaders)
	})
	tests := []struct {
		name  string
		frame func(f *http2.Framer)
		count func(oneport.Counters) int64
	}{
		{"resets", func(f *http2.Framer) { _ = f.WriteRSTStream(1, http2.ErrCodeCancel) }, func(n oneport.Counters) int64 { return n.ResetFloods }},
		{"pings", func(f *http2.Framer) { _ = f.WritePing(false, [8]byte{}) }, func(n oneport.Counters) int64 { return n.ControlFloods }},
		{"settings", func(f *http2.Framer) { _ = f.WriteSettings() }, func(n oneport.Counters) int64 { return n.ControlFloods }},
		{"empty data", func(f *http2.Framer) { _ = f.WriteData(1, false, nil) }, func(n oneport.Counters) int64 { return n.ControlFloods }},
	}
	for _, tt := range tests {
		addr, p, got := start(t, oneport.Options{MaxResets: 50, MaxControl: 50})
		c := dial(t, addr)
		one := porttest.Frames(tt.frame)
		// Far more than the limit, in one go: a second cannot begin anew often enough.
		if _, err := io.WriteString(c, open+strings.Repeat(one, 5000)); err != nil {
			t.Logf("%s: the rest could not be sent: %v", tt.name, err)
		}
		if a := <-got; len(a.read) > len(open)+4000*len(one) {
			t.Errorf("%s: the server got %d bytes", tt.name, len(a.read))
		}
		if n := p.Counters(); tt.count(n) != 1 {
			t.Errorf("%s: %+v", tt.name, n)
		}
		c.Close()
	}
}

// TestWaiting: connections without a request are bounded, and pings on them answered.
func TestWaiting(t *testing.T) {
	addr, p, _ := start(t, oneport.Options{MaxWaiting: 1})
	hello := preface + porttest.Frames(func(f *http2.Framer) {
		_ = f.WriteSettings()
		_ = f.WriteSettingsAck()
		_ = f.WritePing(false, [8]byte{7})
	})
	first := dial(t, addr)
	if _, err := io.WriteString(first, hello); err != nil {
		t.Fatal(err)
	}
	fr := http2.NewFramer(nil, first)
	for _, want := range []http2.FrameType{http2.FrameSettings, http2.FramePing} {
		f, err := fr.ReadFrame()
		if err != nil || f.Header().Type != want {
			t.Fatalf("%v, %v; want %v", f, err, want)
		}
		if ping, ok := f.(*http2.PingFrame); ok && (!ping.IsAck() || ping.Data != [8]byte{7}) {
			t.Errorf("%v", ping)
		}
	}
	second := dial(t, addr)
	if _, err := io.WriteString(second, hello); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, second) // until it is closed
	if n := p.Counters(); n.OverWaiting != 1 || n.Waiting != 1 {
		t.Errorf("%+v", n)
	}
	// When the port closes it says goodbye to the one that waits.
	p.StopAccepting()
	if f, err := fr.ReadFrame(); err != nil || f.Header().Type != http2.FrameGoAway {
		t.Errorf("%v, %v; want GOAWAY", f, err)
	}
}

// TestPerPeer: one address cannot take all connections.
func TestPerPeer(t *testing.T) {
	addr, p, _ := start(t, oneport.Options{MaxConnsPerPeer: 1})
	dial(t, addr)
	second := dial(t, addr)
	_, _ = io.Copy(io.Discard, second) // until it is closed
	if n := p.Counters(); n.OverPeer != 1 || n.Conns != 1 {
		t.Errorf("%+v", n)
	}
}

// certificate makes a certificate for itself.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestTLS: ALPN or what is inside decides, the certificate is known, and who speaks no TLS is told so.
func TestTLS(t *testing.T) {
	cert, pool := certificate(t)
	grpc := preface + porttest.Frames(func(f *http2.Framer) {
		_ = f.WriteSettings()
		porttest.Request(f, grpcHeaders)
	})
	addr, p, got := start(t, oneport.Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven}})
	for _, tt := range []struct {
		name, send, protocol string
		alpn                 []string
		chosen               string
	}{
		{"native by ALPN", "\x9eHULL", "native", []string{"hull/1"}, "hull/1"},
		{"native without", "\x9eHULL", "native", nil, ""},
		{"gRPC", grpc, "gRPC", []string{"h2"}, "h2"},
		{"HTTP/1.1", "GET / HTTP/1.1\r\n\r\n", "HTTP", []string{"http/1.1"}, "http/1.1"},
	} {
		c := tls.Client(dial(t, addr), &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: tt.alpn, Certificates: []tls.Certificate{cert}})
		if _, err := io.WriteString(c, tt.send); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		a := <-got
		if a.protocol != tt.protocol || string(a.read) != tt.send || c.ConnectionState().NegotiatedProtocol != tt.chosen {
			t.Errorf("%s: %s got %q after choosing %q", tt.name, a.protocol, a.read, c.ConnectionState().NegotiatedProtocol)
		}
		if s := oneport.TLSState(a.conn); s == nil || len(s.PeerCertificates) != 1 {
			t.Errorf("%s: the certificate is lost: %+v", tt.name, s)
		}
		if _, ok := a.conn.(interface{ NetConn() net.Conn }); !ok && tt.protocol == "native" {
			t.Errorf("%s: %T does not show that it is inside of TLS", tt.name, a.conn)
		}
	}
	plain := dial(t, addr)
	if _, err := io.WriteString(plain, "GET / HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(plain); !strings.Contains(string(b), "this port speaks TLS") {
		t.Errorf("without TLS: %q, %v", b, err)
	}
	if n := p.Counters(); n.HandshakesFailed != 1 {
		t.Errorf("%+v", n)
	}
}

// TestTLSWhereThereIsNone: the client's error says that.
func TestTLSWhereThereIsNone(t *testing.T) {
	addr, _, _ := start(t, oneport.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := tls.Client(dial(t, addr), &tls.Config{ServerName: "localhost"}).HandshakeContext(ctx)
	var alert tls.AlertError
	if !errors.As(err, &alert) && (err == nil || !strings.Contains(err.Error(), "protocol version")) {
		t.Errorf("%v", err)
	}
}

func TestWrongOptions(t *testing.T) {
	for _, o := range []oneport.Options{{MaxConns: -1}, {Handshake: -1}, {SlowReader: -1}, {MaxResets: -1}} {
		if _, err := oneport.New(nil, porttest.Magic, oneport.Protocols{}, o); err == nil {
			t.Errorf("%+v is no error", o)
		}
	}
}
