package hull_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/hulltest"
)

// TestGRPCWebAsText: base64 goes in and comes out, for one message, many, and errors.
func TestGRPCWebAsText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, &impl{}) })
		for _, tt := range []struct {
			method string
			req    proto.Message
			want   []string
		}{
			{"Hello", &pb.HelloRequest{Name: "Ada"}, []string{"Hello, Ada", "grpc-status: 0"}},
			{"Hello", &pb.HelloRequest{Name: strings.Repeat("x", 200_000)}, []string{strings.Repeat("x", 200_000), "grpc-status: 0"}},
			{"Count", &pb.CountRequest{UpTo: 3}, []string{"\x00\x00\x00\x00\x02\x08\x02", "\x08\x03", "grpc-status: 0"}},
		} {
			msg, err := proto.Marshal(tt.req)
			if err != nil {
				t.Fatal(err)
			}
			for _, h2 := range []bool{false, true} {
				for _, ct := range []string{"application/grpc-web-text", "application/grpc-web-text+proto"} {
					res, body := post(t, dialHTTP(t, w, h2), "/greeter.Greeter/"+tt.method, base64.StdEncoding.EncodeToString([]byte(enveloped(msg))), "Content-Type", ct)
					got := untexted(t, body)
					for _, want := range tt.want {
						if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != ct || !strings.Contains(got, want) {
							t.Errorf("%s of %s: %s %v %.200q", ct, tt.method, res.Status, res.Header, got)
						}
					}
				}
			}
		}
		// A method that is not served, and an origin that is not allowed, were answered as JSON.
		for path, want := range map[string]string{"/greeter.Greeter/Helo": "12", "/greeter.Greeter/Hello": "7"} {
			res, body := post(t, dialHTTP(t, w, false), path, base64.StdEncoding.EncodeToString([]byte(enveloped(nil))),
				"Content-Type", "application/grpc-web-text", "Origin", map[string]string{"7": "http://evil.example"}[want])
			if got := untexted(t, body) + "grpc-status: " + res.Header.Get("Grpc-Status"); res.StatusCode != http.StatusOK || !strings.Contains(got, "grpc-status: "+want) {
				t.Errorf("%s: %s %v %q", path, res.Status, res.Header, got)
			}
		}
		res, body := post(t, dialHTTP(t, w, false), "/greeter.Greeter/Hello", "no base64!", "Content-Type", "application/grpc-web-text")
		if got := untexted(t, body) + res.Header.Get("Grpc-Status"); got == "" || strings.Contains(got, "grpc-status: 0") {
			t.Errorf("%s %v %q", res.Status, res.Header, got)
		}
	})
}

// untexted decodes pieces of base64, each with its own padding.
func untexted(t *testing.T, s string) string {
	t.Helper()
	var out []byte
	for ; len(s) >= 4; s = s[4:] {
		b, err := base64.StdEncoding.DecodeString(s[:4])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return string(out)
}
