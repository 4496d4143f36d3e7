package hull_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/grpctransport"
	"github.com/hull-go/hull/transport/httptransport"
	"github.com/hull-go/hull/transport/muxtransport"
)

// place is what a handler sees of its call's place in the call tree.
type place struct {
	Attempt     int
	Criticality string
	Left        time.Duration // of its deadline; 0 = none
	Said        map[string]string
	Below       *place
}

// passedOn are the headers that a place lists.
var passedOn = []string{"traceparent", "tracestate", "baggage", "x-envoy-max-retries", "x-envoy-retry-on", "x-envoy-attempt-count", "hull-criticality",
	"idempotency-key"}

func here(ctx context.Context) *place {
	p := &place{Said: map[string]string{}}
	attempt, c := hull.Place(ctx)
	p.Attempt, p.Criticality = attempt, c.String()
	if d, ok := ctx.Deadline(); ok {
		p.Left = time.Until(d)
	}
	md, _ := metadata.FromIncomingContext(ctx)
	for _, k := range passedOn {
		if v := md.Get(k); len(v) > 0 {
			p.Said[k] = strings.Join(v, ",")
		}
	}
	return p
}

// tell serves place.Place/Tell, which answers where it is, and place.Place/Below, which waits a second and asks the next service too.
func tell(next *hull.Client) func(*hull.Server) {
	return func(s *hull.Server) {
		hull.Handle(s, "place.Place/Tell", func(ctx context.Context, _ *helloRequest) (*place, error) { return here(ctx), nil })
		hull.Handle(s, "place.Place/Below", func(ctx context.Context, r *helloRequest) (*place, error) {
			p := here(ctx)
			time.Sleep(time.Second)
			var err error
			p.Below, err = hull.Call[place](ctx, next.To("leaf"), "place.Place/Tell", r)
			return p, err
		})
	}
}

// dialers are the ways from a host to nodes, by protocol.
func dialers(t *testing.T, w *hulltest.World, host string) map[string]transport.Dialer {
	t.Helper()
	dial := w.Network.Host(host).Dial
	mux, err1 := muxtransport.NewDialer(muxtransport.Options{Dial: dial})
	g, err2 := grpctransport.NewDialer(grpctransport.Options{Dial: dial})
	h, err3 := httptransport.NewDialer(httptransport.Options{Dial: dial})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return map[string]transport.Dialer{"native": mux, "gRPC": g, "JSON": h, "Connect": h}
}

// tellMe calls node "mid" from a host, with everything that a caller can say.
func tellMe(t *testing.T, w *hulltest.World, host, protocol, method string, req transport.Request) *place {
	t.Helper()
	conn, e := dialers(t, w, host)[protocol].Dial(t.Context(), "mid:80")
	if e != nil {
		t.Fatal(e)
	}
	defer conn.Close()
	req.Method, req.Codec, req.Message = "place.Place/"+method, codec.JSON{}, &helloRequest{}
	if protocol == "Connect" {
		req.Metadata = append(req.Metadata, transport.Field{Key: "connect-protocol-version", Value: "1"})
	}
	p := new(place)
	ctx := t.Context()
	if req.Deadline != 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, req.Deadline.Clock())
		defer cancel()
	}
	if e := conn.Call(ctx, &req, &transport.Reply{Message: p}); e != nil {
		t.Fatalf("%s over %s: %v", host, protocol, e)
	}
	return p
}

const (
	aTrace    = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	aStranger = "203.0.113.7" // a host with a public address
)

