package hull_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
	"github.com/hull-go/hull/status"
)

// shop is two services on real ports: the shop's handlers call the store.
type shop struct {
	t      *testing.T
	client *hull.Client // of the test
	inner  *hull.Client // of the shop's handlers
	server *hull.Server // the shop
}

func (s *shop) serve(name string, reg *registry.Registry, fn func(ctx context.Context, r *pb.HelloRequest) (*pb.HelloReply, error), opts ...hull.ServerOption) *hull.Server {
	srv, err := hull.NewServer(name, append(opts, hull.WithRegistry(reg), hull.Drain(0, time.Second), hull.NodeID(name+"-1"))...)
	if err != nil {
		s.t.Fatal(err)
	}
	hull.Handle(srv, name+".S/Get", fn, hull.Idempotent())
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	s.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
	select {
	case <-srv.Ready():
	case err := <-done:
		s.t.Fatal(err)
	}
	return srv
}

func openShop(t *testing.T, opts ...hull.ServerOption) *shop {
	t.Helper()
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close() })
	s := &shop{t: t}
	s.serve("store", reg, func(_ context.Context, r *pb.HelloRequest) (*pb.HelloReply, error) {
		if r.Name == "bad" {
			return nil, status.Errorf(status.Internal, "the shelf is broken: Größe ≠ 日本")
		}
		return &pb.HelloReply{Message: r.Name}, nil
	})
	if s.client, err = hull.NewClient(hull.WithRegistry(reg), hull.WithAdmin("127.0.0.1:0")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.client.Close() })
	if s.inner, err = hull.NewClient(hull.WithRegistry(reg)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.inner.Close() })
	s.server = s.serve("shop", reg, func(ctx context.Context, r *pb.HelloRequest) (*pb.HelloReply, error) {
		return hull.Call[pb.HelloReply](ctx, s.inner.To("store"), "store.S/Get", r)
	}, append(opts, hull.WithAdmin("127.0.0.1:0", s.inner))...)
	return s
}

func (s *shop) call(name string, opts ...hull.CallOption) error {
	_, err := hull.Call[pb.HelloReply](s.t.Context(), s.client.To("shop"), "shop.S/Get", &pb.HelloRequest{Name: name}, append(opts, hull.Timeout(30*time.Second))...)
	return err
}

