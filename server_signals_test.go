package hull

import (
	"os"
	"path/filepath"
	"runtime/metrics"
	"testing"
	"time"
)

func TestControlGroup(t *testing.T) {
	mount := t.TempDir()
	dir := filepath.Join(mount, "system.slice", "greeter.service")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(dir, name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(dir, "cpu.stat", "usage_usec 5\nnr_periods 100\nnr_throttled 40\nthrottled_usec 9\n")
	for text, want := range map[string]string{
		"0::/system.slice/greeter.service\n":                 dir,
		"9:name=systemd:/\n0::/system.slice/greeter.service": dir,
		"0::/../../../etc\n":                                 "",
		"1:cpu:/x\n":                                         "",
		"":                                                   "",
	} {
		if got := groupDir([]byte(text), mount); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	was := parseThrottling([]byte("nr_periods 90\nnr_throttled 38"))
	b, err := os.ReadFile(filepath.Join(dir, "cpu.stat"))
	if err != nil {
		t.Fatal(err)
	}
	now := parseThrottling(b)
	if got := now.since(was); got != 0.2 || was.since(now) != 0 || now.since(now) != 0 {
		t.Errorf("throttled in %v of the slices", got)
	}

	if _, ok := groupMemory(dir); ok {
		t.Error("no files, and yet a share")
	}
	write(dir, "memory.max", "max\n")
	write(dir, "memory.current", "800\n")
	if _, ok := groupMemory(dir); ok {
		t.Error("no limit, and yet a share")
	}
	write(dir, "memory.max", "1000\n")
	if got, ok := groupMemory(dir); !ok || got != 0.8 {
		t.Error(got, ok)
	}
	write(dir, "memory.stat", "anon 1\ninactive_file 300\nactive_file 7\n")
	if got, ok := groupMemory(dir); !ok || got != 0.5 {
		t.Error(got, ok)
	}
}

func TestLag(t *testing.T) {
	g := &gauge{}
	h := &metrics.Float64Histogram{Buckets: []float64{0, 1e-6, 1e-3, 1e-2, 1}, Counts: []uint64{1000, 0, 0, 0}}
	for i, tt := range []struct {
		add  [4]uint64
		want time.Duration
	}{
		{[4]uint64{}, 0}, // nothing to compare with
		{[4]uint64{0, 0, 0, 10}, 0},
		{[4]uint64{95, 0, 0, 5}, 0},
		{[4]uint64{50, 0, 50, 0}, time.Millisecond},
		{[4]uint64{0, 0, 20, 80}, 10 * time.Millisecond},
		{[4]uint64{}, 0},
	} {
		for k, n := range tt.add {
			h.Counts[k] += n
		}
		if got := g.lag(h); got != tt.want {
			t.Errorf("reading %d: %v, want %v", i, got, tt.want)
		}
	}
}

// What is measured of this process makes sense, whatever it runs in.
func TestGauge(t *testing.T) {
	g := newGauge()
	for range 3 {
		if s := g.read(); s.Lag < 0 || s.Lag > time.Hour || s.Throttled < 0 || s.Throttled > 1 || s.Memory < 0 || s.Memory > 10 {
			t.Errorf("%+v", s)
		}
	}
}

func TestTraceHash(t *testing.T) {
	for text, want := range map[string]uint64{
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": 0xa3ce929d0e0e4736,
		"00-4bf92f3577b34da6A3ce929d0e0e4736-00f067aa0ba902b7-01": 0,
		"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": 0,
		"00-4bf92f3577b34da6a3ce929d0e0e4736":                     0,
		"":                                                        0,
	} {
		if got := traceHash(text); got != want {
			t.Errorf("%q: %x, want %x", text, got, want)
		}
	}
}

func FuzzStatField(f *testing.F) {
	f.Add([]byte("nr_periods 100\nnr_throttled 40\n"), "nr_periods")
	f.Add([]byte("a"), "")
	f.Fuzz(func(_ *testing.T, b []byte, name string) {
		statField(b, name)
		parseThrottling(b)
		traceHash(string(b))
	})
}
