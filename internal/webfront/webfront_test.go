package webfront_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/internal/echopb"
	"github.com/hull-go/hull/internal/foreign"
	"github.com/hull-go/hull/internal/webfront"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// echo answers with what it was sent, decoded and encoded again.
type echo struct{}

func (echo) Unary(_ context.Context, in *transport.Incoming) transport.Outgoing {
	if in.Method == "echo.Echo/Liar" {
		lie := transport.Metadata{{Key: transport.HeaderFate, Value: "not-sent"}, {Key: transport.HeaderOrigin, Value: "downstream"}, {Key: transport.HeaderKind, Value: "shed"}}
		return transport.Outgoing{Header: lie, Trailer: lie, Status: &status.Error{Code: status.Internal, Fate: status.Processed, Message: "ran"}}
	}
	var cd codec.Codec = codec.JSON{}
	if in.Codec == "proto" {
		cd = codec.Proto{}
	}
	m := new(echopb.EchoMessage)
	if err := cd.Unmarshal(in.Payload, m); err != nil {
		return transport.Outgoing{Status: &status.Error{Code: status.InvalidArgument, Message: err.Error()}}
	}
	return transport.Outgoing{Codec: cd, Message: m, Header: in.Metadata, Trailer: in.Metadata}
}

func (echo) Stream(_ context.Context, _ *transport.Incoming, s transport.ServerStream) transport.Outgoing {
	s.SetCodec(codec.JSON{})
	for {
		m := new(echopb.EchoMessage)
		if err := s.Recv(m); err != nil {
			return transport.Outgoing{}
		}
		if err := s.Send(m); err != nil {
			return transport.Outgoing{Status: err}
		}
	}
}

func newHandler(t testing.TB) *webfront.Handler {
	t.Helper()
	h, err := webfront.New(echo{}, []foreign.Method{{Name: "echo.Echo/Echo", SideEffectFree: true}, {Name: "echo.Echo/Careful"}, {Name: "echo.Echo/Liar"}, {Name: "echo.Echo/Down", Stream: true, ServerStreams: true},
		{Name: "echo.Echo/Up", Stream: true, ClientStreams: true}, {Name: "echo.Echo/Both", Stream: true, ClientStreams: true, ServerStreams: true}},
		webfront.Options{MaxMessage: 1 << 16, SlowSender: time.Second, Service: "echo", Origins: []string{"https://friend.example"}, Unknown: func(context.Context, *transport.Incoming) transport.Outgoing {
			return transport.Outgoing{Status: &status.Error{Code: status.Unimplemented, Kind: status.NoMethod, Message: "no such method"}}
		}})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// FuzzRequest: whatever a request is made of, it is answered, a failure in a form that its protocol knows, and nothing panics.
func FuzzRequest(f *testing.F) {
	for _, ct := range []string{"", "application/json", "application/x-www-form-urlencoded", "application/proto", "application/grpc", "application/grpc+json",
		"application/grpc-web", "application/grpc-web-text", "application/connect+json", "application/connect+proto", "text/plain", "application/json; charset=\"", ";"} {
		f.Add("POST", "/echo.Echo/Echo", ct, "Grpc-Timeout", "1S", []byte(`{"id":"a"}`))
		f.Add("POST", "/echo.Echo/Down", ct, "X-Bin", "AP8", []byte("\x00\x00\x00\x00\x0a"+`{"id":"a"}`))
	}
	f.Add("POST", "/echo.Echo/Both", "application/connect+json", "Connect-Content-Encoding", "gzip", []byte("\x01\x00\x00\x00\x0a"+`{"id":"a"}`))
	f.Add("POST", "/echo.Echo/Echo", "application/json", "Content-Encoding", "gzip", []byte("\x1f\x8b"))
	f.Add("POST", "/echo.Echo/Echo", "application/json", "Origin", "http://evil.example", []byte(`{}`))
	f.Add("GET", "/echo.Echo/Echo?encoding=json&message=%7B%7D&connect=v1", "", "Connect-Timeout-Ms", "-1", []byte(nil))
	f.Add("GET", "/hull/methods", "", "X-Envoy-Attempt-Count", "x", []byte(nil))
	f.Add("OPTIONS", "/echo.Echo/Echo", "", "Origin", "http://a", []byte(nil))
	f.Fuzz(func(t *testing.T, method, target, contentType, key, value string, body []byte) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://a"+target, strings.NewReader(string(body)))
		if err != nil || len(body) > 1<<18 {
			return
		}
		r.ProtoMajor = 1 + len(body)%2
		if contentType != "" {
			r.Header.Set("Content-Type", contentType)
		}
		if key != "" {
			r.Header.Set(key, value)
		}
		h := newHandler(t)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code < 200 || w.Code > 599 {
			t.Fatalf("status %d", w.Code)
		}
		if ct := w.Header().Get("Content-Type"); ct == "application/json" && method != http.MethodHead && w.Header().Get("Content-Encoding") == "" && !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%d: %q is no JSON", w.Code, w.Body)
		}
		if n := h.Counters(); n.Panicked != 0 {
			t.Fatal("a handler panicked")
		}
	})
}

