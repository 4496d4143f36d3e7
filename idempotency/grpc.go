package idempotency

import (
	"context"
	"strings"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/hull-go/hull/status"
)

// Header is where keys travel, over every protocol.
const Header = "idempotency-key"

// Unary is a grpc.UnaryServerInterceptor: it guards the calls that have a key and leaves the others alone. It stands after what
// authenticates and limits callers and before what counts the work, because duplicates are not work. What a handler returns to the first caller is passed on as
// it is; the errors that others get are *status.Errors which are also grpc-go's.
func (g *Guard) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	keys := metadata.ValueFromIncomingContext(ctx, Header)
	if len(keys) == 0 {
		return handler(ctx, req)
	}
	for _, k := range keys[1:] {
		if k != keys[0] {
			return nil, callError{refusal(status.InvalidArgument, reasonBadKey, "the call has two different keys")}
		}
	}
	request, err := FingerprintOf(req)
	if err != nil {
		return nil, callError{status.From(err)}
	}
	c := Call{Key: unquote(keys[0]), Method: strings.TrimPrefix(info.FullMethod, "/"), Request: request}
	begun := false
	rep, err := g.Do(ctx, c, func(ctx context.Context) (any, error) {
		begun = true
		return handler(ctx, req)
	})
	if err != nil && !begun {
		err = callError{status.From(err)}
	}
	return rep, err
}

// callError is an error of this package, or a kept one, that grpc-go understands too.
type callError struct{ err *status.Error }

func (e callError) Error() string { return e.err.Error() }

func (e callError) Unwrap() error { return e.err }

// GRPCStatus implements what grpc-go looks for.
func (e callError) GRPCStatus() *grpcstatus.Status {
	p := &spb.Status{Code: int32(e.err.Code), Message: messageOf(e.err)}
	for _, d := range e.err.Details {
		p.Details = append(p.Details, &anypb.Any{TypeUrl: d.TypeURL, Value: d.Value})
	}
	return grpcstatus.FromProto(p)
}

// unquote takes the quotation marks off a key that is written as the IETF's draft would have it, a string of structured headers: so "k" and k are one key.
func unquote(key string) string {
	if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' && !strings.ContainsAny(key[1:n-1], `"\`) {
		return key[1 : n-1]
	}
	return key
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
