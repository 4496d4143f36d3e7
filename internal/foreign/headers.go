package foreign

import (
	"encoding/base64"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// The headers that say how long the caller waits, in the form that http.Header has them in.
const (
	headerGRPCTimeout    = "Grpc-Timeout"
	headerConnectTimeout = "Connect-Timeout-Ms"
	headerEnvoyTimeout   = "X-Envoy-Upstream-Rq-Timeout-Ms"
	headerEnvoyExpected  = "X-Envoy-Expected-Rq-Timeout-Ms"
)

// The headers in which Envoy is told, and says itself, how long it waits, as gRPC spells them.
const (
	envoyTimeout  = "x-envoy-upstream-rq-timeout-ms"
	envoyExpected = "x-envoy-expected-rq-timeout-ms"
)

// Timeout reads how long the caller waits from a request's headers; the shortest if several say so.
func Timeout(h http.Header) (time.Duration, bool, *status.Error) {
	var l least
	l.read(headerGRPCTimeout, h[headerGRPCTimeout], parseGRPCTimeout, false)
	l.read(headerConnectTimeout, h[headerConnectTimeout], parseMillis, false)
	l.read(headerEnvoyTimeout, h[headerEnvoyTimeout], parseMillis, true)
	l.read(headerEnvoyExpected, h[headerEnvoyExpected], parseMillis, true)
	return l.result()
}

// EnvoyTimeout reads how long Envoy waits from gRPC's metadata, in which keys are in lower case.
func EnvoyTimeout(md map[string][]string) (time.Duration, bool, *status.Error) {
	var l least
	l.read(envoyTimeout, md[envoyTimeout], parseMillis, true)
	l.read(envoyExpected, md[envoyExpected], parseMillis, true)
	return l.result()
}

// least is the least of several timeouts.
type least struct {
	d   time.Duration
	ok  bool
	err *status.Error
}

// read takes a header into account. never = its 0 means that there is no timeout.
func (l *least) read(key string, values []string, parse func(string) (time.Duration, bool), never bool) {
	if len(values) == 0 || l.err != nil {
		return
	}
	d, good := parse(values[0])
	switch {
	case !good:
		l.err = &status.Error{Code: status.InvalidArgument, Fate: status.Processed,
			Message: fmt.Sprintf("the header %s: %q is no timeout", http.CanonicalHeaderKey(key), values[0])}
	case never && d == 0:
	case !l.ok || d < l.d:
		l.d, l.ok = d, true
	}
}

func (l *least) result() (time.Duration, bool, *status.Error) {
	if l.err != nil {
		return 0, false, l.err
	}
	return l.d, l.ok, nil
}

// parseGRPCTimeout reads gRPC's form: at most eight digits and a unit.
func parseGRPCTimeout(s string) (time.Duration, bool) {
	if len(s) < 2 || len(s) > 9 {
		return 0, false
	}
	n, ok := digits(s[:len(s)-1])
	if !ok {
		return 0, false
	}
	var unit time.Duration
	switch s[len(s)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return 0, false
	}
	if n > math.MaxInt64/int64(unit) {
		return math.MaxInt64, true
	}
	return time.Duration(n) * unit, true
}

// parseMillis reads a number of milliseconds of at most ten digits, as Connect and Envoy write it.
func parseMillis(s string) (time.Duration, bool) {
	if len(s) > 10 {
		return 0, false
	}
	n, ok := digits(s)
	return time.Duration(n) * time.Millisecond, ok
}

func digits(s string) (int64, bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// FromHeader returns a request's headers as metadata, without those that belong to HTTP and the protocols on it. Binary ones are
// decoded; those that cannot be are left out.
func FromHeader(h http.Header, host string) transport.Metadata {
	md := make(transport.Metadata, 0, len(h)+1)
	if host != "" {
		md = append(md, transport.Field{Key: ":authority", Value: host})
	}
	for k, vs := range h {
		if ofProtocol(k) {
			continue
		}
		k = lower(k)
		binary := strings.HasSuffix(k, "-bin")
		for _, v := range vs {
			if !binary {
				md = append(md, transport.Field{Key: k, Value: v})
				continue
			}
			for part := range strings.SplitSeq(v, ",") {
				if b, err := decodeBinary(strings.TrimSpace(part)); err == nil {
					md = append(md, transport.Field{Key: k, Value: string(b)})
				}
			}
		}
	}
	return md
}

// lower returns a canonical header's name in lower case; the usual ones without making a new string.
func lower(k string) string {
	switch k {
	case "Accept":
		return "accept"
	case "Authorization":
		return "authorization"
	case "Content-Type":
		return "content-type"
	case "Cookie":
		return "cookie"
	case "Traceparent":
		return "traceparent"
	case "User-Agent":
		return "user-agent"
	case "X-Forwarded-For":
		return "x-forwarded-for"
	case "X-Request-Id":
		return "x-request-id"
	}
	return strings.ToLower(k)
}

// ofProtocol reports whether a header, in canonical form, is no business of a handler.
func ofProtocol(k string) bool {
	switch k {
	case "Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding",
		"Upgrade", "Grpc-Encoding", "Grpc-Accept-Encoding", headerGRPCTimeout, headerConnectTimeout, "Connect-Protocol-Version",
		"Connect-Content-Encoding", "Connect-Accept-Encoding":
		return true
	}
	return false
}

func decodeBinary(s string) ([]byte, error) {
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
}

// AddHeader writes metadata into a header, with a prefix before each key, which is empty or ends in a dash. What HTTP or a protocol on
// it says itself is left out.
func AddHeader(h http.Header, prefix string, md transport.Metadata) {
	for _, f := range md {
		k := http.CanonicalHeaderKey(f.Key)
		if k == "" || f.Key[0] == ':' || reserved(k) {
			continue
		}
		v := f.Value
		if strings.HasSuffix(f.Key, "-bin") {
			v = base64.RawStdEncoding.EncodeToString([]byte(v))
		}
		h[prefix+k] = append(h[prefix+k], v)
	}
}

func reserved(k string) bool {
	switch k {
	case "Content-Type", "Host", "Date", "Grpc-Status", "Grpc-Message", "Grpc-Status-Details-Bin",
		"Hull-Origin", "Hull-Kind", "Hull-Fate": // what is proved about a call is not a handler's to say
		return true
	}
	return ofProtocol(k)
}

// Message is what an answer says in words.
func Message(e *status.Error) string {
	if e.Message == "" && e.Cause != nil {
		return e.Cause.Error()
	}
	return e.Message
}
