package httppolicy

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hull-go/hull/internal/hop"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// Status says what a response means, as the package comment lists it; nil = no failure. The caller's own mistakes (4xx) are
// not nil, but policies do not hold them against the server.
func Status(r *http.Response) *status.Error {
	return statusOf(r.StatusCode, r.Header, policy.Now().Clock())
}

func statusOf(code int, h http.Header, now time.Time) *status.Error {
	if code < 400 {
		return nil
	}
	e := &status.Error{Fate: status.Processed, Message: "HTTP " + strconv.Itoa(code) + " " + http.StatusText(code)}
	after, told := RetryAfter(h, now)
	e.Pushback = after
	switch code {
	case http.StatusRequestTimeout:
		e.Code, e.Fate = status.Unavailable, status.Maybe
	case http.StatusMisdirectedRequest, http.StatusTooEarly:
		e.Code, e.Kind, e.Fate = status.Unavailable, status.Draining, status.NotSent
	case http.StatusTooManyRequests:
		e.Code = status.ResourceExhausted
	case http.StatusServiceUnavailable:
		e.Code = status.Unavailable
		if told || h.Get(headerOverloaded) != "" {
			e.Code = status.ResourceExhausted
		}
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		e.Code = status.Unavailable
	case http.StatusNotImplemented:
		e.Code, e.Kind = status.Unimplemented, status.NoMethod
	case http.StatusUnauthorized, http.StatusProxyAuthRequired:
		e.Code = status.Unauthenticated
	case http.StatusForbidden:
		e.Code = status.PermissionDenied
	case http.StatusNotFound, http.StatusGone:
		e.Code = status.NotFound
	case http.StatusPreconditionFailed, http.StatusConflict:
		e.Code = status.FailedPrecondition
	case http.StatusRequestedRangeNotSatisfiable:
		e.Code = status.OutOfRange
	default:
		e.Code = status.InvalidArgument
		if code >= 500 {
			e.Code = status.Internal
		}
	}
	if code >= 500 {
		e.Origin = hop.ParseOrigin(h.Get(hop.Origin))
	}
	return e
}

// RetryAfter reads the Retry-After header: a number of seconds, or a date, which counts from the response's own Date if it
// has one, since clocks differ. told reports that the header is there. 0 means at once, or not told; negative, that the header
// cannot be read, so that one should better stay away.
func RetryAfter(h http.Header, now time.Time) (after time.Duration, told bool) {
	s := strings.TrimSpace(h.Get("Retry-After"))
	if s == "" {
		return 0, false
	}
	if digits(s) {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n > int64(math.MaxInt64/time.Second) {
			return math.MaxInt64, true
		}
		return time.Duration(n) * time.Second, true
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return -1, true
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return max(at.Sub(now), 0), true
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