// TestTrustedCallers is that over every protocol the word of trusted callers counts, for the call and for those below it, and that of others
// does not.
func TestTrustedCallers(t *testing.T) {
	all := transport.Metadata{{Key: "traceparent", Value: aTrace}, {Key: "tracestate", Value: "a=b"}, {Key: "baggage", Value: "user=7"},
		{Key: "x-envoy-max-retries", Value: "0"}, {Key: "x-envoy-retry-on", Value: "reset"}}
	public := netip.MustParsePrefix("203.0.113.0/24")
	tests := []struct {
		name    string
		host    string
		via     bool
		opts    []hull.ServerOption
		trusted bool
	}{
		{name: "a caller of the private network", host: "10.1.2.3", trusted: true},
		{name: "one in memory", host: "caller", trusted: true},
		{name: "a stranger", host: aStranger},
		{name: "a stranger behind a proxy of the private network", host: "10.1.2.3", via: true},
		{name: "an edge", host: "10.1.2.3", opts: []hull.ServerOption{hull.WithEdge()}},
		{name: "a network that is named", host: aStranger, trusted: true,
			opts: []hull.ServerOption{hull.WithTrustedCallers(hull.Trust{Networks: []netip.Prefix{public}})}},
		{name: "one that is not", host: "10.1.2.3", opts: []hull.ServerOption{hull.WithTrustedCallers(hull.Trust{Networks: []netip.Prefix{public}})}},
		{name: "a proxy that is trusted", host: aStranger, via: true, trusted: true,
			opts: []hull.ServerOption{hull.WithTrustedCallers(hull.Trust{Networks: []netip.Prefix{public}, Proxied: true})}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				w.Serve("leaf", "leaf", tell(nil))
				w.Serve("mid", "mid", tell(w.Client("mid-client")), tt.opts...)
				for _, protocol := range []string{"native", "gRPC", "Connect", "JSON"} {
					md := all
					if tt.via {
						md = append(md[:len(md):len(md)], transport.Field{Key: "x-forwarded-for", Value: "203.0.113.9"})
					}
					req := transport.Request{Metadata: md, PathAttempt: 3, Criticality: policy.CriticalPlus, Deadline: policy.Now().Add(time.Hour)}
					p := tellMe(t, w, tt.host, protocol, "Below", req)
					for where, p := range map[string]*place{"itself": p, "below": p.Below} {
						if tt.trusted {
							if p.Attempt != 3 || p.Criticality != "critical-plus" || p.Left < 59*time.Minute || p.Said["traceparent"] != aTrace ||
								p.Said["tracestate"] != "a=b" || p.Said["baggage"] != "user=7" || p.Said["x-envoy-max-retries"] != "0" ||
								p.Said["x-envoy-retry-on"] != "reset" {
								t.Errorf("%s, %s: a trusted caller's word is lost: %+v", protocol, where, p)
							}
							continue
						}
						if p.Attempt != 1 || p.Criticality != "critical" || p.Left > time.Minute || p.Left <= 50*time.Second || p.Said["x-envoy-max-retries"] != "" ||
							p.Said["x-envoy-retry-on"] != "" || p.Said["x-envoy-attempt-count"] != "" || p.Said["hull-criticality"] != "" {
							t.Errorf("%s, %s: a stranger's word counts: %+v", protocol, where, p)
						}
						if trace := p.Said["traceparent"]+p.Said["tracestate"]+p.Said["baggage"] != ""; trace != (where == "itself") {
							t.Errorf("%s, %s: a stranger's trace and baggage: %+v", protocol, where, p)
						}
					}
					// A shorter deadline holds, and so does a lower class.
					p = tellMe(t, w, tt.host, protocol, "Tell", transport.Request{Metadata: md, PathAttempt: 1, Criticality: policy.Sheddable,
						Deadline: policy.Now().Add(3 * time.Second)})
					if p.Attempt != 1 || p.Criticality != "sheddable" || p.Left <= 0 || p.Left > 3*time.Second {
						t.Errorf("%s: modest wishes are not heeded: %+v", protocol, p)
					}
					if said := p.Said["x-envoy-max-retries"] + p.Said["x-envoy-retry-on"]; said != map[bool]string{true: "0reset"}[tt.trusted] {
						t.Errorf("%s: what a modest caller says of repetitions: %+v", protocol, p)
					}
					// Who says nothing waits for ever, if he may.
					p = tellMe(t, w, tt.host, protocol, "Tell", transport.Request{Metadata: md, PathAttempt: 1})
					if bounded := p.Left > 50*time.Second && p.Left <= time.Minute; bounded == tt.trusted {
						t.Errorf("%s: without a deadline: %+v", protocol, p)
					}
				}
			})
		})
	}
}

// TestStrangersTime is that a stranger's call ends when it must, whatever it comes by, and that MaxTime says when.
func TestStrangersTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		var ended []time.Duration
		w.Serve("mid", "mid", func(s *hull.Server) {
			hull.Handle(s, "place.Place/Tell", func(ctx context.Context, _ *helloRequest) (*place, error) {
				began := time.Now()
				select {
				case <-ctx.Done():
				case <-time.After(time.Minute):
				}
				ended = append(ended, time.Since(began))
				return here(ctx), nil
			})
		}, hull.WithTrustedCallers(hull.Trust{MaxTime: 2 * time.Second}))
		for _, protocol := range []string{"native", "gRPC", "Connect", "JSON"} {
			conn, e := dialers(t, w, "caller")[protocol].Dial(t.Context(), "mid:80")
			if e != nil {
				t.Fatal(e)
			}
			_ = conn.Call(t.Context(), &transport.Request{Method: "place.Place/Tell", Codec: codec.JSON{}, Message: &helloRequest{}, PathAttempt: 1},
				&transport.Reply{Message: new(place)}) // an answer after its time may be one or none
			conn.Close()
		}
		for i, d := range ended {
			if d < 1900*time.Millisecond || d > 2*time.Second {
				t.Errorf("handler %d had %v, want 2s", i, d)
			}
		}
		if len(ended) != 4 {
			t.Errorf("%d handlers ran", len(ended))
		}
	})
}

