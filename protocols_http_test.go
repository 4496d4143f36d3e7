package hull_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/status"
)

// both registers generated and typed methods.
func both(s *hull.Server) {
	pb.RegisterGreeterServer(s, &impl{})
	hull.Handle(s, "typed.Greeter/Hello", func(_ context.Context, r *helloRequest) (*helloReply, error) {
		switch r.Name {
		case "busy":
			return nil, &status.Error{Code: status.Unavailable, Message: "later", Pushback: 1500 * time.Millisecond}
		case "years":
			return nil, &status.Error{Code: status.Unavailable, Message: "much later", Pushback: math.MaxInt64}
		case "never":
			return nil, &status.Error{Code: status.Unavailable, Message: "not here", Pushback: -1}
		case "panic":
			panic("boo")
		case "exit":
			runtime.Goexit()
		}
		return &helloReply{Text: "typed " + r.Name}, nil
	}, hull.SideEffectFree())
	hull.HandleStream(s, "typed.Greeter/Chat", func(st *hull.ServerStream[helloRequest, helloReply]) error {
		r, err := st.Recv()
		if err != nil {
			return err
		}
		if r.Name != "exit" {
			err = st.Send(&helloReply{Text: "typed " + r.Name})
		}
		if r.Name == "exit" || r.Name == "exit behind an answer" {
			runtime.Goexit()
		}
		return err
	})
}

