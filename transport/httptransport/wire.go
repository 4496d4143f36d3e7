package httptransport

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/hull-go/hull/policy/httppolicy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// binary ends the keys of metadata that is any bytes; trailerPrefix begins the header fields that stand for a trailer.
const (
	binary        = "-bin"
	trailerPrefix = "Trailer-"
)

// outgoing sets a request's metadata with what Hull adds, and returns how many bytes it has.
func outgoing(h http.Header, req *transport.Request) (size int) {
	fields := transport.AppendHop(req.Metadata[:len(req.Metadata):len(req.Metadata)], req.PathAttempt, req.Criticality)
	if req.WantLoad {
		fields = append(fields[:len(fields):len(fields)], transport.Field{Key: transport.HeaderLoadFormat, Value: transport.LoadText})
	}
	for _, f := range fields {
		if strings.HasPrefix(f.Key, ":") || ofProtocol(f.Key) {
			continue
		}
		v := f.Value
		if strings.HasSuffix(f.Key, binary) {
			v = base64.RawStdEncoding.EncodeToString([]byte(v))
		}
		size += len(f.Key) + len(v) + len(": \r\n")
		switch k := strings.ToLower(f.Key); k {
		case "idempotency-key", "x-idempotency-key": // by its usual name it has net/http send again what may have been served
			h[k] = append(h[k], v)
		default:
			h.Add(f.Key, v)
		}
	}
	return size
}

// ofProtocol reports whether a field of a request is HTTP's own. A handler that passes its caller's metadata on has some.
func ofProtocol(key string) bool {
	switch strings.ToLower(key) {
	case "accept-encoding", "connection", "content-encoding", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te", "trailer",
		"transfer-encoding", "upgrade", "connect-timeout-ms", "grpc-timeout":
		return true
	}
	return false
}

// incoming returns what a response says to the caller.
func incoming(h, t http.Header) (header, trailer transport.Metadata) {
	for _, k := range slices.Sorted(maps.Keys(h)) {
		if name, ok := strings.CutPrefix(k, trailerPrefix); ok {
			trailer = appendField(trailer, name, h[k])
		} else if !internal(k) {
			header = appendField(header, k, h[k])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(t)) {
		trailer = appendField(trailer, k, t[k])
	}
	return header, trailer
}

func appendField(md transport.Metadata, key string, values []string) transport.Metadata {
	key = strings.ToLower(key)
	for _, v := range values {
		if !strings.HasSuffix(key, binary) {
			md = append(md, transport.Field{Key: key, Value: v})
			continue
		}
		for part := range strings.SplitSeq(v, ",") { // a proxy may have joined them
			if b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(part), "=")); err == nil { // what is no base64 is no value
				md = append(md, transport.Field{Key: key, Value: string(b)})
			}
		}
	}
	return md
}

// internal reports whether a header field belongs to the protocol and not to the caller.
func internal(key string) bool {
	switch strings.ToLower(key) {
	case "connection", "content-encoding", "content-length", "content-type", "date", "keep-alive", "trailer", "transfer-encoding", "vary",
		transport.HeaderOrigin, transport.HeaderKind, transport.HeaderFate, transport.HeaderPushback, transport.HeaderLoad:
		return true
	}
	return false
}

// connectError is the body of a Connect error.
type connectError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Details []struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	} `json:"details"`
}

// failed says what a response that is not 2xx means.
func failed(resp *http.Response, body []byte) *status.Error {
	e := httppolicy.Status(resp)
	if e == nil { // 1xx and 3xx
		e = &status.Error{Code: status.Unimplemented, Fate: status.Processed,
			Message: "the server answers with " + resp.Status + ", which is no answer to a call"}
	}
	var ce connectError
	said := json.Unmarshal(body, &ce) == nil && setCode(e, ce.Code)
	if said {
		e.Message, e.Kind = ce.Message, status.Answered
		for _, d := range ce.Details {
			if v, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(d.Value, "=")); err == nil {
				e.Details = append(e.Details, status.Detail{TypeURL: typePrefix + d.Type, Value: v})
			}
		}
	}
	if fate := e.Fate; said || resp.Header.Get(transport.HeaderKind) != "" {
		transport.ReadFacts(resp.Header.Get, e)
		if fate == status.NotSent { // 421 and 425 say so whatever stands beside
			e.Fate = fate
		}
	}
	return e
}

// typePrefix turns a message's name into a type URL.
const typePrefix = "type.googleapis.com/"

// setCode sets the code of that name, as Connect spells it.
func setCode(e *status.Error, name string) bool {
	for c := status.Canceled; c.Valid(); c++ {
		if connectName(c) == name {
			e.Code = c
			return true
		}
	}
	return false
}

// connectName returns a code's name in lower case with underscores.
func connectName(c status.Code) string {
	var b strings.Builder
	for i, r := range c.String() {
		if 'A' <= r && r <= 'Z' {
			if i > 0 {
				b.WriteByte('_')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}