// TestTrustOfAddresses is what the default and a certificate say of callers.
func TestTrustOfAddresses(t *testing.T) {
	cert := &x509.Certificate{}
	proved := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{cert}}}
	shown := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
	tcp := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1} }
	tests := []struct {
		trust hull.Trust
		addr  net.Addr
		tls   *tls.ConnectionState
		want  bool
	}{
		{hull.DefaultTrust(), tcp("127.0.0.1"), nil, true},
		{hull.DefaultTrust(), tcp("::ffff:127.0.0.1"), nil, true},
		{hull.DefaultTrust(), tcp("::1"), nil, true},
		{hull.DefaultTrust(), tcp("10.255.0.1"), nil, true},
		{hull.DefaultTrust(), tcp("172.31.0.1"), nil, true},
		{hull.DefaultTrust(), tcp("172.32.0.1"), nil, false},
		{hull.DefaultTrust(), tcp("192.168.1.1"), nil, true},
		{hull.DefaultTrust(), tcp("fd00::1"), nil, true},
		{hull.DefaultTrust(), &net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 1, Zone: "eth0"}, nil, true},
		{hull.DefaultTrust(), tcp("2001:db8::1"), nil, false},
		{hull.DefaultTrust(), tcp("8.8.8.8"), nil, false},
		{hull.DefaultTrust(), tcp("8.8.8.8"), shown, false},
		{hull.DefaultTrust(), tcp("8.8.8.8"), proved, true},
		{hull.DefaultTrust(), &net.UnixAddr{Name: "@", Net: "unix"}, nil, true},
		{hull.DefaultTrust(), nil, nil, false},
		{hull.Trust{}, tcp("127.0.0.1"), proved, false},
		{hull.Trust{Certificate: func(*x509.Certificate) bool { return false }}, tcp("127.0.0.1"), proved, false},
	}
	for _, tt := range tests {
		if got := tt.trust.Knows(tt.addr, tt.tls); got != tt.want {
			t.Errorf("%v with %v: trusted %v, want %v", tt.addr, tt.tls != nil, got, tt.want)
		}
	}
	if _, err := hull.NewServer("s", hull.WithTrustedCallers(hull.Trust{Networks: []netip.Prefix{{}}})); err == nil {
		t.Error("a network that is none is taken")
	}
}

// TestBrowserIsAStranger: a page on the developer's own machine says nothing about the tree either.
func TestBrowserIsAStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("mid", "a", tell(nil))
		res, body := post(t, dialHTTP(t, w, false), "/place.Place/Tell", `{}`, "Sec-Fetch-Site", "same-origin", "Hull-Criticality", "critical-plus",
			"X-Envoy-Attempt-Count", "4")
		if res.StatusCode != http.StatusOK || !strings.Contains(body, `"Attempt":1`) || !strings.Contains(body, `"Criticality":"critical"`) {
			t.Errorf("%s: %s", res.Status, body)
		}
	})
}

