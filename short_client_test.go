package hull_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/status"
)

// TestShortLivedClients are programs that make one call and are gone: what they call wrongly they are told within a second, and how to do it right. The
// bubble fails if a goroutine is left.
func TestShortLivedClients(t *testing.T) {
	for name, tt := range map[string]struct {
		service, method string
		down            bool // the registry
		code            status.Code
		want            string
	}{
		"all is well":              {service: "greeter", method: greet},
		"a service nearly so":      {service: "greter", method: greet, code: status.Unavailable, want: "did you mean greeter?"},
		"a service nobody has":     {service: "till", method: greet, code: status.Unavailable, want: "is it running, and registered under this name?"},
		"no name":                  {method: greet, code: status.InvalidArgument, want: "empty service"},
		"a method nearly so":       {service: "greeter", method: "greeter.Greeter/Helo", code: status.Unimplemented, want: "did you mean greeter.Greeter/Hello?"},
		"an address for a service": {service: "10.0.0.7:80", method: greet, code: status.Unavailable, want: "hull://10.0.0.7:80, grpc://10.0.0.7:80 or http://10.0.0.7:80"},
		"nobody at an address":     {service: "hull://a:81", method: greet, code: status.Unavailable, want: "connection refused"},
		"no registry":              {service: "greeter", method: greet, down: true, code: status.Unavailable, want: "the engine is down"},
		"an address needs none":    {service: "hull://a:80", method: greet, down: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				w.Serve("greeter", "a", greeter)
				w.Registry.SetDown(tt.down)
				c := w.Client("tool")
				began := time.Now()
				_, err := hull.Call[helloReply](t.Context(), c.To(tt.service), tt.method, &helloRequest{Name: "Ada"})
				if took := time.Since(began); took > time.Second {
					t.Errorf("it took %v", took)
				}
				if status.CodeOf(err) != tt.code || err != nil && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%v, want %v and %q", err, tt.code, tt.want)
				}
				if err := c.Close(); err != nil {
					t.Error(err)
				}
				w.Registry.SetDown(false)
			})
		})
	}
}
