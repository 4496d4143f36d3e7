package transport_test

import (
	"testing"

	"github.com/hull-go/hull/transport"
)

func TestLoad(t *testing.T) {
	for _, n := range []uint32{0, 1, 8, 1 << 31} {
		md := transport.AppendLoad(nil, transport.Load{InFlight: n}, transport.LoadText)
		if got := transport.ReadLoad(md.Get); got.InFlight != n {
			t.Errorf("%d became %v, then %d", n, md, got.InFlight)
		}
	}
	for text, want := range map[string]uint32{
		"": 0, "TEXT": 0, "TEXT cpu_utilization=0.3": 0, "JSON {}": 0,
		"TEXT cpu_utilization=0.3, named_metrics.in_flight=4.0": 5,
		"TEXT named_metrics.in_flight=-1":                       0,
		"TEXT named_metrics.in_flight=NaN":                      0,
		"TEXT named_metrics.in_flight=1e99":                     0,
		"TEXT named_metrics.in_flight":                          0,
	} {
		if got := transport.ReadLoad(func(string) string { return text }); got.InFlight != want {
			t.Errorf("%q: %d, want %d", text, got.InFlight, want)
		}
	}
}

// TestLoadFormats is that a caller gets the form that it asked for, and one who did not ask nothing.
func TestLoadFormats(t *testing.T) {
	l := transport.Load{InFlight: 6}
	for _, format := range []string{"", "JSON", "text"} {
		if md := transport.AppendLoad(nil, l, format); len(md) != 0 {
			t.Errorf("%q: %v", format, md)
		}
	}
	// named_metrics {key: "in_flight" value: 5}, as protoc encodes it.
	const want = "\x42\x14\x0a\x09in_flight\x11\x00\x00\x00\x00\x00\x00\x14\x40"
	if got := transport.AppendLoad(nil, l, transport.LoadBinary).Get(transport.HeaderLoadBinary); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzReadLoad(f *testing.F) {
	f.Add("TEXT named_metrics.in_flight=4")
	f.Add("TEXT a=1,named_metrics.in_flight=9.5, b")
	f.Fuzz(func(t *testing.T, s string) {
		l := transport.ReadLoad(func(string) string { return s })
		md := transport.AppendLoad(nil, l, transport.LoadText)
		if got := transport.ReadLoad(md.Get); got != l {
			t.Errorf("%q: %v became %v", s, l, got)
		}
	})
}
