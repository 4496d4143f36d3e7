package hull_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/hull-go/hull"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/transport/muxtransport"
)

// testCertificate is valid for a year of a bubble's time, for servers and clients.
func testCertificate(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
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

// TestMutualTLSInEveryProtocol: the handler knows who calls, whatever the caller speaks, and strangers are not let in.
func TestMutualTLSInEveryProtocol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		serverCert, serverPool := testCertificate(t, "a")
		clientCert, clientPool := testCertificate(t, "caller")
		w := hulltest.New(t)
		i := &impl{hello: func(ctx context.Context, _ *pb.HelloRequest) (*pb.HelloReply, error) {
			p, _ := peer.FromContext(ctx)
			info, _ := p.AuthInfo.(credentials.TLSInfo)
			if len(info.State.PeerCertificates) == 0 {
				return &pb.HelloReply{Message: "nobody"}, nil
			}
			return &pb.HelloReply{Message: info.State.PeerCertificates[0].Subject.CommonName}, nil
		}}
		n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, i) },
			hull.ServeTLS(&tls.Config{Certificates: []tls.Certificate{serverCert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clientPool}))
		host := w.Network.Host("foreigner")
		config := &tls.Config{RootCAs: serverPool, ServerName: "a", Certificates: []tls.Certificate{clientCert}}

		conn, err := grpc.NewClient("passthrough:///a:80", grpc.WithTransportCredentials(credentials.NewTLS(config)),
			grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return host.Dial(ctx, addr) }))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if rep, err := pb.NewGreeterClient(conn).Hello(t.Context(), &pb.HelloRequest{}); err != nil || rep.GetMessage() != "caller" {
			t.Errorf("gRPC: %v, %v", rep, err)
		}
		for _, h2 := range []bool{false, true} {
			tr := &http.Transport{DialContext: host.DialContext, TLSClientConfig: config.Clone(), Protocols: new(http.Protocols)}
			tr.Protocols.SetHTTP1(!h2)
			tr.Protocols.SetHTTP2(h2)
			defer tr.CloseIdleConnections()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://a:80/greeter.Greeter/Hello", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			res, err := (&http.Client{Transport: tr}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || !strings.Contains(string(body), `"caller"`) || (res.ProtoMajor == 2) != h2 {
				t.Errorf("HTTP/2 %v: %s %s, %v", h2, res.Proto, body, err)
			}
		}
		d, err := muxtransport.NewDialer(muxtransport.Options{Dial: host.Dial, TLS: config.Clone()})
		if err != nil {
			t.Fatal(err)
		}
		native := pb.NewGreeterClient(w.Client("native", hull.WithDialer(d)).To("greeter"))
		if rep, err := native.Hello(t.Context(), &pb.HelloRequest{}); err != nil || rep.GetMessage() != "caller" {
			t.Errorf("native: %v, %v", rep, err)
		}
		c, err := host.Dial(t.Context(), "a:80") // a client that names no protocol
		if err != nil {
			t.Fatal(err)
		}
		silent := tls.Client(c, config)
		defer silent.Close()
		said := "\x9eHULL\x00\x01\x01" + "\x00\x00\x00\x01\x00\x00\x00\x00" // HELLO
		call := "\x10\x01\x15greeter.Greeter/Hello\x02{}"
		said += string([]byte{byte(len(call))}) + "\x00\x00\x02\x00\x00\x01\x00" + call
		if _, err := io.WriteString(silent, said); err != nil {
			t.Fatal(err)
		}
		_ = silent.SetReadDeadline(time.Now().Add(time.Second))
		if answer, _ := io.ReadAll(silent); !strings.Contains(string(answer), `"caller"`) {
			t.Errorf("native without ALPN: %q", answer)
		}
		stranger := &http.Transport{DialContext: host.DialContext, TLSClientConfig: &tls.Config{RootCAs: serverPool, ServerName: "a"}}
		defer stranger.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://a:80/greeter.Greeter/Hello", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		if res, err := stranger.RoundTrip(req); err == nil {
			res.Body.Close()
			t.Errorf("a stranger got %s", res.Status)
		}
		synctest.Wait()
		if s := n.Server.Snapshot(); s.Port.GRPC != 1 || s.Port.HTTP != 2 || s.Port.Native != 2 || s.Native.Accepted != 2 || s.Port.HandshakesFailed != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestWrongServerOptions(t *testing.T) {
	for name, o := range map[string]hull.ServerOption{
		"hull.ServeTLS without a certificate": hull.ServeTLS(&tls.Config{}), // no certificate is what is tested
		"an origin with a path":               hull.AllowOrigins("https://app.example/path"),
		"a negative limit":                    hull.WithLimits(hull.Limits{Conns: -1}),
		"a negative time":                     hull.WithLimits(hull.Limits{SlowReader: -1}),
		"fewer pings than peers need":         hull.WithLimits(hull.Limits{Pings: 10}),
		"headers that no frame can hold":      hull.WithLimits(hull.Limits{Header: 1 << 20}),
	} {
		if _, err := hull.NewServer("greeter", o); err == nil {
			t.Errorf("%s is no error", name)
		}
	}
}