// TestPlainJSON: what curl and browsers may send, and what they get for what they may not.
func TestPlainJSON(t *testing.T) {
	const typed, generated = "/typed.Greeter/Hello", "/greeter.Greeter/Hello"
	form := "application/x-www-form-urlencoded"
	tests := []struct {
		name, path, body string
		header           []string
		status           int
		want             string
	}{
		{"curl -d", generated, `{"name":"Ada"}`, []string{"Content-Type", form}, 200, "Hello, Ada"},
		{"curl -d to a Go function", typed, `{"Name":"Ada"}`, []string{"Content-Type", form}, 200, "typed Ada"},
		{"no content type", generated, `{"name":"Ada"}`, []string{"Content-Type", ""}, 200, "Hello, Ada"},
		{"a charset", generated, `{"name":"Ada"}`, []string{"Content-Type", "application/json; charset=UTF-8"}, 200, "Hello, Ada"},
		{"Connect's header", generated, `{"name":"Ada"}`, []string{"Connect-Protocol-Version", "1"}, 200, "Hello, Ada"},
		{"a form from a page", generated, `{"name":"Ada"}`, []string{"Content-Type", form, "Sec-Fetch-Site", "same-origin"}, 415, "content type"},
		{"a form from elsewhere", generated, `{"name":"Ada"}`, []string{"Content-Type", form, "Origin", "http://evil.example"}, 403, "hull.AllowOrigins"},
		{"JSON from elsewhere", generated, `{"name":"Ada"}`, []string{"Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site"}, 403, "hull.AllowOrigins"},
		{"JSON from an allowed origin", generated, `{"name":"Ada"}`, []string{"Origin", "https://app.example", "Sec-Fetch-Site", "cross-site"}, 200, "Hello, Ada"},
		{"JSON from its own page", generated, `{"name":"Ada"}`, []string{"Origin", "http://a:80", "Sec-Fetch-Site", "same-origin"}, 200, "Hello, Ada"},
		{"text", generated, `{"name":"Ada"}`, []string{"Content-Type", "text/plain"}, 415, "text/plain"},
		{"nothing", generated, ``, nil, 400, "an empty message is {}"},
		{"broken", generated, `{"name":`, nil, 400, `"invalid_argument"`},
		{"a wrong type", typed, `{"Name":7}`, nil, 400, `at \"Name\": expected a string, got a number"`},
		{"an Envoy's bad timeout", typed, `{"Name":"Ada"}`, []string{"X-Envoy-Expected-Rq-Timeout-Ms", "soon"}, 400, "X-Envoy-Expected-Rq-Timeout-Ms"},
		{"an unknown method", "/greeter.Greeter/Helo", `{}`, nil, 404, "did you mean greeter.Greeter/Hello?"},
		{"an unknown service", "/other.Service/Hello", `{}`, nil, 404, `"unimplemented"`},
		{"nothing of ours", "/favicon.ico", `{}`, nil, 404, "GET /hull/methods"},
		{"a stream", "/greeter.Greeter/Chat", `{}`, nil, 415, "is a stream"},
		{"too large", generated, `{"name":"` + strings.Repeat("x", 2<<20) + `"}`, nil, 413, "1048576"},
		{"pushback", typed, `{"Name":"busy"}`, nil, 503, "later"},
		{"a panic", typed, `{"Name":"panic"}`, nil, 500, "panicked: boo"},
		{"a bad timeout", typed, `{"Name":"Ada"}`, []string{"Grpc-Timeout", "soon"}, 400, "Grpc-Timeout"},
		{"no time", typed, `{"Name":"Ada"}`, []string{"Connect-Timeout-Ms", "0"}, 504, "deadline"},
		{"protobuf to a Go function", typed, "", []string{"Content-Type", "application/proto"}, 501, "speaks JSON"},
	}
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("greeter", "a", both, hull.MaxRequest(1<<20), hull.AllowOrigins("https://app.example"))
		for _, h2 := range []bool{false, true} {
			web := dialHTTP(t, w, h2)
			for _, tt := range tests {
				res, body := post(t, web, tt.path, tt.body, tt.header...)
				if res.StatusCode != tt.status || !strings.Contains(body, tt.want) {
					t.Errorf("%s (HTTP/2 %v): %s: %s; want %d and %q", tt.name, h2, res.Status, body, tt.status, tt.want)
				}
				if tt.want != "" && !json.Valid([]byte(body)) {
					t.Errorf("%s: %q is no JSON", tt.name, body)
				}
			}
			res, _ := post(t, web, typed, `{"Name":"busy"}`)
			if got := res.Header.Get("Retry-After") + " " + res.Header.Get("Grpc-Retry-Pushback-Ms"); got != "2 1500" {
				t.Errorf("pushback is %q", got)
			}
			res, _ = post(t, web, typed, `{"Name":"years"}`)
			if res.Header.Get("Retry-After") != "9223372037" || res.Header.Get("Grpc-Retry-Pushback-Ms") != "9223372036855" {
				t.Errorf("a pushback without end: %v", res.Header)
			}
			res, _ = post(t, web, typed, `{"Name":"never"}`)
			if got := res.Header.Get("Retry-After") + " " + res.Header.Get("Grpc-Retry-Pushback-Ms"); got != " -1" {
				t.Errorf("no retry is %q", got)
			}
		}
		if p := n.Server.Snapshot().Port; p.CrossOrigin != 4 || p.TooLarge != 2 || p.Panicked != 2 || p.Expired != 2 {
			t.Errorf("%+v", p)
		}
	})
}

func TestPreflight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", both, hull.AllowOrigins("https://app.example"))
		web := dialHTTP(t, w, false)
		for origin, want := range map[string]string{"https://app.example": "https://app.example", "https://evil.example": ""} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, "http://a:80/greeter.Greeter/Hello", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Origin", origin)
			req.Header.Set("Access-Control-Request-Headers", "connect-protocol-version")
			res, err := web.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if got := res.Header.Get("Access-Control-Allow-Origin"); got != want || res.StatusCode != http.StatusNoContent {
				t.Errorf("%s: %s, allowed %q", origin, res.Status, got)
			}
		}
	})
}

