package dns_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/dnsregistry"
	"github.com/hull-go/hull/registry/registrytest"
)

// zone is a DNS server with the records it is given.
type zone struct {
	addr string

	mu      sync.Mutex
	records []dns.RR
	fail    bool
	tcp     int // questions by TCP
}

// serve starts a server on one port, by UDP and TCP.
func serve(t *testing.T, records ...string) *zone {
	t.Helper()
	z := &zone{}
	z.set(t, records...)
	var l net.Listener
	var p net.PacketConn
	for try := 0; ; try++ { // the same port must be free twice
		var err error
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if p, err = net.ListenPacket("udp", l.Addr().String()); err == nil {
			break
		}
		_ = l.Close()
		if try == 100 {
			t.Fatal(err)
		}
	}
	z.addr = l.Addr().String()
	for _, s := range []*dns.Server{{Listener: l, Handler: z}, {PacketConn: p, Handler: z}} {
		up, down := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go func() {
			defer close(down)
			_ = s.ActivateAndServe()
		}()
		<-up
		t.Cleanup(func() {
			_ = s.Shutdown()
			<-down
		})
	}
	return z
}

func (z *zone) set(t *testing.T, records ...string) {
	t.Helper()
	var parsed []dns.RR
	for _, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, rr)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records = parsed
}

// failing makes the server answer that it fails.
func (z *zone) failing(fail bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.fail = fail
}

func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	_, isTCP := w.RemoteAddr().(*net.TCPAddr)
	if isTCP {
		z.tcp++
	}
	name := strings.ToLower(q.Question[0].Name)
	known := false
	for _, rr := range z.records {
		h := rr.Header()
		if h.Name != name {
			continue
		}
		known = true
		if h.Rrtype == q.Question[0].Qtype || h.Rrtype == dns.TypeCNAME {
			m.Answer = append(m.Answer, rr)
		}
	}
	if z.fail {
		m.Answer, m.Rcode = nil, dns.RcodeServerFailure
	} else if !known {
		m.Rcode = dns.RcodeNameError
	}
	if len(m.Answer) == 0 {
		soa, _ := dns.NewRR("example. 1 IN SOA ns.example. me.example. 1 1 1 1 1")
		m.Ns = append(m.Ns, soa)
	}
	if !isTCP {
		size := 512
		if o := q.IsEdns0(); o != nil {
			size = int(o.UDPSize())
		}
		m.Truncate(size)
	}
	_ = w.WriteMsg(m)
}

func open(t *testing.T, query string, zones ...*zone) registry.Driver {
	t.Helper()
	var hosts []string
	for _, z := range zones {
		hosts = append(hosts, z.addr)
	}
	u, err := registry.ParseURL("dns://" + strings.Join(hosts, ",") + "/" + query)
	if err != nil {
		t.Fatal(err)
	}
	d, err := dnsregistry.FromURL(u)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) {
	for query, present := range map[string][]string{
		"?name={service}.example&port=80":     {"192.0.2.1:80", "192.0.2.2:80", "[2001:db8::1]:80"},
		"?name=_x._tcp.{service}.example":     {"192.0.2.1:81", "192.0.2.2:82"},
		"?name=alias.{service}.example":       {"192.0.2.1:81", "192.0.2.2:82"},
		"?name=far.{service}.example.&port=1": {"192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1"},
	} {
		t.Run(query, func(t *testing.T) {
			registrytest.Run(t, func(t *testing.T) registrytest.Harness {
				z := serve(t,
					"greeter.example. 5 IN A 192.0.2.1", "greeter.example. 5 IN A 192.0.2.2", "greeter.example. 5 IN AAAA 2001:db8::1",
					"_x._tcp.greeter.example. 5 IN SRV 1 5 81 h1.example.", "_x._tcp.greeter.example. 5 IN SRV 1 10 82 h2.example.",
					"_x._tcp.greeter.example. 5 IN SRV 2 10 83 h3.example.",
					"h1.example. 5 IN A 192.0.2.1", "h2.example. 5 IN A 192.0.2.2", "h3.example. 5 IN A 192.0.2.3",
					"alias.greeter.example. 5 IN CNAME _x._tcp.greeter.example.", "far.greeter.example. 5 IN CNAME greeter.example.")
				h := registrytest.Harness{Open: func() registry.Driver { return open(t, query, z) }, ReadOnly: true, Nameless: true}
				for _, id := range present {
					h.Present = append(h.Present, registry.Node{Service: "greeter", ID: id})
				}
				return h
			})
		})
	}
}

