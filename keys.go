package hull

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
// connection broke is made again to the same node only, and only if that is still the same process.
//
// A key in quotation marks is the key without them, as in the header's draft. Streams have no keys: opening one with this option fails.
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

// withKeys are the interceptors of calls that have a key. reply makes what the method answers with where that is not a protobuf message, and is nil otherwise.
func (s *Server) withKeys(reply func() any) []grpc.UnaryServerInterceptor {
	return append(slices.Clip(s.opt.unary), func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		var own error
		begun := false
		rep, err := s.guard.Unary(ctx, req, info, func(ctx context.Context, req any) (rep any, err error) {
			begun = true
			rep, own = next(ctx, req)
			return rep, kept(ctx, own)
		})
		if begun {
			return rep, own
		}
		if e, ok := errors.AsType[*status.Error](err); ok {
			if e.Fate == status.NotSent {
				return nil, notBegunError{e}
			}
			return nil, e
		}
		if reply != nil && len(s.opt.unary) > 0 {
			rep = typed(rep, reply)
		}
		return rep, err
	})
}

// kept is what calls with the same key are told of a handler's failure: the answer that the first of them got, with its origin. That a call further down was not
// sent says nothing of what this one has done; only a handler's own word for itself does.
func kept(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	_, below := errors.AsType[callError](err)
	if own, _ := errors.AsType[*status.Error](err); !below && own != nil && own.Fate == status.NotSent {
		return err // for the guard to judge
	}
	e := fromHandler(err)
	if c := above(ctx); c != nil {
		e.Origin = c.origin(e)
	}
	return e
}

// typed is a kept answer as the method's own type, which middleware expects. An answer that this type does not say the same with stays as it is.
func typed(rep any, reply func() any) any {
	raw, ok := rep.(*json.RawMessage)
	if !ok {
		return rep
	}
	out := reply()
	if json.Unmarshal(*raw, out) != nil {
		return rep
	}
	b, err := json.Marshal(out)
	if err != nil || !agree(parsed(*raw), parsed(b)) {
		return rep
	}
	return out
}

// parsed is valid JSON as maps, slices, strings, bools and numbers as they are written.
func parsed(b []byte) (v any) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	_ = d.Decode(&v) // it is valid
	return v
}

// agree reports whether two JSON values are the same but for members that only one of them has: of versions that know one field more.
func agree(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok {
			return false
		}
		for k, v := range a {
			if w, ok := b[k]; ok && !agree(v, w) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, agree)
	}
	return a == b
}

// notBegunError is the guard's refusal of a call whose handler was not run. What a handler returns is never one, whatever it was told by others.
type notBegunError struct{ err *status.Error }

func (e notBegunError) Error() string { return e.err.Error() }

func (e notBegunError) Unwrap() error { return e.err }