func get(t *testing.T, c *http.Client, path string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://a:80"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

// TestDescription: what is served can be found out with GET.
func TestDescription(t *testing.T) {
	type schema struct {
		Ref        string             `json:"$ref"`
		Defs       map[string]*schema `json:"$defs"`
		Properties map[string]*schema
	}
	type description struct {
		Service string
		Methods []struct {
			Name, Kind     string
			Builtin        bool
			Request, Reply *schema
			Speaks         []string
		}
	}
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", both)
		web := dialHTTP(t, w, false)
		for path, want := range map[string]string{
			"/hull/methods":          "greeter.Greeter/Chat bidi-stream, greeter.Greeter/Count server-stream, greeter.Greeter/Hello unary, greeter.Greeter/SayOnce unary, greeter.Greeter/Sum client-stream, typed.Greeter/Chat bidi-stream, typed.Greeter/Hello unary",
			"/typed.Greeter":         "typed.Greeter/Chat bidi-stream, typed.Greeter/Hello unary",
			"/greeter.Greeter/Hello": "greeter.Greeter/Hello unary",
		} {
			res, body := get(t, web, path)
			var d description
			if err := json.Unmarshal([]byte(body), &d); err != nil || res.StatusCode != http.StatusOK || d.Service != "greeter" {
				t.Errorf("%s: %s, %v: %s", path, res.Status, err, body)
			}
			var got []string
			for _, m := range d.Methods {
				if m.Builtin {
					continue
				}
				got = append(got, m.Name+" "+m.Kind)
				name, field := "greeter.HelloRequest", "name"
				if strings.HasPrefix(m.Name, "typed") {
					name, field = "hull_test.helloRequest", "Name"
				}
				if strings.HasSuffix(m.Name, "Hello") && (m.Request == nil || m.Request.Defs[name] == nil || m.Request.Defs[name].Properties[field] == nil) {
					t.Errorf("%s does not say that it takes a %s: %s", m.Name, field, body)
				}
			}
			if s := strings.Join(got, ", "); s != want {
				t.Errorf("%s:\n got %s\nwant %s", path, s, want)
			}
		}
		w.Serve("quiet", "b", both, hull.HideMethods())
		for _, path := range []string{"/hull/methods", "/typed.Greeter", "/typed.Greeter/Hello"} {
			res, body := get(t, &http.Client{Transport: toHost{web, "b:80"}}, path)
			if res.StatusCode != http.StatusNotFound && res.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("hidden %s: %s: %s", path, res.Status, body)
			}
		}
		if _, err := hull.Call[helloReply](t.Context(), w.Client("nosy").To("quiet"), "typed.Greeter/Helo", &helloRequest{}); err == nil || strings.Contains(err.Error(), "Hello") {
			t.Errorf("a name that resembles a hidden one: %v", err)
		}
	})
}

// helloJSON is encoding/json for connect-go.
type helloJSON struct{}

func (helloJSON) Name() string                       { return "json" }
func (helloJSON) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (helloJSON) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// toHost sends requests to another host.
type toHost struct {
	c    *http.Client
	host string
}

func (r toHost) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.URL.Host, req.Host = r.host, r.host
	return r.c.Transport.RoundTrip(req)
}