// until waits for a snapshot that fits.
func until(t *testing.T, v *registry.View, what string, fits func(*registry.Service) bool) {
	t.Helper()
	late := time.After(time.Minute)
	for {
		changed := v.Changed()
		if fits(v.Snapshot()) {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("%s was not seen; last seen: %+v", what, v.Snapshot())
		}
	}
}

func present(n int) func(*registry.Service) bool {
	return func(s *registry.Service) bool { return len(s.Nodes)-s.Disbelieved == n && !s.Stale }
}

func TestChanges(t *testing.T) {
	z := serve(t, "greeter.example. 1 IN A 192.0.2.1")
	r, err := registry.New(open(t, "?name={service}.example&port=80", z), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	v := r.Open("greeter")
	until(t, v, "one node", present(1))
	z.set(t, "greeter.example. 1 IN A 192.0.2.1", "greeter.example. 1 IN A 192.0.2.2")
	until(t, v, "two nodes", present(2))

	z.failing(true)
	until(t, v, "the failure", func(s *registry.Service) bool { return s.Stale && len(s.Nodes) == 2 })
	z.failing(false)
	until(t, v, "two nodes again", present(2))

	z.set(t)
	until(t, v, "disbelief of a name that is gone", func(s *registry.Service) bool { return len(s.Nodes) == 2 && s.Disbelieved == 2 })
	z.set(t, "greeter.example. 1 IN A 192.0.2.1", "greeter.example. 1 IN A 192.0.2.2")
	until(t, v, "the name is back", present(2))
}

// What does not fit into a datagram comes by TCP.
func TestTruncated(t *testing.T) {
	var records []string
	for i := range 200 {
		records = append(records, fmt.Sprintf("greeter.example. 5 IN A 192.0.2.%d", i+1))
	}
	z := serve(t, records...)
	r, err := registry.New(open(t, "?name={service}.example&port=80", z), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s, err := r.Lookup(t.Context(), "greeter")
	if err != nil || len(s.Nodes) != 200 {
		t.Fatalf("%v, %v", s, err)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.tcp == 0 {
		t.Error("nothing was asked by TCP")
	}
}

// A server that fails, and one that is silent, are followed by the next.
func TestNextServer(t *testing.T) {
	sick, well := serve(t), serve(t, "greeter.example. 5 IN A 192.0.2.1")
	sick.failing(true)
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	silent := &zone{addr: p.LocalAddr().String()}
	r, err := registry.New(open(t, "?name={service}.example&port=80", sick, silent, well), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if s, err := r.Lookup(t.Context(), "greeter"); err != nil || len(s.Nodes) != 1 {
		t.Errorf("%v, %v", s, err)
	}
}

// Weights come along; an address that nobody may call is refused by itself.
func TestWeightsAndGarbage(t *testing.T) {
	z := serve(t, "greeter.example. 5 IN SRV 1 7 80 a.example.", "greeter.example. 5 IN SRV 1 0 80 b.example.", "greeter.example. 5 IN SRV 1 9 80 evil.example.",
		"a.example. 5 IN A 192.0.2.1", "b.example. 5 IN A 192.0.2.2", "evil.example. 5 IN A 169.254.169.254")
	r, err := registry.New(open(t, "?name={service}.example", z), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s, err := r.Lookup(t.Context(), "greeter")
	if err != nil || len(s.Nodes) != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	if a, b := s.Node("192.0.2.1:80"), s.Node("192.0.2.2:80"); a == nil || b == nil || a.Weight != 7 || b.Weight != 1 || a.Labels["host"] != "a.example" {
		t.Errorf("%+v %+v", a, b)
	}
}

func TestCommands(t *testing.T) {
	z := serve(t, "greeter.example. 5 IN A 192.0.2.1")
	engine.CommandsReadOnly(t, "dns://"+z.addr+"/?name={service}.example&port=80", "greeter", "192.0.2.1:80")
}
