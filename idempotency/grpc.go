package idempotency

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/status"
)

// Header is where keys travel, over every protocol.
const Header = "idempotency-key"

// Unary is a grpc.UnaryServerInterceptor: it guards the calls that have a key and leaves the others alone. It stands after what
// authenticates and limits callers and before what counts the work, because duplicates are not work.
func (g *Guard) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	keys := metadata.ValueFromIncomingContext(ctx, Header)
	if len(keys) == 0 {
		return handler(ctx, req)
	}
	for _, k := range keys[1:] {
		if k != keys[0] {
			return nil, refusal(status.InvalidArgument, reasonBadKey, "the call has two different keys")
		}
	}
	request, err := FingerprintOf(req)
	if err != nil {
		return nil, err
	}
	c := Call{Key: unquote(keys[0]), Method: strings.TrimPrefix(info.FullMethod, "/"), Request: request}
	return g.Do(ctx, c, func(ctx context.Context) (any, error) { return handler(ctx, req) })
}

// unquote takes the quotation marks off a key that is written as the IETF's draft would have it.
func unquote(key string) string {
	if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' && !strings.ContainsAny(key[1:n-1], `"\`) {
		return key[1 : n-1]
	}
	return key
}

// FingerprintOf returns the fingerprint of a message: the same for equal protobuf messages, Go values with the same JSON, and
// equal bytes.
func FingerprintOf(v any) (Fingerprint, error) {
	var b []byte
	var err error
	switch v := v.(type) {
	case proto.Message:
		b, err = proto.MarshalOptions{Deterministic: true}.Marshal(v)
	case []byte:
		b = v
	case *[]byte:
		b = *v
	default:
		b, err = json.Marshal(v)
	}
	if err != nil {
		return Fingerprint{}, refusal(status.InvalidArgument, reasonBadKey, fmt.Sprintf("requests that are a %T cannot have a key: %v", v, err))
	}
	return sha256.Sum256(b), nil
}

// scopeOfTLS is the subject of the caller's verified certificate.
func scopeOfTLS(ctx context.Context, _ string) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return ""
	}
	return info.State.VerifiedChains[0][0].Subject.String()
}