// TestGoexitEndsOnlyItsCall: in every protocol the caller gets an answer.
func TestGoexitEndsOnlyItsCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("greeter", "a", both)
		conn := dialGRPC(t, w)
		var rep []byte
		opt := jsonCalls()
		start := time.Now()
		err := conn.Invoke(t.Context(), "/typed.Greeter/Hello", []byte(`{"Name":"exit"}`), &rep, opt)
		if grpcstatus.Code(err) != codes.Internal || !strings.Contains(err.Error(), "Goexit") {
			t.Errorf("gRPC: %v", err)
		}
		st, err := conn.NewStream(t.Context(), &chatDesc, "/typed.Greeter/Chat", opt)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.SendMsg([]byte(`{"Name":"exit"}`)); err != nil {
			t.Fatal(err)
		}
		if err := st.RecvMsg(&rep); grpcstatus.Code(err) != codes.Internal || !strings.Contains(err.Error(), "Goexit") {
			t.Errorf("gRPC stream: %v", err)
		}
		for _, h2 := range []bool{false, true} {
			web := dialHTTP(t, w, h2)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://a:80/typed.Greeter/Hello", strings.NewReader(`{"Name":"exit"}`))
			if err != nil {
				t.Fatal(err)
			}
			res, err := web.Do(req)
			if err != nil { // once it had no answer, and callers took the node for ill
				t.Fatalf("HTTP/2 %v: %v", h2, err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != http.StatusInternalServerError || !strings.Contains(string(body), "Goexit") || !h2 && err != nil {
				t.Errorf("HTTP/2 %v: %s %s, %v", h2, res.Status, body, err)
			}
		}
		for _, h2 := range []bool{false, true} {
			for name, opts := range map[string][]connect.ClientOption{"Connect": {connect.WithCodec(helloJSON{})}, "gRPC-Web": {connect.WithGRPCWeb(), connect.WithCodec(helloJSON{})}} {
				web := dialHTTP(t, w, h2)
				unary := connect.NewClient[helloRequest, helloReply](web, "http://a:80/typed.Greeter/Hello", opts...)
				_, err := unary.CallUnary(t.Context(), connect.NewRequest(&helloRequest{Name: "exit"}))
				if connect.CodeOf(err) != connect.CodeInternal || !strings.Contains(err.Error(), "Goexit") {
					t.Errorf("%s, HTTP/2 %v: %v", name, h2, err)
				}
				if !h2 {
					continue // streams in both directions need HTTP/2
				}
				for _, say := range []string{"exit", "exit behind an answer"} {
					st := connect.NewClient[helloRequest, helloReply](web, "http://a:80/typed.Greeter/Chat", opts...).CallBidiStream(t.Context())
					if err := st.Send(&helloRequest{Name: say}); err != nil {
						t.Fatal(err)
					}
					if say != "exit" {
						if rep, err := st.Receive(); err != nil || rep.Text != "typed "+say {
							t.Fatalf("%s: %v, %v", name, rep, err)
						}
					}
					_, err = st.Receive()
					if connect.CodeOf(err) != connect.CodeInternal || !strings.Contains(err.Error(), "Goexit") {
						t.Errorf("%s stream, %s: %v", name, say, err)
					}
					_ = st.CloseRequest()
					_ = st.CloseResponse()
				}
			}
		}
		if err := conn.Invoke(t.Context(), "/typed.Greeter/Hello", []byte(`{"Name":"Ada"}`), &rep, opt); err != nil || !strings.Contains(string(rep), "typed Ada") {
			t.Errorf("afterwards: %s, %v", rep, err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %v", took)
		}
		if s := n.Server.Snapshot(); s.InFlight != 0 || s.Port.Panicked != 12 {
			t.Errorf("%+v", s)
		}
	})
}

// TestHealth: gRPC's health checks follow the server's life.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("greeter", "a", both)
		c := healthpb.NewHealthClient(dialGRPC(t, w))
		for service, want := range map[string]codes.Code{"": codes.OK, "greeter": codes.OK, "greeter.Greeter": codes.OK, "typed.Greeter": codes.OK, "other": codes.NotFound} {
			rep, err := c.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
			if grpcstatus.Code(err) != want || (err == nil && rep.GetStatus() != healthpb.HealthCheckResponse_SERVING) {
				t.Errorf("%q: %v, %v", service, rep, err)
			}
		}
		list, err := c.List(t.Context(), &healthpb.HealthListRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, service := range []string{"", "greeter", "greeter.Greeter", "typed.Greeter", "grpc.health.v1.Health"} {
			if st := list.GetStatuses()[service]; st.GetStatus() != healthpb.HealthCheckResponse_SERVING {
				t.Errorf("%q is listed as %v", service, st)
			}
		}
		watch, err := c.Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		var seen []string
		stopped := make(chan time.Duration)
		for {
			rep, err := watch.Recv()
			if err != nil {
				if grpcstatus.Code(err) != codes.Unavailable {
					t.Errorf("the watch ended with %v", err)
				}
				break
			}
			seen = append(seen, rep.GetStatus().String())
			if len(seen) == 1 {
				go func() {
					start := time.Now()
					n.Stop()
					stopped <- time.Since(start)
				}()
			}
		}
		if s := strings.Join(seen, " "); s != "SERVING NOT_SERVING" {
			t.Errorf("seen %s", s)
		}
		if d := <-stopped; d > 3*time.Second {
			t.Errorf("the watch held up the drain: %v", d)
		}
	})
}