// TestHandlersContextCarriesOn is that a call made with a handler's context says, over each protocol, all that the handler's own call said, with the
// deadline minus what has passed, unless the handler says otherwise.
func TestHandlersContextCarriesOn(t *testing.T) {
	for _, protocol := range []string{"native", "gRPC", "JSON"} {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				w.Serve("leaf", "leaf", func(s *hull.Server) {
					tell(nil)(s)
					hull.Handle(s, "place.Place/Wait", func(ctx context.Context, _ *helloRequest) (*place, error) {
						<-ctx.Done()
						return nil, ctx.Err()
					})
				})
				next := w.Client("mid-client", hull.WithDialer(dialers(t, w, "mid-client")[protocol])).To("leaf")
				var gone time.Duration
				w.Serve("mid", "mid", func(s *hull.Server) {
					hull.Handle(s, "mid.Mid/On", func(ctx context.Context, r *helloRequest) (*place, error) {
						time.Sleep(time.Second)
						return hull.Call[place](ctx, next, "place.Place/Tell", r)
					})
					hull.Handle(s, "mid.Mid/Own", func(ctx context.Context, r *helloRequest) (*place, error) {
						ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", strings.Replace(aTrace, "b7ad", "c8be", 1), "baggage", "own=1")
						return hull.Call[place](ctx, next, "place.Place/Tell", r, hull.Criticality(policy.CriticalPlus), hull.MaxAttempts(2))
					})
					hull.Handle(s, "mid.Mid/Wait", func(ctx context.Context, r *helloRequest) (*place, error) {
						began := time.Now()
						_, err := hull.Call[place](ctx, next, "place.Place/Wait", r, hull.Timeout(time.Hour))
						gone = time.Since(began)
						return nil, err
					})
				})
				c := w.Client("caller").To("mid")
				ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", aTrace, "tracestate", "a=b", "baggage", "user=7")
				got, err := hull.Call[place](ctx, c, "mid.Mid/On", &helloRequest{}, hull.Timeout(4*time.Second), hull.Criticality(policy.SheddablePlus),
					hull.MaxAttempts(1))
				if err != nil {
					t.Fatal(err)
				}
				if got.Attempt != 1 || got.Criticality != "sheddable-plus" || got.Said["traceparent"] != aTrace || got.Said["tracestate"] != "a=b" ||
					got.Said["baggage"] != "user=7" || got.Said["x-envoy-max-retries"] != "0" {
					t.Errorf("the leaf sees %+v", got)
				}
				if got.Left <= 2*time.Second || got.Left > 3*time.Second {
					t.Errorf("the leaf has %v of 4s, of which 1s had passed", got.Left)
				}
				keyed, err := hull.Call[place](ctx, c, "mid.Mid/On", &helloRequest{}, hull.IdempotencyKey("one thing"))
				if err != nil || keyed.Said["idempotency-key"] != "" {
					t.Errorf("the key of one thing became another's: %+v, %v", keyed, err)
				}
				got, err = hull.Call[place](ctx, c, "mid.Mid/Own", &helloRequest{}, hull.Criticality(policy.Sheddable))
				if err != nil {
					t.Fatal(err)
				}
				if got.Criticality != "sheddable" || !strings.Contains(got.Said["traceparent"], "c8be") || got.Said["tracestate"] != "" || got.Said["baggage"] != "own=1" ||
					got.Said["x-envoy-max-retries"] != "1" {
					t.Errorf("where the handler has its own say the leaf sees %+v", got)
				}
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(700*time.Millisecond, cancel)
				_, err = hull.Call[place](ctx, c, "mid.Mid/Wait", &helloRequest{}, hull.Timeout(time.Hour), hull.MaxAttempts(1))
				synctest.Wait()
				if err == nil || gone < 600*time.Millisecond || gone > 800*time.Millisecond {
					t.Errorf("cancelled after 700ms: the call below ended after %v, %v", gone, err)
				}
			})
		})
	}
}

// TestMaxAttempts is that a call is tried as often as its caller wants, and so are those below it.
func TestMaxAttempts(t *testing.T) {
	for attempts := 1; attempts <= 3; attempts++ {
		synctest.Test(t, func(t *testing.T) {
			w := hulltest.New(t)
			failing := 0
			for _, name := range []string{"leaf-1", "leaf-2", "leaf-3"} {
				w.Serve("leaf", name, func(s *hull.Server) {
					hull.Handle(s, "place.Place/Tell", func(context.Context, *helloRequest) (*place, error) {
						failing++
						return nil, status.Errorf(status.Unavailable, "out of order")
					}, hull.Idempotent())
				})
			}
			w.Serve("mid", "mid", tell(w.Client("mid-client")))
			_, err := hull.Call[place](t.Context(), w.Client("caller").To("mid"), "place.Place/Below", &helloRequest{}, hull.MaxAttempts(attempts))
			if err == nil || failing != attempts {
				t.Errorf("MaxAttempts(%d): %d attempts below, %v", attempts, failing, err)
			}
		})
	}
	for on, want := range map[string]int{"reset,connect-failure": 1, "gateway-error": 3} {
		synctest.Test(t, func(t *testing.T) {
			w, failing := hulltest.New(t), 0
			for _, name := range []string{"leaf-1", "leaf-2", "leaf-3"} {
				w.Serve("leaf", name, func(s *hull.Server) {
					hull.Handle(s, "place.Place/Tell", func(context.Context, *helloRequest) (*place, error) {
						failing++
						return nil, status.Errorf(status.Unavailable, "out of order")
					}, hull.Idempotent())
				})
			}
			w.Serve("mid", "mid", tell(w.Client("mid-client")))
			ctx := metadata.AppendToOutgoingContext(t.Context(), "x-envoy-retry-on", on)
			_, err := hull.Call[place](ctx, w.Client("caller").To("mid"), "place.Place/Below", &helloRequest{})
			if err == nil || failing != want {
				t.Errorf("x-envoy-retry-on %s: %d attempts below, want %d; %v", on, failing, want, err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		_, err := hull.Call[place](t.Context(), w.Client("caller").To("mid"), "place.Place/Tell", &helloRequest{}, hull.MaxAttempts(0))
		if err == nil || !strings.Contains(err.Error(), "MaxAttempts") {
			t.Errorf("MaxAttempts(0): %v", err)
		}
	})
}
