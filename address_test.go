package hull

import (
	"net"
	"testing"
)

// TestOwnAddress is which of a machine's addresses a server on all of them publishes.
func TestOwnAddress(t *testing.T) {
	for _, tt := range []struct {
		addrs []string
		six   bool // it listens on version 6 too
		want  string
	}{
		{nil, true, "127.0.0.1"},
		{[]string{"127.0.0.1/8", "::1/128"}, true, "127.0.0.1"},
		{[]string{"127.0.0.1/8", "fe80::1/64", "fd00::1/64", "2001:db8::1/64"}, true, "fd00::1"},
		{[]string{"127.0.0.1/8", "fd00::1/64"}, false, "127.0.0.1"},
		{[]string{"fd00::1/64", "169.254.1.1/16", "10.0.0.7/8"}, true, "10.0.0.7"},
		{[]string{"fd00::1/64", "10.0.0.7/8", "10.0.0.8/8"}, false, "10.0.0.7"},
	} {
		var addrs []net.Addr
		for _, a := range tt.addrs {
			ip, n, err := net.ParseCIDR(a)
			if err != nil {
				t.Fatal(err)
			}
			addrs = append(addrs, &net.IPNet{IP: ip, Mask: n.Mask})
		}
		if got := ownAddress(addrs, tt.six); got != tt.want {
			t.Errorf("%v, %v: %s, want %s", tt.addrs, tt.six, got, tt.want)
		}
	}
}