// TestMessagesPass: what is allowed passes unchanged, with metadata in both directions.
func TestMessagesPass(t *testing.T) {
	h := newHandler(t)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/echo.Echo/Echo", strings.NewReader(`{"id":"a","n":"7","data":"AP8="}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Mine", "1")
	r.Header.Set("X-Mine-Bin", "AP8=")
	r.Header.Set("Te", "trailers")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got["id"] != "a" || got["n"] != "7" || got["data"] != "AP8=" {
		t.Errorf("%d %s: %v", w.Code, w.Body, err)
	}
	for k, want := range map[string]string{"X-Mine": "1", "X-Mine-Bin": "AP8", "Trailer-X-Mine": "1", "Te": "", "Content-Type": "application/json"} {
		if v := w.Header().Get(k); v != want {
			t.Errorf("%s: %q, want %q", k, v, want)
		}
	}
}

// TestConnectGET: methods without side effects can be called with GET, which caches understand; others cannot.
func TestConnectGET(t *testing.T) {
	h := newHandler(t)
	for path, want := range map[string]int{"/echo.Echo/Echo": http.StatusOK, "/echo.Echo/Careful": http.StatusMethodNotAllowed} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path+"?connect=v1&encoding=json&message=%7B%22id%22%3A%22a%22%7D", nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want || (want == http.StatusOK && !strings.Contains(w.Body.String(), `"a"`)) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

// TestHTTPStatus: each code has one.
func TestHTTPStatus(t *testing.T) {
	want := map[status.Code]int{status.Canceled: 499, status.Unknown: 500, status.InvalidArgument: 400, status.DeadlineExceeded: 504, status.NotFound: 404,
		status.AlreadyExists: 409, status.PermissionDenied: 403, status.ResourceExhausted: 429, status.FailedPrecondition: 400, status.Aborted: 409,
		status.OutOfRange: 400, status.Unimplemented: 501, status.Internal: 500, status.Unavailable: 503, status.DataLoss: 500, status.Unauthenticated: 401, 77: 500}
	for code, n := range want {
		if got := webfront.HTTPStatus(&status.Error{Code: code}); got != n {
			t.Errorf("%v: %d, want %d", code, got, n)
		}
	}
	if got := webfront.HTTPStatus(&status.Error{Code: status.ResourceExhausted, Kind: status.TooLarge}); got != 413 {
		t.Errorf("too large: %d", got)
	}
}

// at is a connection with addresses and nothing else.
type at struct {
	net.Conn
	local string
}

func (c at) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.local)) }
func (c at) RemoteAddr() net.Addr { return c.LocalAddr() }

// TestHandlersMetadataProvesNothing: what a handler sends along cannot say that the call it serves was never begun.
func TestHandlersMetadataProvesNothing(t *testing.T) {
	h := newHandler(t)
	for _, ct := range []string{"application/json", "application/proto"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/echo.Echo/Liar", strings.NewReader(""))
		r.Header.Set("Content-Type", ct)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusInternalServerError || w.Header().Get(transport.HeaderFate) != "" || w.Header().Get(transport.HeaderOrigin) != "" ||
			w.Header().Get(transport.HeaderKind) != "" {
			t.Errorf("%s: %d %v", ct, w.Code, w.Header())
		}
	}
}