// TestDrainInEveryProtocol: calls under way when the server leaves are answered, and the connections then end.
func TestDrainInEveryProtocol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		started := make(chan struct{}, 100)
		i := &impl{hello: func(ctx context.Context, r *pb.HelloRequest) (*pb.HelloReply, error) {
			started <- struct{}{}
			time.Sleep(5 * time.Second)
			return &pb.HelloReply{Message: "Hello, " + r.GetName()}, ctx.Err()
		}}
		n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, i) })
		list := foreigners(t, w)
		answers := make(chan answer, len(list))
		for _, f := range list {
			go func() { answers <- f.hello(t.Context(), "Ada") }()
			<-started
		}
		// A connection that says it speaks HTTP/2 and never asks for anything is sent away as well.
		idle, err := w.Network.Host("idler").Dial(t.Context(), "a:80")
		if err != nil {
			t.Fatal(err)
		}
		defer idle.Close()
		if _, err := io.WriteString(idle, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if p := n.Server.Snapshot().Port; p.Waiting != 1 {
			t.Errorf("%+v", p)
		}
		n.Stop()
		for range list {
			if a := <-answers; a.code != codes.OK || a.text != "Hello, Ada" {
				t.Errorf("%+v", a)
			}
		}
		all, err := io.ReadAll(idle)
		if err != nil || len(all) != 9+17 || all[9+3] != 7 {
			t.Errorf("the idle connection got %x, %v; want SETTINGS and GOAWAY", all, err)
		}
	})
}

// TestHTTPDefence: what is too slow or too much ends in bounded time with a clear answer, and is counted.
func TestHTTPDefence(t *testing.T) {
	limits := hull.Limits{Conns: 4, ConnsPerPeer: 3, Header: 4 << 10, Handshake: time.Second, SlowSender: 2 * time.Second, SlowReader: time.Second}
	tests := []struct {
		name, send, want string
		within           time.Duration
		count            func(hull.PortSnapshot) int64
	}{
		{"a long header", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 16<<10) + "\r\n\r\n", "431 ", time.Second, nil},
		{"a header that never ends", "GET / HTTP/1.1\r\nHost: a\r\n", "", 1100 * time.Millisecond, nil},
		{"a body that never ends", "POST /typed.Greeter/Hello HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{", "did not come within 2s", 2100 * time.Millisecond,
			func(p hull.PortSnapshot) int64 { return p.SlowSenders }},
		{"TLS where there is none", "\x16\x03\x01\x00\x05hello", "\x15\x03\x01\x00\x02\x02\x46", time.Second, func(p hull.PortSnapshot) int64 { return p.HandshakesFailed }},
		{"half a preface", "PRI * HTTP/2.0\r\n", "", 1100 * time.Millisecond, func(p hull.PortSnapshot) int64 { return p.HandshakesFailed }},
		{"a preface without settings", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", 1100 * time.Millisecond, func(p hull.PortSnapshot) int64 { return p.HandshakesFailed }},
		{"half a frame", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x10\x01", "", 1100 * time.Millisecond,
			func(p hull.PortSnapshot) int64 { return p.HandshakesFailed }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				n := w.Serve("greeter", "a", both, hull.WithLimits(limits))
				c, err := w.Network.Host("stranger").Dial(t.Context(), "a:80")
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				start := time.Now()
				if _, err := io.WriteString(c, tt.send); err != nil {
					t.Fatal(err)
				}
				got, _ := io.ReadAll(c)
				if took := time.Since(start); took > tt.within || !strings.Contains(string(got), tt.want) {
					t.Errorf("after %v: %q; want %q within %v", took, got, tt.want, tt.within)
				}
				synctest.Wait()
				if p := n.Server.Snapshot().Port; p.Conns != 0 || (tt.count != nil && tt.count(p) != 1) {
					t.Errorf("%+v", p)
				}
			})
		})
	}
}

