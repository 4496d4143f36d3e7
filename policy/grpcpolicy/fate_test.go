package grpcpolicy

import (
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
)

// FuzzPushback never waits longer than allowed, and never less than nothing but for staying away.
func FuzzPushback(f *testing.F) {
	for _, s := range []string{"0", "1000", "-1", "soon", "", "9223372036854775807", "-9223372036854775808", "60000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d := pushback(metadata.Pairs(keyPushback, s), time.Second); d > time.Second {
			t.Fatalf("%q: %v", s, d)
		}
	})
}

func TestPushback(t *testing.T) {
	for _, tt := range []struct {
		values []string
		want   time.Duration
	}{
		{nil, 0}, {[]string{"0"}, 0}, {[]string{"20"}, 20 * time.Millisecond}, {[]string{"1001"}, -1}, {[]string{"-1"}, -1},
		{[]string{"-9223372036854"}, -1}, {[]string{"x"}, -1}, {[]string{""}, -1}, {[]string{"1", "2"}, -1},
	} {
		if got := pushback(metadata.MD{keyPushback: tt.values}, time.Second); got != tt.want {
			t.Errorf("%q: %v, want %v", tt.values, got, tt.want)
		}
	}
}
