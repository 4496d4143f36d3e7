package httppolicy

import (
	"fmt"
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

func TestStatus(t *testing.T) {
	after := http.Header{"Retry-After": {"0"}}
	tests := []struct {
		code int
		h    http.Header
		want policy.Class
	}{
		{101, nil, policy.ClassOK}, {200, nil, policy.ClassOK}, {206, nil, policy.ClassOK}, {302, nil, policy.ClassOK}, {304, nil, policy.ClassOK},
		{400, nil, policy.ClassCaller}, {401, nil, policy.ClassCaller}, {403, nil, policy.ClassCaller}, {404, nil, policy.ClassCaller},
		{407, nil, policy.ClassCaller}, {409, nil, policy.ClassCaller}, {410, nil, policy.ClassCaller}, {412, nil, policy.ClassCaller},
		{413, nil, policy.ClassCaller}, {416, nil, policy.ClassCaller}, {418, nil, policy.ClassCaller}, {451, nil, policy.ClassCaller},
		{408, nil, policy.ClassUnavailable}, {421, nil, policy.ClassDraining}, {425, nil, policy.ClassDraining},
		{429, nil, policy.ClassOverloaded}, {429, after, policy.ClassOverloaded},
		{500, nil, policy.ClassInternal}, {500, after, policy.ClassInternal}, {505, nil, policy.ClassInternal}, {599, nil, policy.ClassInternal},
		{501, nil, policy.ClassNoMethod}, {502, nil, policy.ClassUnavailable}, {504, nil, policy.ClassUnavailable},
		{503, nil, policy.ClassUnavailable}, {503, after, policy.ClassOverloaded},
		{503, http.Header{"X-Envoy-Overloaded": {"true"}}, policy.ClassOverloaded},
	}
	for _, tt := range tests {
		var err error
		if e := Status(&http.Response{StatusCode: tt.code, Header: tt.h}); e != nil {
			err = e
		}
		if got := policy.Classify(err); got != tt.want {
			t.Errorf("%d %v: %v, want %v", tt.code, tt.h, got, tt.want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		s, date string
		want    time.Duration
		told    bool
	}{
		{"", "", 0, false},
		{"  ", "", 0, false},
		{"0", "", 0, true},
		{"120", "", 2 * time.Minute, true},
		{" 7 ", "", 7 * time.Second, true},
		{"99999999999", "", math.MaxInt64, true},
		{"99999999999999999999999", "", math.MaxInt64, true},
		{"-1", "", -1, true},
		{"1.5", "", -1, true},
		{"later", "", -1, true},
		{"Sun, 01 Mar 2026 12:00:30 GMT", "", 30 * time.Second, true},
		{"Sunday, 01-Mar-26 12:00:30 GMT", "", 30 * time.Second, true},
		{"Sun Mar  1 12:00:30 2026", "", 30 * time.Second, true},
		{"Sun, 01 Mar 2026 11:00:00 GMT", "", 0, true},
		{"Sun, 01 Mar 2026 11:00:05 GMT", "Sun, 01 Mar 2026 11:00:00 GMT", 5 * time.Second, true},
	}
	for _, tt := range tests {
		got, told := RetryAfter(http.Header{"Retry-After": {tt.s}, "Date": {tt.date}}, now)
		if got != tt.want || told != tt.told {
			t.Errorf("%q: %v, %v, want %v, %v", tt.s, got, told, tt.want, tt.told)
		}
	}
}

func TestFormatTimeout(t *testing.T) {
	tests := []struct {
		name string
		left time.Duration
		want string
	}{
		{HeaderGRPC, 1500 * time.Millisecond, "1500000u"},
		{"grpc-timeout", 500, "1u"},
		{HeaderGRPC, 99_999_999 * time.Microsecond, "99999999u"},
		{HeaderGRPC, 100 * time.Second, "100000m"},
		{HeaderGRPC, 200_000 * time.Second, "200000S"},
		{HeaderGRPC, math.MaxInt64, "2562047H"},
		{HeaderEnvoy, 1500 * time.Millisecond, "1500"},
		{HeaderEnvoy, 0, "1"},
		{HeaderConnect, -5, "1"},
	}
	for _, tt := range tests {
		if got := formatTimeout(tt.name, tt.left); got != tt.want {
			t.Errorf("%s %v: %q, want %q", tt.name, tt.left, got, tt.want)
		}
	}
}

// FuzzTimeout reads deadlines and writes what it read: that is the same, but for rounding down.
func FuzzTimeout(f *testing.F) {
	for _, s := range []string{"1S", "99999999H", "0n", "1500m", "", "-1S", "1", "123456789S", "7x"} {
		f.Add(s, "250", "0")
	}
	f.Fuzz(func(t *testing.T, grpc, connect, envoy string) {
		h := http.Header{HeaderGRPC: {grpc}, HeaderConnect: {connect}, HeaderEnvoy: {envoy}}
		d, ok := Timeout(h)
		if !ok {
			return
		}
		if d < 0 {
			t.Fatalf("negative: %v", d)
		}
		for _, name := range []string{HeaderGRPC, HeaderConnect, HeaderEnvoy} {
			s := formatTimeout(name, d)
			again, ok := Timeout(http.Header{name: {s}})
			if name == HeaderGRPC && !ok || ok && d >= time.Millisecond && (again > d || again < d-d/1000-time.Millisecond) && d < 2562047*time.Hour {
				t.Fatalf("%s: %v became %q, which is %v, %v", name, d, s, again, ok)
			}
		}
	})
}

// FuzzRetryAfter never waits less than nothing, but for saying no.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"1", "Sun, 01 Mar 2026 12:00:30 GMT", "-1", "99999999999999999999", ""} {
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, s, date string) {
		d, told := RetryAfter(http.Header{"Retry-After": {s}, "Date": {date}}, time.Unix(1e9, 0))
		if d < -1 || !told && d != 0 {
			t.Fatalf("%q: %v, %v", s, d, told)
		}
	})
}

// h2Error lets itself be read as net/http's HTTP/2 stream errors do.
type h2Error uint32

func (h2Error) Error() string { return "stream error" }

func (e h2Error) As(target any) bool {
	s, ok := target.(*streamError)
	if ok {
		s.Code = uint32(e)
	}
	return ok
}

func TestRefusedStream(t *testing.T) {
	for code, want := range map[h2Error]bool{2: false, 7: true, 8: false} {
		if got := refusedStream(fmt.Errorf("wrapped: %w", code)); got != want {
			t.Errorf("code %d: %v", uint32(code), got)
		}
	}
}
