package hull_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
	"github.com/hull-go/hull/registry/staticregistry"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/grpctransport"
	"github.com/hull-go/hull/transport/httptransport"
	"github.com/hull-go/hull/transport/memnet"
	"github.com/hull-go/hull/transport/muxtransport"
)

// street is a network with one house, whose inhabitants change.
type street struct {
	t      *testing.T
	net    *memnet.Network
	server *hull.Server // the last of Hull's
}

func (s *street) listen() net.Listener {
	ln, err := s.net.Host("house").Listen("house:80")
	if err != nil {
		s.t.Fatal(err)
	}
	return ln
}

// grpc lets a server live there that speaks nothing else; the returned function ends it.
func (s *street) grpc() func() {
	g := grpc.NewServer()
	greeterpb.RegisterGreeterServer(g, foreignGreeter{})
	done := make(chan struct{})
	ln := s.listen()
	go func() { defer close(done); _ = g.Serve(ln) }()
	return func() { g.Stop(); <-done }
}

// http lets one live there that speaks HTTP/1.1 and waits for the end of a line, whatever comes.
func (s *street) http() func() {
	h := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req struct{ Name string }
		_ = json.NewDecoder(r.Body).Decode(&req)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": "http says " + req.Name})
	})}
	done := make(chan struct{})
	ln := s.listen()
	go func() { defer close(done); _ = h.Serve(ln) }()
	return func() { h.Close(); <-done }
}

func (s *street) hull() func() {
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	srv, err := hull.NewServer("greeter", hull.WithRegistry(reg), hull.Listener(s.listen()), hull.Drain(0, time.Second))
	if err != nil {
		s.t.Fatal(err)
	}
	hull.Handle(srv, "greeter.Greeter/Hello", func(_ context.Context, r *greeterpb.HelloRequest) (*greeterpb.HelloReply, error) {
		return &greeterpb.HelloReply{Message: "hull says " + r.Name}, nil
	})
	s.server = srv
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	<-srv.Ready()
	return func() {
		stop()
		if err := errors.Join(<-done, reg.Close()); err != nil {
			s.t.Error(err)
		}
	}
}

// silent lets one live there that accepts and never says a word.
func (s *street) silent() func() {
	ln := s.listen()
	var conns []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns = append(conns, c)
		}
	}()
	return func() {
		ln.Close()
		<-done
		for _, c := range conns {
			c.Close()
		}
	}
}

// client is one whose discovery says where the house is, and not what is spoken there.
func (s *street) client(opts ...hull.ClientOption) *hull.Client {
	dial := s.net.Host("caller").Dial
	mux, err1 := muxtransport.NewDialer(muxtransport.Options{Dial: dial})
	g, err2 := grpctransport.NewDialer(grpctransport.Options{Dial: dial})
	h, err3 := httptransport.NewDialer(httptransport.Options{Dial: dial})
	engine, err4 := staticregistry.New([]string{"house:80"}, staticregistry.Options{})
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		s.t.Fatal(err)
	}
	reg, err := registry.New(engine, registry.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { reg.Close() })
	c, err := hull.NewClient(append([]hull.ClientOption{hull.WithRegistry(reg), hull.WithTransport("hull/1", mux), hull.WithTransport("grpc", g),
		hull.WithTransport("http", h)}, opts...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

func inStreet(t *testing.T, f func(t *testing.T, s *street)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &street{t: t, net: memnet.New(memnet.Options{})}
		t.Cleanup(func() { s.net.Close() })
		f(t, s)
	})
}

func helloTo(t *testing.T, c *hull.Client, target string) (string, error) {
	t.Helper()
	rep, err := hull.Call[greeterpb.HelloReply](t.Context(), c.To(target), "greeter.Greeter/Hello", &greeterpb.HelloRequest{Name: "Ada"}, hull.Idempotent())
	return rep.GetMessage(), err
}

// TestSilence is that a node which says nothing of its protocols, and nothing at all to what it does not understand, is reached in its own.
func TestSilence(t *testing.T) {
	for name, want := range map[string]string{"hull": "hull says Ada", "grpc": "grpc says Ada", "http": "http says Ada"} {
		t.Run(name, func(t *testing.T) {
			inStreet(t, func(t *testing.T, s *street) {
				defer map[string]func() func(){"hull": s.hull, "grpc": s.grpc, "http": s.http}[name]()()
				c := s.client()
				defer c.Close()
				if got, err := helloTo(t, c, "greeter"); err != nil || got != want {
					t.Errorf("%q, %v", got, err)
				}
			})
		})
	}
	t.Run("nobody speaks", func(t *testing.T) {
		inStreet(t, func(t *testing.T, s *street) {
			defer s.silent()()
			c := s.client()
			defer c.Close()
			_, err := helloTo(t, c, "greeter")
			if e := status.From(err); e == nil || e.Kind == status.Refused || e.Fate != status.NotSent {
				t.Errorf("%v", err)
			}
			// TCP's connection alone must not count as an answer.
			for _, n := range c.Connections() {
				if n.Up || len(n.Conns) > 0 {
					t.Errorf("%+v", n)
				}
			}
		})
	})
}