// TestSlowReaderIsCutOff: a peer that takes nothing of a large answer does not hold it in memory for ever.
func TestSlowReaderIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("greeter", "a", func(s *hull.Server) {
			hull.Handle(s, "typed.Greeter/Hello", func(context.Context, *helloRequest) (*helloReply, error) {
				return &helloReply{Text: strings.Repeat("x", 3<<20)}, nil
			})
		}, hull.WithLimits(hull.Limits{SlowReader: time.Second}))
		c, err := w.Network.Host("stranger").Dial(t.Context(), "a:80")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "POST /typed.Greeter/Hello HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if p := n.Server.Snapshot().Port; p.Conns != 0 || p.SlowReaders != 1 {
			t.Errorf("%+v", p)
		}
	})
}

// TestConnectionLimits: one too many is closed, and there is room again when one has gone.
func TestConnectionLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("greeter", "a", both, hull.WithLimits(hull.Limits{Conns: 2}))
		web := func() string {
			c, err := w.Network.Host("stranger").Dial(t.Context(), "a:80")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			_, _ = io.WriteString(c, "POST /typed.Greeter/Hello HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
			line, _ := bufio.NewReader(c).ReadString('\n')
			return strings.TrimSpace(line)
		}
		for range 2 {
			c, err := w.Network.Host("holder").Dial(t.Context(), "a:80")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		synctest.Wait()
		if got := web(); got != "" {
			t.Errorf("over the limit: %q", got)
		}
		time.Sleep(10 * time.Second) // the holders never say what they speak
		if got := web(); got != "HTTP/1.1 200 OK" {
			t.Errorf("afterwards: %q", got)
		}
		if p := n.Server.Snapshot().Port; p.OverConns != 1 || p.HandshakesFailed != 2 {
			t.Errorf("%+v", p)
		}
	})
}

// TestDeafHandlerDoesNotHoldUpTheEnd: a handler that does not listen to its context, in any protocol, is not waited for for ever.
func TestDeafHandlerDoesNotHoldUpTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		started, release := make(chan struct{}), make(chan struct{})
		i := &impl{hello: func(context.Context, *pb.HelloRequest) (*pb.HelloReply, error) {
			started <- struct{}{}
			<-release
			return &pb.HelloReply{}, nil
		}}
		n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, i) })
		list := foreigners(t, w)
		answers := make(chan answer, len(list))
		for _, f := range list {
			go func() { answers <- f.hello(t.Context(), "Ada") }()
			<-started
		}
		if got := n.Server.Snapshot().InFlight; got != int64(len(list)) {
			t.Errorf("%d in flight", got)
		}
		stopped := make(chan time.Duration)
		go func() {
			start := time.Now()
			n.Stop()
			stopped <- time.Since(start)
		}()
		for range list {
			if a := <-answers; a.code == codes.OK {
				t.Errorf("%+v", a)
			}
		}
		if d := <-stopped; d > hull.DefaultDrainWait+hull.DefaultDrainTimeout+2*time.Second {
			t.Errorf("stopping took %v", d)
		}
		close(release)
	})
}
