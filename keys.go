package hull

import (
	"context"
	"slices"

	"google.golang.org/grpc"

	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/status"
)

type idempotencyOption struct {
	grpc.EmptyCallOption
	key string
}

// IdempotencyKey names what a call is to do, so that doing it again does nothing: the server runs the first call with a key, and gives every later one
// with the same key and request the first one's answer. Make a new key for each thing to be done, a random one for instance, and use it
// again when you try again, also from another process or after a restart.
//
// Where the nodes of the service share their keys (WithIdempotency with a Store), the client's own retries of the call are safe as well, and it
// makes them as if the method were idempotent. Where each node has keys of its own, another node would know nothing of the first attempt: then a call whose
// connection broke is made again to the same node only, and only if that is still the same process. Calls of streams have no keys.
func IdempotencyKey(key string) CallOption { return idempotencyOption{key: key} }

// WithIdempotency says how the server remembers calls that have an idempotency key. Without it they are kept in memory with the defaults. With
// a Store, which all nodes of the service must use, a key starts once among all of them.
func WithIdempotency(o idempotency.Options) ServerOption {
	return serverOption(func(s *serverOptions) error {
		s.keys = o
		checked := o // and not o: the option may be given to more servers
		checked.Store = nil
		g, err := idempotency.New(checked) // nothing is begun before Run
		if err == nil {
			g.Close()
		}
		return err
	})
}

// withKeys are the interceptors of calls that have a key.
func (s *Server) withKeys() []grpc.UnaryServerInterceptor {
	return append(slices.Clip(s.opt.unary), func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		begun := false
		rep, err := s.guard.Unary(ctx, req, info, func(ctx context.Context, req any) (any, error) {
			begun = true
			return next(ctx, req)
		})
		if e, ok := err.(*status.Error); ok && !begun && e.Fate == status.NotSent { //nolint:errorlint // the guard's own
			return nil, notBegunError{e}
		}
		return rep, err
	})
}

// notBegunError is the guard's refusal of a call whose handler was not run. What a handler returns is never one, whatever it was told by others.
type notBegunError struct{ err *status.Error }

func (e notBegunError) Error() string { return e.err.Error() }

func (e notBegunError) Unwrap() error { return e.err }
