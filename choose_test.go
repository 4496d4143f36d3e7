package hull_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/grpctransport"
	"github.com/hull-go/hull/transport/httptransport"
	"github.com/hull-go/hull/transport/muxtransport"
)

// foreignGreeter is a greeter that knows nothing of Hull.
type foreignGreeter struct {
	greeterpb.UnimplementedGreeterServer
}

func (foreignGreeter) Hello(_ context.Context, r *greeterpb.HelloRequest) (*greeterpb.HelloReply, error) {
	return &greeterpb.HelloReply{Message: "grpc says " + r.Name}, nil
}

// grpcServer starts a grpc-go server and returns its address.
func grpcServer(t *testing.T) string {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	greeterpb.RegisterGreeterServer(s, foreignGreeter{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	return ln.Addr().String()
}

// jsonServer starts a plain HTTP server and returns its address.
func jsonServer(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req struct{ Name string }
		_ = json.NewDecoder(r.Body).Decode(&req)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": "http says " + req.Name})
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// hullServer starts a server of Hull's and returns its address.
func hullServer(t *testing.T, opts ...hull.ServerOption) string {
	t.Helper()
	return hullServerWith(t, func(s *hull.Server) {
		hull.Handle(s, "greeter.Greeter/Hello", func(_ context.Context, r *greeterpb.HelloRequest) (*greeterpb.HelloReply, error) {
			return &greeterpb.HelloReply{Message: "hull says " + r.Name}, nil
		}, hull.Idempotent())
	}, opts...)
}

// hullServerWith is hullServer with other methods.
func hullServerWith(t *testing.T, register func(*hull.Server), opts ...hull.ServerOption) string {
	t.Helper()
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := hull.NewServer("greeter", append([]hull.ServerOption{hull.WithRegistry(reg), hull.Drain(0, time.Second)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	register(s)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, reg.Close()); err != nil {
			t.Error(err)
		}
	})
	<-s.Ready()
	return s.Addr()
}

// noted is a dialer that says when it is used.
type noted struct {
	transport.Dialer
	used chan string
	name string
}

func (n noted) Dial(ctx context.Context, addr string) (transport.Conn, *status.Error) {
	n.used <- n.name
	return n.Dialer.Dial(ctx, addr)
}

// ways are all transports, each of which says in used that it was dialled with.
func ways(t *testing.T, used chan string) []hull.ClientOption {
	t.Helper()
	mux, err1 := muxtransport.NewDialer(muxtransport.Options{})
	g, err2 := grpctransport.NewDialer(grpctransport.Options{})
	h, err3 := httptransport.NewDialer(httptransport.Options{})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return []hull.ClientOption{hull.WithTransport("hull/1", noted{mux, used, "hull/1"}), hull.WithTransport("grpc", noted{g, used, "grpc"}),
		hull.WithTransport("http", noted{h, used, "http"})}
}

// TestChoice is that a node is called in the first of the protocols that it speaks.
func TestChoice(t *testing.T) {
	tests := []struct {
		name   string
		server func(*testing.T) string
		speaks []string
		want   string // text, and the ways that were tried
	}{
		{"hull", func(t *testing.T) string { return hullServer(t) }, []string{"hull/1", "grpc", "http"}, "hull says Ada hull/1"},
		{"hull in silence", func(t *testing.T) string { return hullServer(t) }, nil, "hull says Ada hull/1"},
		{"hull by gRPC", func(t *testing.T) string { return hullServer(t) }, []string{"http", "grpc"}, "hull says Ada grpc"},
		{"hull by JSON", func(t *testing.T) string { return hullServer(t) }, []string{"http"}, "hull says Ada http"},
		{"grpc", grpcServer, []string{"grpc"}, "grpc says Ada grpc"},
		{"grpc in silence", grpcServer, nil, "grpc says Ada hull/1 grpc"},
		{"grpc that claims more", grpcServer, []string{"hull/1", "grpc"}, "grpc says Ada hull/1 grpc"},
		{"http", jsonServer, []string{"http"}, "http says Ada http"},
		{"something new", grpcServer, []string{"morse"}, "error: speaks morse"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			engine := memregistry.New()
			reg, err := registry.New(engine, registry.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer reg.Close()
			node := registry.Node{ID: "a", Service: "greeter", Address: tt.server(t), Protocols: tt.speaks}
			if _, err := engine.Announce(t.Context(), &node, time.Hour); err != nil {
				t.Fatal(err)
			}
			used := make(chan string, 100)
			c, err := hull.NewClient(append(ways(t, used), hull.WithRegistry(reg))...)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			rep, err := hull.Call[greeterpb.HelloReply](t.Context(), c.To("greeter"), "greeter.Greeter/Hello", &greeterpb.HelloRequest{Name: "Ada"}, hull.Timeout(20*time.Second))
			if want, isError := strings.CutPrefix(tt.want, "error: "); isError {
				if err == nil || !strings.Contains(err.Error(), want) || status.FateOf(err) != status.NotSent {
					t.Errorf("%v, want %q", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := rep.Message
			for len(used) > 0 {
				got += " " + <-used
			}
			if got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// TestAddresses is that servers can be called by their address alone.
func TestAddresses(t *testing.T) {
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	c, err := hull.NewClient(hull.WithRegistry(reg))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	own := hullServer(t)
	for target, want := range map[string]string{
		"grpc://" + grpcServer(t): "grpc says Ada", "http://" + jsonServer(t): "http says Ada", "hull://" + own: "hull says Ada",
		"grpc://" + own: "hull says Ada", "http://" + own: "hull says Ada",
		"ftp://" + own: "error: write grpc://host:port", "grpc://somewhere": "error: write grpc://host:port", "grpc://a:1/b": "error: write grpc://host:port",
	} {
		rep, err := hull.Call[greeterpb.HelloReply](t.Context(), c.To(target), "greeter.Greeter/Hello", &greeterpb.HelloRequest{Name: "Ada"}, hull.Timeout(20*time.Second))
		if text, isError := strings.CutPrefix(want, "error: "); isError {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v, want %q", target, err, text)
			}
			continue
		}
		if err != nil || rep.Message != want {
			t.Errorf("%s: %v, %v; want %q", target, rep, err, want)
		}
	}
}

// certificate makes one for 127.0.0.1 that signs itself.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
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
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// TestTLS is each protocol under mutual TLS on one port, and what happens to those who have no certificate.
func TestTLS(t *testing.T) {
	cert, pool := certificate(t)
	addr := hullServer(t, hull.ServeTLS(&tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}))
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	call := func(cfg *tls.Config, scheme string) error {
		opts := []hull.ClientOption{hull.WithRegistry(reg)}
		if cfg != nil {
			opts = append(opts, hull.WithTLS(cfg))
		}
		c, err := hull.NewClient(opts...)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		rep, err := hull.Call[greeterpb.HelloReply](t.Context(), c.To(scheme+"://"+addr), "greeter.Greeter/Hello", &greeterpb.HelloRequest{Name: "Ada"}, hull.Timeout(20*time.Second))
		if err == nil && rep.Message != "hull says Ada" {
			t.Errorf("%s: %q", scheme, rep.Message)
		}
		return err
	}
	for _, scheme := range []string{"hull", "grpc", "http"} {
		if err := call(&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}}, scheme); err != nil {
			t.Errorf("%s: %v", scheme, err)
		}
		for name, cfg := range map[string]*tls.Config{"no certificate": {RootCAs: pool}, "no trust": {Certificates: []tls.Certificate{cert}}, "no TLS": nil} {
			if err := call(cfg, scheme); err == nil {
				t.Errorf("%s, %s: %v", scheme, name, err)
			}
		}
	}
}

type dialFunc = func(ctx context.Context, addr string) (net.Conn, error)

// eachDialer makes a dialer of each transport.
func eachDialer() map[string]func(dial dialFunc) (transport.Dialer, error) {
	return map[string]func(dial dialFunc) (transport.Dialer, error){
		"hull": func(dial dialFunc) (transport.Dialer, error) {
			return muxtransport.NewDialer(muxtransport.Options{Dial: dial})
		},
		"grpc": func(dial dialFunc) (transport.Dialer, error) {
			return grpctransport.NewDialer(grpctransport.Options{Dial: dial})
		},
		"http": func(dial dialFunc) (transport.Dialer, error) {
			return httptransport.NewDialer(httptransport.Options{Dial: dial})
		},
	}
}

// TestPoliciesOverEachTransport is that nodes which die, hang, leave and come back cost no idempotent call, whatever carries the calls.
func TestPoliciesOverEachTransport(t *testing.T) {
	faults := map[string]func(w *hulltest.World){
		"kill": func(w *hulltest.World) { w.Node("b").Kill() },
		"hang": func(w *hulltest.World) { w.Node("b").Freeze() },
		"slow": func(w *hulltest.World) { w.Node("b").Slow(3 * time.Second) },
		"cut":  func(w *hulltest.World) { w.Node("b").Cut(true) },
		"refuse": func(w *hulltest.World) {
			w.Network.Pair("caller", "b").Refuse(true)
			w.Network.Pair("caller", "b").Cut()
		},
		"restart": func(w *hulltest.World) { w.Node("b").Stop(); w.Node("b").Restart() },
	}
	for name, dialer := range eachDialer() {
		for fault, plant := range faults {
			t.Run(name+"/"+fault, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := hulltest.New(t)
					for _, n := range []string{"a", "b", "c"} {
						w.Serve("greeter", n, greeter)
					}
					d, err := dialer(w.Network.Host("caller").Dial)
					if err != nil {
						t.Fatal(err)
					}
					c := w.Client("caller", hull.WithDialer(d))
					var before, after load
					before.run(t, c, 40, time.Second)
					before.allOK(t, "before")
					go plant(w)
					after.run(t, c, 40, 5*time.Second)
					after.allOK(t, fault)
					if after.nodes["a"] == 0 || after.nodes["c"] == 0 || after.longest > 5*time.Second {
						t.Errorf("nodes that answered: %v, longest %v", after.nodes, after.longest)
					}
					if fault == "hang" || fault == "slow" {
						w.Node("b").Thaw()
						w.Node("b").Slow(0)
					}
					if fault == "cut" {
						w.Node("b").Cut(false)
					}
					if fault == "refuse" {
						w.Network.Pair("caller", "b").Refuse(false)
					}
				})
			})
		}
	}
}