// get asks an admin page; header are pairs, of which Host is special.
func (s *shop) do(method, url, body string, header ...string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if req.Header.Set(header[i], header[i+1]); header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// TestExplainCall is the story of a call through two services, told by both of them.
func TestExplainCall(t *testing.T) {
	s := openShop(t)
	var info hull.CallInfo
	if err := s.call("bad", hull.Explained(&info)); status.CodeOf(err) != status.Internal {
		t.Fatal(err)
	}
	text := info.String()
	for _, want := range []string{"shop shop.S/Get: ", "attempt   1 at +", "node      shop-1", "breaker   closed", "budget    ", "server    shop-1 of shop: waited ",
		"\n    store store.S/Get: ", "server    store-1 of store: waited ", "Größe ≠ 日本"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	b, err := json.Marshal(&info)
	var back map[string]any
	if err != nil || json.Unmarshal(b, &back) != nil || back["server"] == nil || back["nodes"] == nil {
		t.Errorf("%s, %v", b, err)
	}
	info = hull.CallInfo{}
	if err := s.call("good", hull.Info(&info)); err != nil || info.Server != nil || info.Nodes != nil {
		t.Errorf("Info tells what only Explain should: %v, %v", err, &info)
	}
	// Who does not ask for the trailer does not get it; over HTTP and gRPC the header does.
	for _, asked := range []string{"", "1"} {
		code, _ := s.do(http.MethodPost, "http://"+s.server.Addr()+"/shop.S/Get", `{"name":"good"}`, "Content-Type", "application/json", "hull-explain", asked)
		if code != http.StatusOK {
			t.Errorf("asked %q: %d", asked, code)
		}
	}
}

// TestExplainOverProtocols is that the server's story goes to whom it may, over every protocol, and to nobody behind a proxy.
func TestExplainOverProtocols(t *testing.T) {
	s := openShop(t)
	story := func(header ...string) string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.server.Addr()+"/shop.S/Get", strings.NewReader(`{"name":"good"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body)
		return res.Header.Get("Trailer-Hull-Explain")
	}
	if got := story("hull-explain", "1"); !strings.Contains(got, `"node":"shop-1"`) || !strings.Contains(got, `"service":"store"`) {
		t.Errorf("JSON: %q", got)
	}
	if got := story("hull-explain", "1", "Connect-Protocol-Version", "1"); !strings.Contains(got, `"node":"shop-1"`) {
		t.Errorf("Connect: %q", got)
	}
	// gRPC-Web: a frame of five bytes and the message, and the trailer behind the answer.
	msg, err := proto.Marshal(&pb.HelloRequest{Name: "good"})
	if err != nil {
		t.Fatal(err)
	}
	for _, asked := range []string{"0", "1"} {
		code, body := s.do(http.MethodPost, "http://"+s.server.Addr()+"/shop.S/Get", string([]byte{0, 0, 0, 0, byte(len(msg))})+string(msg), "Content-Type", "application/grpc-web+proto", "hull-explain", asked)
		if told := strings.Contains(body, `"node":"shop-1"`); code != http.StatusOK || !strings.Contains(body, "grpc-status: 0") || told != (asked == "1") {
			t.Errorf("gRPC-Web, asked %s: %d %q", asked, code, body)
		}
	}
	for _, header := range [][]string{nil, {"hull-explain", "1", "X-Forwarded-For", "1.2.3.4"}, {"hull-explain", "1", "Via", "1.1 proxy"}} {
		if got := story(header...); got != "" {
			t.Errorf("%v: %q", header, got)
		}
	}
	for _, scheme := range []string{"grpc", "http", "hull"} {
		var info hull.CallInfo
		if _, err := hull.Call[pb.HelloReply](t.Context(), s.client.To(scheme+"://"+s.server.Addr()), "shop.S/Get", &pb.HelloRequest{Name: "good"}, hull.Explained(&info),
			hull.Timeout(30*time.Second)); err != nil || !strings.Contains(string(info.Server), `"node":"shop-1"`) {
			t.Errorf("%s: %v, %s", scheme, err, info.Server)
		}
	}
	closed := openShop(t, hull.ExplainTo(func(*peer.Peer) bool { return false }))
	var info hull.CallInfo
	if err := closed.call("good", hull.Explained(&info)); err != nil || info.Server != nil || len(info.Nodes) != 1 {
		t.Errorf("%v, %v", err, &info)
	}
}

// TestStoryIsBounded is that a handler which makes many failing calls does not make an answer that cannot be sent.
func TestStoryIsBounded(t *testing.T) {
	s := openShop(t)
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	many := s.serve("many", reg, func(ctx context.Context, _ *pb.HelloRequest) (*pb.HelloReply, error) {
		for range 100 {
			_, _ = hull.Call[pb.HelloReply](ctx, s.inner.To("store"), "store.S/Get", &pb.HelloRequest{Name: strings.Repeat("x", 100)})
		}
		return &pb.HelloReply{}, nil
	})
	for _, scheme := range []string{"grpc", "http", "hull"} {
		var info hull.CallInfo
		_, err := hull.Call[pb.HelloReply](t.Context(), s.client.To(scheme+"://"+many.Addr()), "many.S/Get", &pb.HelloRequest{}, hull.Explained(&info), hull.Timeout(30*time.Second))
		if err != nil || len(info.Server) == 0 || len(info.Server) > 8<<10 || !strings.Contains(info.String(), "more calls") {
			t.Errorf("%s: %v, %d bytes: %v", scheme, err, len(info.Server), &info)
		}
	}
}

// TestRecent is that a client remembers what failed and what was slow.
func TestRecent(t *testing.T) {
	s := openShop(t)
	for range 50 {
		if err := s.call("good"); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if err := s.call("bad"); err == nil {
			t.Fatal("no error")
		}
	}
	_, _ = hull.Call[pb.HelloReply](t.Context(), s.client.To("shop"), "shop.S/Get", &pb.HelloRequest{}, hull.Select("=")) // refused before any policy
	r := s.client.Recent()
	if r.Failed != 4 || len(r.Failures) != 4 || r.Failures[0].Class.String() == "" || len(r.Slowest) != 16 {
		t.Fatalf("%d failed, %d kept, %d slow", r.Failed, len(r.Failures), len(r.Slowest))
	}
	if f := r.Failures[1]; f.Service != "shop" || f.Method != "shop.S/Get" || len(f.Attempts) == 0 || f.Err == nil || time.Since(f.Ended) > time.Minute {
		t.Errorf("%+v", f)
	}
	for i, c := range r.Slowest {
		if i > 0 && c.Took > r.Slowest[i-1].Took {
			t.Error("not in order")
		}
	}
}

// TestAdminPage is what the admin pages of a client and a server show, and how policies are changed there.
func TestAdminPage(t *testing.T) {
	s := openShop(t)
	_ = s.call("good")
	_ = s.call("bad")
	client, server := "http://"+s.client.AdminAddr(), "http://"+s.server.AdminAddr()
	for url, want := range map[string][]string{
		client + "/hull/": {"GET  /hull/state"},
		client + "/hull/state": {"client: 1 failed", "service shop: discovery ok", "node shop-1 ", "method shop.S/Get: 2 calls", "breaker closed", "connections to 127.0.0.1:",
			"its policies are the built-in ones, without a document", "budget ", "concurrency 0 in use of at most ", "throttle holds back nothing; the service took on ", "attempt timeout 1s, nothing learned yet"},
		server + "/hull/state": {"server shop, node shop-1 at 127.0.0.1:", ": ready\n", "policies  the built-in ones, without a document\n", "refused   0 calls (0 for want of a place, 0 above",
			"limit     0 running of at most ", "line      0 waiting of at most 1000,", "pressure  none:", "keys      0 kept for 10m0s in 0 bytes\n", "port      1 connections now", "service store"},
		server + "/hull/state?format=json":        {`"phase": "ready"`, `"class": "sheddable-plus"`, `"keepS": 600`, `"lagMs"`},
		server + "/hull/explain/shop":             {"server shop, node shop-1", "server_limit.max"},
		server + "/hull/spec":                     {"# server shop, the built-in ones, without a document\n# client, the built-in ones"},
		client + "/hull/calls":                    {"1 calls have failed", "shop shop.S/Get", "The slowest"},
		client + "/hull/explain/shop":             {"service shop", "FIELD", "built-in"},
		client + "/hull/explain/shop/shop.S/Get":  {"method shop.S/Get", "retry.attempts"},
		client + "/hull/spec":                     {"# client, the built-in ones, without a document\n{}"},
		client + "/hull/state?format=json":        {`"clients": [`, `"discovery": "ok"`},
		client + "/hull/explain/shop?format=json": {`"policies"`},
		client + "/hull/calls?format=json":        {`"failures": [`},
	} {
		code, body := s.do(http.MethodGet, url, "")
		if code != http.StatusOK {
			t.Errorf("%s: %d %s", url, code, body)
		}
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("%s: no %q in\n%s", url, w, body)
			}
		}
	}
	if code, body := s.do(http.MethodGet, client+"/hull/explain/shpo", ""); code != http.StatusNotFound || !strings.Contains(body, "did you mean shop?") {
		t.Errorf("%d %s", code, body)
	}

	for path, want := range map[string]string{"/": "/hull/ says what there is", "/hull/stats": "/hull/ says what there is", "/hull/explain": "/hull/explain/SERVICE/METHOD",
		"/hull/explain/": "/hull/explain/SERVICE/METHOD"} {
		if code, body := s.do(http.MethodGet, client+path, ""); code != http.StatusNotFound || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	for path, want := range map[string]string{"shop/Gte": "did you mean shop.S/Get?", "shop/shop.S/Gte": "did you mean shop.S/Get?"} {
		if _, body := s.do(http.MethodGet, client+"/hull/explain/"+path, ""); !strings.Contains(body, "not seen yet; "+want) {
			t.Errorf("%s: %.100s", path, body)
		}
	}

	const doc = "services: {shop: {retry: {attempts: 2}, methods: {shop.S/Get: {timeout: 300ms}}}}"
	yaml := []string{"Content-Type", "application/yaml"}
	if code, body := s.do(http.MethodPost, client+"/hull/spec?do=diff", doc, yaml...); code != http.StatusOK || !strings.Contains(body, "shop: retry.attempts: 3 -> 2") {
		t.Errorf("diff: %d %s", code, body)
	}
	if code, body := s.do(http.MethodPost, client+"/hull/spec?do=validate", "services: {shop: {retyr: 1}}", yaml...); code != http.StatusUnprocessableEntity || !strings.Contains(body, "did you mean retry?") {
		t.Errorf("validate: %d %s", code, body)
	}
	if s.client.Spec().Services != nil {
		t.Error("asking has changed something")
	}
	if code, body := s.do(http.MethodPost, client+"/hull/spec", doc, yaml...); code != http.StatusOK || !strings.Contains(body, "in force") {
		t.Errorf("set: %d %s", code, body)
	}
	if n := s.client.Spec().Services["shop"].Retry.Attempts; n != 2 {
		t.Errorf("%d attempts", n)
	}
	if _, body := s.do(http.MethodGet, client+"/hull/spec", ""); !strings.Contains(body, "# client, from the admin page at ") {
		t.Error(body)
	}
}

// TestAdminPageGuards is who may not look, and who may not change anything.
func TestAdminPageGuards(t *testing.T) {
	s := openShop(t)
	client := "http://" + s.client.AdminAddr()
	for _, tt := range []struct {
		name, method, path string
		header             []string
		code               int
	}{
		{"a stranger's name", http.MethodGet, "/hull/state", []string{"Host", "evil.example"}, http.StatusForbidden},
		{"a page from elsewhere looks", http.MethodGet, "/hull/state", []string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		{"a page from elsewhere", http.MethodPost, "/hull/spec", []string{"Sec-Fetch-Site", "cross-site", "Content-Type", "application/json"}, http.StatusForbidden},
		{"a page with an origin", http.MethodPost, "/hull/spec", []string{"Origin", "http://evil.example", "Content-Type", "application/json"}, http.StatusForbidden},
		{"a form", http.MethodPost, "/hull/spec", []string{"Content-Type", "text/plain"}, http.StatusUnsupportedMediaType},
		{"another form", http.MethodPost, "/hull/spec", []string{"Content-Type", "application/x-www-form-urlencoded"}, http.StatusUnsupportedMediaType},
		{"a change by GET", http.MethodPut, "/hull/spec", nil, http.StatusMethodNotAllowed},
		{"nowhere", http.MethodGet, "/", nil, http.StatusNotFound},
		{"localhost", http.MethodGet, "/hull/state", []string{"Host", "localhost:80"}, http.StatusOK},
		{"LOCALHOST", http.MethodGet, "/hull/state", []string{"Host", "LocalHost"}, http.StatusOK},
		{"localhost.", http.MethodGet, "/hull/state", []string{"Host", "localhost.:7"}, http.StatusOK},
		{"almost localhost", http.MethodGet, "/hull/state", []string{"Host", "localhost.evil.example"}, http.StatusForbidden},
	} {
		if code, body := s.do(tt.method, client+tt.path, "{}", tt.header...); code != tt.code {
			t.Errorf("%s: %d %s", tt.name, code, body)
		}
	}
	for _, addr := range []string{":7000", "0.0.0.0:7000", "10.0.0.1:7000", "example.com:7000", "7000", "[::]:1"} {
		if _, err := hull.NewClient(hull.WithAdmin(addr)); err == nil {
			t.Errorf("%s is taken", addr)
		}
	}
	if _, err := hull.NewClient(hull.WithAdmin(s.client.AdminAddr())); err == nil || !strings.Contains(err.Error(), "admin page") {
		t.Errorf("a port that is taken: %v", err)
	}
}

// TestHandlersSeeNoStory is that the request's header is just metadata to those who do not know it.
func TestHandlersSeeNoStory(t *testing.T) {
	s := openShop(t)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "hull-explain", "yes please")
	if _, err := hull.Call[pb.HelloReply](ctx, s.client.To("shop"), "shop.S/Get", &pb.HelloRequest{Name: "good"}); err != nil || errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
