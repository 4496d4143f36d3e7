package muxtransport

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hull-go/hull/transport/memnet"
)

// A client learns which instance it has reached before its first call.
func TestInstance(t *testing.T) {
	long := strings.Repeat("x", maxInstance)
	for _, tt := range []struct {
		says func() string
		want string
	}{
		{nil, ""},
		{func() string { return "" }, ""},
		{func() string { return "greeter/a1" }, "greeter/a1"},
		{func() string { return long }, long},
		{func() string { return long + "x" }, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, drainHandler{}, Options{Instance: tt.says}, memnet.Options{})
			defer r.stop()
			c := r.dial(t, Options{})
			defer c.Close()
			if got := c.Instance(); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
