package httptransport_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/httptransport"
)

// foreign starts a plain HTTP server and returns a way to it.
func foreign(t *testing.T, o httptransport.Options, h http.HandlerFunc) transport.Conn {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	if o.TLS != nil {
		t.Fatal("use the TLS test's own server")
	}
	srv.Start()
	t.Cleanup(srv.Close)
	d, err := httptransport.NewDialer(o)
	if err != nil {
		t.Fatal(err)
	}
	c, e := d.Dial(t.Context(), srv.Listener.Addr().String())
	if e != nil {
		t.Fatal(e)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func ask(ctx context.Context, c transport.Conn, method string, msg, into any) *status.Error {
	return c.Call(ctx, &transport.Request{Method: method, Codec: codec.JSON{}, Message: msg, PathAttempt: 1,
		Deadline: policy.Now().Add(20 * time.Second)}, &transport.Reply{Message: into})
}

// TestAnswers is what plain HTTP answers mean.
func TestAnswers(t *testing.T) {
	tests := []struct {
		name     string
		code     int
		header   map[string]string
		body     string
		want     status.Code
		kind     status.Kind
		fate     status.Fate
		pushback time.Duration
	}{
		{"ok", 200, nil, `{"a":1}`, status.OK, 0, 0, 0},
		{"created", 201, nil, `{"a":1}`, status.OK, 0, 0, 0},
		{"no JSON", 200, nil, `<html>`, status.Internal, status.Answered, status.Processed, 0},
		{"redirect", 302, map[string]string{"Location": "/elsewhere"}, "", status.Unimplemented, status.Answered, status.Processed, 0},
		{"bad request", 400, nil, "no", status.InvalidArgument, status.Answered, status.Processed, 0},
		{"not found", 404, nil, "", status.NotFound, status.Answered, status.Processed, 0},
		{"misdirected", 421, nil, "", status.Unavailable, status.Draining, status.NotSent, 0},
		{"too early", 425, nil, "", status.Unavailable, status.Draining, status.NotSent, 0},
		{"misdirected with a body", 421, nil, `{"code":"unavailable"}`, status.Unavailable, status.Answered, status.NotSent, 0},
		{"too many", 429, map[string]string{"Retry-After": "2"}, "", status.ResourceExhausted, status.Answered, status.Processed, 2 * time.Second},
		{"internal", 500, nil, "", status.Internal, status.Answered, status.Processed, 0},
		{"not implemented", 501, nil, "", status.Unimplemented, status.NoMethod, status.Processed, 0},
		{"bad gateway", 502, nil, "", status.Unavailable, status.Answered, status.Processed, 0},
		{"unavailable", 503, nil, "", status.Unavailable, status.Answered, status.Processed, 0},
		{"unavailable until", 503, map[string]string{"Date": "Sat, 21 Nov 2026 12:00:00 GMT", "Retry-After": "Sat, 21 Nov 2026 12:00:03 GMT"}, "",
			status.ResourceExhausted, status.Answered, status.Processed, 3 * time.Second},
		{"unreadable advice", 503, map[string]string{"Retry-After": "soon"}, "", status.ResourceExhausted, status.Answered, status.Processed, -1},
		{"Connect", 404, nil, `{"code":"failed_precondition","message":"m"}`, status.FailedPrecondition, status.Answered, status.Processed, 0},
		{"a code of its own", 404, nil, `{"code":"E1234"}`, status.NotFound, status.Answered, status.Processed, 0},
		{"shed", 503, map[string]string{"Hull-Kind": "shed", "Hull-Fate": "not-sent", "Grpc-Retry-Pushback-Ms": "150"}, `{"code":"unavailable"}`,
			status.Unavailable, status.Shed, status.NotSent, 150 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := foreign(t, httptransport.Options{}, func(w http.ResponseWriter, r *http.Request) {
				for k, v := range tt.header {
					w.Header().Set(k, v)
				}
				w.WriteHeader(tt.code)
				fmt.Fprint(w, tt.body)
			})
			for range 2 { // the connection is used again
				var got map[string]int
				err := ask(t.Context(), c, "a.B/C", map[string]int{}, &got)
				if tt.want == status.OK {
					if err != nil || got["a"] != 1 {
						t.Fatalf("%v, %v", got, err)
					}
					continue
				}
				if err == nil || err.Code != tt.want || err.Kind != tt.kind || err.Fate != tt.fate || err.Pushback != tt.pushback {
					t.Fatalf("%+v, want %v, %v, %v, pushback %v", err, tt.want, tt.kind, tt.fate, tt.pushback)
				}
			}
		})
	}
}

// TestNoContent: a success that has nothing to say is an empty message, as services answer a DELETE. One that ends with its connection may have been cut off.
func TestNoContent(t *testing.T) {
	for name, tt := range map[string]struct {
		code int
		end  bool
		want status.Code
	}{"204": {204, false, status.OK}, "200": {200, false, status.OK}, "201": {201, false, status.OK}, "202": {202, false, status.OK}, "cut off": {200, true, status.Internal}} {
		t.Run(name, func(t *testing.T) {
			c := foreign(t, httptransport.Options{}, func(w http.ResponseWriter, r *http.Request) {
				if !tt.end {
					w.WriteHeader(tt.code)
					return
				}
				nc, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\n\r\n")
				nc.Close()
			})
			var fields struct{ A int }
			var list []int
			for _, into := range []any{&fields, &list, new(healthpb.HealthCheckResponse)} {
				err := ask(t.Context(), c, "a.B/Delete", map[string]string{"id": "7"}, into)
				if (err == nil) != (tt.want == status.OK) || err != nil && err.Code != tt.want {
					t.Errorf("%T: %v, want %v", into, err, tt.want)
				}
				if tt.end {
					break // its connection is gone
				}
			}
		})
	}
}

// TestJoinedValues: binary metadata whose values a proxy has joined by commas, as it may, is what it was.
func TestJoinedValues(t *testing.T) {
	c := foreign(t, httptransport.Options{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Bin", "aGk, %, eW8=")
		w.Header().Set("X-Text", "a, b")
		_, _ = io.WriteString(w, "{}")
	})
	var out struct{}
	rep := transport.Reply{Message: &out}
	if e := c.Call(t.Context(), &transport.Request{Method: "a.B/C", Codec: codec.JSON{}, Message: struct{}{}, PathAttempt: 1,
		Deadline: policy.Now().Add(20 * time.Second)}, &rep); e != nil {
		t.Fatal(e)
	}
	want := transport.Metadata{{Key: "x-bin", Value: "hi"}, {Key: "x-bin", Value: "yo"}, {Key: "x-text", Value: "a, b"}}
	if !slices.Equal(rep.Header, want) {
		t.Errorf("%v, want %v", rep.Header, want)
	}
}

// TestZone is a server at an IPv6 address with a zone, which no URL may have.
func TestZone(t *testing.T) {
	var called string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		called = r.Host
		_, _ = io.WriteString(w, "{}")
	}))
	defer srv.Close()
	const addr = "[fe80::1%eth0]:80"
	d, err := httptransport.NewDialer(httptransport.Options{Dial: func(ctx context.Context, to string) (net.Conn, error) {
		if to != addr {
			t.Errorf("dials %s, want %s", to, addr)
		}
		return new(net.Dialer).DialContext(ctx, "tcp", srv.Listener.Addr().String())
	}})
	if err != nil {
		t.Fatal(err)
	}
	c, e := d.Prove(t.Context(), addr)
	if e != nil {
		t.Fatal(e)
	}
	defer c.Close()
	var out struct{}
	if e := ask(t.Context(), c, "a.B/C", struct{}{}, &out); e != nil {
		t.Fatal(e)
	}
	if called != "[fe80::1]:80" {
		t.Errorf("the server is called %q", called)
	}
}

