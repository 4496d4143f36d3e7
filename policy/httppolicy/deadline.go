package httppolicy

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers in which a deadline travels, as the time that is left.
const (
	// HeaderGRPC holds a number of at most eight digits and a unit: H, M, S, m, u or n.
	HeaderGRPC = "Grpc-Timeout"
	// HeaderEnvoy holds milliseconds; 0 = no deadline.
	HeaderEnvoy = "X-Envoy-Upstream-Rq-Timeout-Ms"
	// HeaderConnect holds milliseconds, at most ten digits.
	HeaderConnect = "Connect-Timeout-Ms"
)

const (
	headerOverloaded  = "X-Envoy-Overloaded"
	headerRatelimited = "X-Envoy-Ratelimited"
)

// Timeout returns the least time that the headers give a request, and false if they give none. What cannot be read is
// overlooked.
func Timeout(h http.Header) (time.Duration, bool) {
	left, ok := time.Duration(math.MaxInt64), false
	take := func(d time.Duration, valid bool) {
		if valid {
			left, ok = min(left, d), true
		}
	}
	take(parseGRPC(h.Get(HeaderGRPC)))
	take(parseMillis(h.Get(HeaderConnect)))
	if d, valid := parseMillis(h.Get(HeaderEnvoy)); d > 0 {
		take(d, valid)
	}
	if !ok {
		return 0, false
	}
	return left, true
}

func parseMillis(s string) (time.Duration, bool) {
	if len(s) > 10 || !digits(s) {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return time.Duration(n) * time.Millisecond, err == nil
}

// grpcUnits are the units of grpc-timeout.
var grpcUnits = [...]struct {
	letter byte
	unit   time.Duration
}{{'n', time.Nanosecond}, {'u', time.Microsecond}, {'m', time.Millisecond}, {'S', time.Second}, {'M', time.Minute}, {'H', time.Hour}}

const grpcMax = 99_999_999

func parseGRPC(s string) (time.Duration, bool) {
	if len(s) < 2 || len(s) > 9 || !digits(s[:len(s)-1]) {
		return 0, false
	}
	n, err := strconv.ParseInt(s[:len(s)-1], 10, 64)
	for _, u := range grpcUnits {
		if u.letter == s[len(s)-1] {
			if n > int64(math.MaxInt64/u.unit) {
				return math.MaxInt64, true
			}
			return time.Duration(n) * u.unit, err == nil
		}
	}
	return 0, false
}

// formatTimeout writes what is left in the form of the header named, rounded down, but not to nothing: that would say that it is
// too late already.
func formatTimeout(name string, left time.Duration) string {
	if !strings.EqualFold(name, HeaderGRPC) {
		return strconv.FormatInt(max(left.Milliseconds(), 1), 10)
	}
	for _, u := range grpcUnits[1:] {
		if n := left / u.unit; n <= grpcMax {
			return strconv.FormatInt(max(int64(n), 1), 10) + string(u.letter)
		}
	}
	return "99999999H"
}
