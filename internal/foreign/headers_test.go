package foreign_test

import (
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull/internal/foreign"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

func TestTimeout(t *testing.T) {
	tests := []struct {
		header http.Header
		want   time.Duration
		ok     bool
		bad    bool
	}{
		{header: http.Header{}},
		{header: http.Header{"Grpc-Timeout": {"250m"}}, want: 250 * time.Millisecond, ok: true},
		{header: http.Header{"Grpc-Timeout": {"1H"}}, want: time.Hour, ok: true},
		{header: http.Header{"Grpc-Timeout": {"2M"}}, want: 2 * time.Minute, ok: true},
		{header: http.Header{"Grpc-Timeout": {"3u"}}, want: 3 * time.Microsecond, ok: true},
		{header: http.Header{"Grpc-Timeout": {"99999999H"}}, want: math.MaxInt64, ok: true},
		{header: http.Header{"Grpc-Timeout": {"5S"}, "Connect-Timeout-Ms": {"100"}}, want: 100 * time.Millisecond, ok: true},
		{header: http.Header{"X-Envoy-Upstream-Rq-Timeout-Ms": {"7"}, "Grpc-Timeout": {"8n"}}, want: 8, ok: true},
		{header: http.Header{"X-Envoy-Expected-Rq-Timeout-Ms": {"7"}, "X-Envoy-Upstream-Rq-Timeout-Ms": {"9"}}, want: 7 * time.Millisecond, ok: true},
		{header: http.Header{"X-Envoy-Expected-Rq-Timeout-Ms": {"7"}, "Grpc-Timeout": {"3m"}}, want: 3 * time.Millisecond, ok: true},
		{header: http.Header{"X-Envoy-Upstream-Rq-Timeout-Ms": {"0"}}}, // Envoy's word for as long as it takes
		{header: http.Header{"X-Envoy-Expected-Rq-Timeout-Ms": {"0"}, "Connect-Timeout-Ms": {"5"}}, want: 5 * time.Millisecond, ok: true},
		{header: http.Header{"Connect-Timeout-Ms": {"0"}}, ok: true},
		{header: http.Header{"X-Envoy-Expected-Rq-Timeout-Ms": {"soon"}}, bad: true},
		{header: http.Header{"X-Envoy-Upstream-Rq-Timeout-Ms": {""}, "Grpc-Timeout": {"3m"}}, bad: true},
		{header: http.Header{"Grpc-Timeout": {""}}, bad: true},
		{header: http.Header{"Grpc-Timeout": {"S"}}, bad: true},
		{header: http.Header{"Grpc-Timeout": {"-1S"}}, bad: true},
		{header: http.Header{"Grpc-Timeout": {"123456789S"}}, bad: true},
		{header: http.Header{"Grpc-Timeout": {"1d"}}, bad: true},
		{header: http.Header{"Connect-Timeout-Ms": {"1.5"}}, bad: true},
		{header: http.Header{"Connect-Timeout-Ms": {""}}, bad: true},
		{header: http.Header{"Connect-Timeout-Ms": {"12345678901"}}, bad: true},
	}
	for _, tt := range tests {
		d, ok, err := foreign.Timeout(tt.header)
		if d != tt.want || ok != tt.ok || (err != nil) != tt.bad {
			t.Errorf("%v: %v, %v, %v", tt.header, d, ok, err)
		}
		if err != nil && err.Code != status.InvalidArgument {
			t.Errorf("%v: %v", tt.header, err)
		}
		// What Envoy says means the same in gRPC's metadata.
		md, envoy := map[string][]string{}, true
		for k, v := range tt.header {
			md[strings.ToLower(k)], envoy = v, envoy && strings.HasPrefix(k, "X-Envoy")
		}
		if d, ok, gerr := foreign.EnvoyTimeout(md); envoy && (d != tt.want || ok != tt.ok || (gerr != nil) != tt.bad || gerr != nil && gerr.Message != err.Message) {
			t.Errorf("%v in gRPC: %v, %v, %v", tt.header, d, ok, gerr)
		}
	}
}

func TestHeadersThereAndBack(t *testing.T) {
	md := transport.Metadata{{Key: "x-a", Value: "1"}, {Key: "x-a", Value: "2"}, {Key: "x-b-bin", Value: "\x00\xff"}}
	h := http.Header{}
	foreign.AddHeader(h, "", append(md, transport.Field{Key: "content-type", Value: "no"}, transport.Field{Key: ":path", Value: "no"}, transport.Field{}))
	if len(h) != 2 {
		t.Errorf("%v", h)
	}
	h.Set("Content-Length", "7")
	h.Set("X-Bad-Bin", "%%%")
	got := foreign.FromHeader(h, "host")
	seen := map[string]string{}
	for _, f := range got {
		seen[f.Key] += f.Value
	}
	want := map[string]string{"x-a": "12", "x-b-bin": "\x00\xff", ":authority": "host"}
	if len(seen) != len(want) {
		t.Errorf("%q", seen)
	}
	for k, v := range want {
		if seen[k] != v {
			t.Errorf("%s: %q, want %q", k, seen[k], v)
		}
	}
}