// TestRoutes is how messages become requests.
func TestRoutes(t *testing.T) {
	type message struct {
		ID    string   `json:"id,omitempty"`
		Limit int      `json:"limit,omitempty"`
		Tags  []string `json:"tags,omitempty"`
		Deep  any      `json:"deep,omitempty"`
	}
	tests := []struct {
		name  string
		route httptransport.Route
		msg   message
		want  string // verb, target and body
		code  status.Code
	}{
		{"plain", httptransport.Route{Path: "/v1/users"}, message{ID: "7"}, `POST /v1/users {"id":"7"}`, status.OK},
		{"get", httptransport.Route{Verb: "GET", Path: "/v1/users/{id}"}, message{ID: "a/b c", Limit: 3, Tags: []string{"x", "y&z"}},
			`GET /v1/users/a%2Fb%20c?limit=3&tags=x&tags=y%26z `, status.OK},
		{"put", httptransport.Route{Verb: "PUT", Path: "/v1/users/{id}/tags"}, message{ID: "7", Tags: []string{"x"}}, `PUT /v1/users/7/tags {"tags":["x"]}`, status.OK},
		{"delete", httptransport.Route{Verb: "DELETE", Path: "/v1/users/{id}"}, message{ID: "7"}, `DELETE /v1/users/7 `, status.OK},
		{"dots in a name", httptransport.Route{Path: "/v1/users/{id}"}, message{ID: "..a"}, `POST /v1/users/..a {}`, status.OK},
		{"out of the path", httptransport.Route{Verb: "DELETE", Path: "/v1/users/{id}"}, message{ID: ".."}, "", status.InvalidArgument},
		{"on the path", httptransport.Route{Verb: "GET", Path: "/v1/users/{id}/x"}, message{ID: "."}, "", status.InvalidArgument},
		{"field missing", httptransport.Route{Path: "/v1/users/{id}"}, message{}, "", status.InvalidArgument},
		{"field too deep", httptransport.Route{Verb: "GET", Path: "/v1/users"}, message{Deep: map[string]int{"a": 1}}, "", status.InvalidArgument},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := httptransport.Options{Routes: map[string]httptransport.Route{"a.B/C": tt.route}}
			c := foreign(t, o, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				_ = json.NewEncoder(w).Encode(r.Method + " " + r.RequestURI + " " + string(body))
			})
			var got string
			err := ask(t.Context(), c, "a.B/C", tt.msg, &got)
			if tt.code != status.OK {
				if err == nil || err.Code != tt.code || err.Fate != status.NotSent {
					t.Errorf("%v, want %v", err, tt.code)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestBadOptions(t *testing.T) {
	route := func(verb, path string) httptransport.Options {
		return httptransport.Options{Routes: map[string]httptransport.Route{"a.B/C": {Verb: verb, Path: path}}}
	}
	for want, o := range map[string]httptransport.Options{
		"MaxMessage": {MaxMessage: -1}, "IdleTime": {IdleTime: -1}, "verb": route("FETCH", "/"), "slash": route("GET", "users"),
		"placeholder": route("GET", "/{id"), "fragment": route("GET", "/a?b"), "is {name}": route("GET", "/{}"),
	} {
		if _, err := httptransport.NewDialer(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestClosing is a server that closes each connection after its answer: that is no loss.
func TestClosing(t *testing.T) {
	c := foreign(t, httptransport.Options{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		fmt.Fprint(w, `1`)
	})
	for range 5 {
		var n int
		if err := ask(t.Context(), c, "a.B/C", 0, &n); err != nil {
			t.Fatal(err)
		}
	}
	if !c.Usable() {
		t.Error("not usable any more")
	}
}

// TestUnix is a server behind a Unix socket.
func TestUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%q", r.Host) }))
	srv.Listener.Close()
	srv.Listener = ln
	srv.Start()
	defer srv.Close()
	d, err := httptransport.NewDialer(httptransport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, e := d.Dial(t.Context(), "unix://"+path)
	if e != nil {
		t.Fatal(e)
	}
	defer c.Close()
	var host string
	if err := ask(t.Context(), c, "a.B/C", 0, &host); err != nil || host != "localhost" {
		t.Errorf("%q, %v", host, err)
	}
}

// TestInvalidMetadata is nobody's fault but the caller's.
func TestInvalidMetadata(t *testing.T) {
	c := foreign(t, httptransport.Options{}, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `1`) })
	err := c.Call(t.Context(), &transport.Request{Method: "a.B/C", Codec: codec.JSON{}, Message: 1, Metadata: transport.Metadata{{Key: "a", Value: "b\nc"}}},
		&transport.Reply{Message: new(int)})
	if err == nil || err.Kind != status.Refused || err.Fate != status.NotSent || !c.Usable() {
		t.Errorf("%+v, usable %v", err, c.Usable())
	}
}

// TestPassedOnMetadata is a handler that passes on all that it was sent: what belongs to HTTP itself stays behind.
func TestPassedOnMetadata(t *testing.T) {
	c := foreign(t, httptransport.Options{}, func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(r.Header.Get("X-Mine") + r.Header.Get("Accept-Encoding") + r.Header.Get("Upgrade"))
	})
	var got string
	err := c.Call(t.Context(), &transport.Request{Method: "a.B/C", Codec: codec.JSON{}, Message: 1, Metadata: transport.Metadata{{Key: ":authority", Value: "a"},
		{Key: "x-mine", Value: "1"}, {Key: "accept-encoding", Value: "br"}, {Key: "connection", Value: "upgrade"}, {Key: "upgrade", Value: "x"}}}, &transport.Reply{Message: &got})
	if err != nil || got != "1gzip" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestFarDeadline is a deadline that is further away than can be said.
func TestFarDeadline(t *testing.T) {
	c := foreign(t, httptransport.Options{}, func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%q", r.Header.Get("Connect-Timeout-Ms")) })
	var got string
	err := c.Call(t.Context(), &transport.Request{Method: "a.B/C", Codec: codec.JSON{}, Message: 1, Deadline: policy.Now().Add(365 * 24 * time.Hour)}, &transport.Reply{Message: &got})
	if err != nil || got != "9999999999" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestGivenUpBeforeWriting is a call whose context ends while net/http is about to write it, which HTTP/2 may do after the call has returned.
func TestGivenUpBeforeWriting(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name string
		ctx  context.Context //nolint:containedctx // of the case
		came func(*httptrace.ClientTrace)
		want bool
	}{
		{"waits for a connection", ended, func(tr *httptrace.ClientTrace) { tr.GetConn("") }, false},
		{"has a connection", ended, func(tr *httptrace.ClientTrace) { tr.GotConn(httptrace.GotConnInfo{}) }, true},
		{"lost a connection", t.Context(), func(tr *httptrace.ClientTrace) { tr.GotConn(httptrace.GotConnInfo{}) }, false},
		{"wrote", t.Context(), func(tr *httptrace.ClientTrace) { tr.WroteHeaderField("", nil) }, true},
	}
	for _, tt := range tests {
		if got := httptransport.MaybeSent(tt.ctx, tt.came); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func FuzzErrorBody(f *testing.F) {
	f.Add(404, `{"code":"not_found","message":"m","details":[{"type":"a.B","value":"AQ"}]}`, "1", "shed")
	f.Add(503, `{"code":7}`, "Sat, 21 Nov 2026 12:00:03 GMT", "")
	f.Fuzz(func(t *testing.T, code int, body, after, kind string) {
		if code < 300 || code > 999 {
			return
		}
		e := httptransport.Failed(&http.Response{StatusCode: code, Header: http.Header{"Retry-After": {after}, "Hull-Kind": {kind}}}, []byte(body))
		if e == nil || e.Code == status.OK || !e.Code.Valid() {
			t.Errorf("%+v", e)
		}
	})
}