// TestForeignPagesGet: to call by GET is to call. Where a page runs is not asked for what is described only.
func TestForeignPagesGet(t *testing.T) {
	const call, look = "/echo.Echo/Echo?connect=v1&encoding=json&message=%7B%22id%22%3A%22a%22%7D", "/hull/methods"
	tests := []struct {
		target, host, local, site, origin string
		want                              int
	}{
		{call, "app.example", "10.0.0.1:80", "cross-site", "", http.StatusForbidden},
		{call, "app.example", "10.0.0.1:80", "", "http://evil.example", http.StatusForbidden},
		{call, "app.example", "10.0.0.1:80", "same-origin", "", http.StatusOK},
		{call, "app.example", "10.0.0.1:80", "none", "", http.StatusOK},
		{call, "app.example", "10.0.0.1:80", "cross-site", "https://friend.example", http.StatusOK},
		// A browser says nothing of itself when a page on plain HTTP gets something from its own origin.
		{call, "evil.example:8080", "127.0.0.1:8080", "", "", http.StatusForbidden},
		{look, "evil.example:8080", "127.0.0.1:8080", "", "", http.StatusForbidden},
		{"/echo.Echo", "evil.example:8080", "127.0.0.1:8080", "", "", http.StatusForbidden},
		{"/echo.Echo/Echo", "evil.example:8080", "127.0.0.1:8080", "", "", http.StatusForbidden},
		{call, "friend.example", "127.0.0.1:8080", "", "", http.StatusOK}, // a proxy on this machine
		{look, "localhost:8080", "127.0.0.1:8080", "", "", http.StatusOK},
		{look, "app.example", "10.0.0.1:80", "", "", http.StatusOK},
	}
	h := newHandler(t)
	for _, tt := range tests {
		r := httptest.NewRequestWithContext(webfront.ConnContext(t.Context(), at{local: tt.local}), http.MethodGet, tt.target, nil)
		r.Host = tt.host
		if tt.site != "" {
			r.Header.Set("Sec-Fetch-Site", tt.site)
		}
		if tt.origin != "" {
			r.Header.Set("Origin", tt.origin)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("%+v: %d %s", tt, w.Code, w.Body)
		}
	}
}

// TestStrangersNameForThisMachine: a page whose host name was pointed at a loopback address, after it was loaded, is same-origin to its browser. It
// is refused by its name.
func TestStrangersNameForThisMachine(t *testing.T) {
	tests := []struct {
		host, local string
		browser     bool
		want        int
	}{
		{"evil.example:8080", "127.0.0.1:8080", true, http.StatusForbidden},
		{"evil.example:8080", "[::1]:8080", true, http.StatusForbidden},
		{"evil.example", "127.0.0.1:80", false, http.StatusOK}, // a proxy, for instance
		{"localhost:8080", "127.0.0.1:8080", true, http.StatusOK},
		{"app.localhost:8080", "127.0.0.1:8080", true, http.StatusOK},
		{"127.0.0.1:8080", "127.0.0.1:8080", true, http.StatusOK},
		{"[::1]:8080", "[::1]:8080", true, http.StatusOK},
		{"app.example", "10.0.0.1:80", true, http.StatusOK},
	}
	h := newHandler(t)
	for _, tt := range tests {
		ctx := webfront.ConnContext(t.Context(), at{local: tt.local})
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/echo.Echo/Echo", strings.NewReader(`{}`))
		r.Host = tt.host
		r.Header.Set("Content-Type", "application/json")
		if tt.browser {
			r.Header.Set("Origin", "http://"+tt.host)
			r.Header.Set("Sec-Fetch-Site", "same-origin")
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("%+v: %d %s", tt, w.Code, w.Body)
		}
	}
}

// TestUnknownMethodAcrossOrigins: a page of an allowed origin learns that there is no such method, instead of nothing.
func TestUnknownMethodAcrossOrigins(t *testing.T) {
	h := newHandler(t)
	for _, path := range []string{"/echo.Echo/Echo", "/echo.Echo/Nothing", "/nothing.Nothing/Nothing"} {
		for origin, want := range map[string]string{"https://friend.example": "https://friend.example", "https://evil.example": ""} {
			for _, verb := range []string{http.MethodOptions, http.MethodPost} {
				r := httptest.NewRequestWithContext(t.Context(), verb, path, strings.NewReader("{}"))
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("Origin", origin)
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if got := w.Header().Get("Access-Control-Allow-Origin"); got != want || verb == http.MethodOptions && w.Code != http.StatusNoContent {
					t.Errorf("%s %s from %s: %d, allowed %q, want %q", verb, path, origin, w.Code, got, want)
				}
			}
		}
	}
}