// TestAnotherMovesIn is that what worked at an address does not outlive who lived there.
func TestAnotherMovesIn(t *testing.T) {
	inStreet(t, func(t *testing.T, s *street) {
		c := s.client()
		defer c.Close()
		inhabitants := []struct {
			move func() func()
			says string
		}{{s.http, "http says Ada"}, {s.grpc, "grpc says Ada"}, {s.http, "http says Ada"}, {s.hull, "hull says Ada"}, {s.grpc, "grpc says Ada"}, {s.hull, "hull says Ada"}}
		for i, in := range inhabitants {
			leave := in.move()
			time.Sleep(2 * time.Minute) // the pool finds the way, and what was remembered is over
			if got, err := helloTo(t, c, "greeter"); err != nil || got != in.says {
				t.Fatalf("%d: %q, %v; want %q", i, got, err, in.says)
			}
			leave()
		}
		// At once: the one before is tried first, and no answer of the wrong kind is taken for one.
		for i, in := range inhabitants {
			leave := in.move()
			time.Sleep(10 * time.Second)
			got, err := helloTo(t, c, "greeter")
			// A Hull server speaks all of them: any will do, until what is remembered is over.
			if err != nil || got != in.says {
				t.Fatalf("at once, %d: %q, %v; want %q", i, got, err, in.says)
			}
			leave()
		}
	})
}

// TestBetterProtocol is that a server which learns a better protocol is spoken to in it once its connections are made anew.
func TestBetterProtocol(t *testing.T) {
	inStreet(t, func(t *testing.T, s *street) {
		c := s.client()
		defer c.Close()
		leave := s.grpc()
		if _, err := helloTo(t, c, "greeter"); err != nil {
			t.Fatal(err)
		}
		leave()
		time.Sleep(2 * time.Minute)
		leave = s.hull()
		defer func() { leave() }()
		time.Sleep(time.Minute)
		if got, err := helloTo(t, c, "greeter"); err != nil || got != "hull says Ada" {
			t.Fatal(got, err)
		}
		if p := s.server.Snapshot().Port; p.Native != 1 {
			t.Errorf("%+v", p)
		}
	})
}

// TestOneAddressTwoProtocols is that calls in two protocols to one address do not share connections.
func TestOneAddressTwoProtocols(t *testing.T) {
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
	addr := hullServer(t)
	for range 2 {
		for _, scheme := range []string{"hull", "grpc", "http"} {
			rep, err := hull.Call[greeterpb.HelloReply](t.Context(), c.To(scheme+"://"+addr), "greeter.Greeter/Hello", &greeterpb.HelloRequest{Name: "Ada"}, hull.Timeout(20*time.Second))
			if err != nil || rep.Message != "hull says Ada" {
				t.Errorf("%s: %v, %v", scheme, rep, err)
			}
		}
	}
	var vias []string
	for _, n := range c.Connections() {
		vias = append(vias, strings.Join(n.Via, " "))
	}
	if got := fmt.Sprint(vias); got != "[grpc http hull/1]" {
		t.Errorf("connections %s", got)
	}
}

// TestServerWantsTLS is that a client without TLS is told so in words, by each protocol, and sends no call in the clear after it.
func TestServerWantsTLS(t *testing.T) {
	cert, _ := certificate(t)
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}}
	ours := hullServer(t, hull.ServeTLS(cfg))
	foreign := httptest.NewUnstartedServer(http.NotFoundHandler())
	foreign.Config.ErrorLog = log.New(io.Discard, "", 0)
	foreign.StartTLS()
	defer foreign.Close()
	for _, tt := range []struct{ name, addr, scheme string }{
		{"ours", ours, "hull"}, {"ours", ours, "grpc"}, {"ours", ours, "http"}, {"ours", ours, ""},
		{"net/http", foreign.Listener.Addr().String(), "http"}, // which says nothing to gRPC
	} {
		t.Run(tt.name+" "+tt.scheme, func(t *testing.T) {
			engine, err := staticregistry.New([]string{tt.addr}, staticregistry.Options{})
			if err != nil {
				t.Fatal(err)
			}
			reg, err := registry.New(engine, registry.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer reg.Close()
			c, err := hull.NewClient(hull.WithRegistry(reg))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			target := "greeter"
			if tt.scheme != "" {
				target = tt.scheme + "://" + tt.addr
			}
			_, err = helloTo(t, c, target)
			if e := status.From(err); !errors.Is(err, transport.ErrTLS) || e.Fate != status.NotSent || !strings.Contains(err.Error(), "hull.WithTLS") {
				t.Errorf("%v (kind %v, fate %v)", err, e.Kind, e.Fate)
			}
		})
	}
}

// TestNothingInTheClear is that a server which wants TLS is not sent the call without it, when nobody knows what it speaks.
func TestNothingInTheClear(t *testing.T) {
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 100)
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				line, _ := bufio.NewReader(c).ReadString('\n')
				select {
				case heard <- line:
				default:
				}
				_, _ = c.Write([]byte{0x15, 3, 1, 0, 2, 2, 10})
			})
		}
	})
	engine, err := staticregistry.New([]string{ln.Addr().String()}, staticregistry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	reg, err := registry.New(engine, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	c, err := hull.NewClient(hull.WithRegistry(reg))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := helloTo(t, c, "greeter"); err == nil {
		t.Error("it worked")
	}
	c.Close()
	ln.Close()
	conns.Wait()
	for len(heard) > 0 {
		if line := <-heard; strings.Contains(line, "greeter") || strings.Contains(line, "POST") {
			t.Errorf("sent in the clear: %q", line)
		}
	}
}
