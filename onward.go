package hull

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/grpc"

	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/internal/foreign"
	"github.com/hull-go/hull/internal/hop"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// The headers of a call that the calls inherit which are made to serve it, beside deadline, attempt number and criticality.
const (
	headerTraceParent = "traceparent"
	headerTraceState  = "tracestate"
	headerBaggage     = "baggage"
)

type attemptsOption struct {
	grpc.EmptyCallOption
	n int
}

// MaxAttempts bounds how often a call is tried, the first time included, below what the document says; a hedge is an attempt too. 1 = it is not repeated.
// The same holds for every call that is made to serve it, over any protocol: the header x-envoy-max-retries says so.
func MaxAttempts(n int) CallOption { return attemptsOption{n: n} }

// set bounds the attempts of a call.
func (o attemptsOption) set(c *callOptions) {
	if o.n < 1 {
		c.err = fmt.Errorf("MaxAttempts: %d attempts are none: use 1 for a call that is not repeated", o.n)
		return
	}
	c.attempts = uint8(min(o.n, policy.MaxAttempts))
}

// IdempotencyKeyFrom gives a call that a handler makes a key of its own, made of the key of the call that is served with ctx and of what this one is for:
// if the handler runs again for the same key, after a crash or on another node, so does the call, and what it does is done once. Two calls that a
// handler makes of one method need different names.
//
// Two callers who happen to use the same key get different ones below, if they are of different scopes (idempotency.Options) or call different methods: the
// key is a hash of scope, method, key and name. So only what runs under the key can derive others from it: a call that is served without a key gives
// none, and neither do a stream and an interceptor, which runs before keys are looked at.
func IdempotencyKeyFrom(ctx context.Context, name string) CallOption {
	above, _, ok := idempotency.Current(ctx)
	if !ok {
		return grpc.EmptyCallOption{}
	}
	whose := sha256.Sum256([]byte(above)) // by itself, so that no name looks like the end of a key
	sum := sha256.Sum256(append(whose[:], name...))
	return idempotencyOption{key: hex.EncodeToString(sum[:])}
}

// inherit has a call pass on what the call says that it is made for: its trace and baggage, unless this one has its own, and how often it may be
// tried.
func (p *prepared) inherit() {
	p.call.Attempts = p.opt.attempts
	if p.parent != nil && slices.ContainsFunc(p.parent.md, goesOn) && p.parent.from.trusts(p.parent.md) {
		p.takeOver(p.parent.md)
	}
	if n := p.call.Attempts; n != 0 {
		p.md = slices.DeleteFunc(p.md, func(f transport.Field) bool { return f.Key == hop.MaxRetries })
		p.md = append(p.md, transport.Field{Key: hop.MaxRetries, Value: strconv.Itoa(int(n) - 1)})
	}
}

// goesOn reports whether a header of a call is for the calls below too.
func goesOn(f transport.Field) bool {
	switch f.Key {
	case headerTraceParent, headerTraceState, headerBaggage, hop.MaxRetries, hop.RetryOn, hop.RetryGRPCOn:
		return true
	}
	return false
}

func (p *prepared) takeOver(above transport.Metadata) {
	traced, carries := p.md.Get(headerTraceParent) != "", p.md.Get(headerBaggage) != ""
	for _, f := range above {
		switch f.Key {
		case headerTraceParent, headerTraceState:
			if !traced {
				p.md = append(p.md, f)
			}
		case headerBaggage:
			if !carries {
				p.md = append(p.md, f)
				p.borrowed = true
			}
		case hop.RetryOn, hop.RetryGRPCOn:
			if p.wishes == nil {
				p.wishes = hop.Read(above.Get, true)
			}
			if p.md.Get(f.Key) == "" {
				p.md = append(p.md, f)
			}
		case hop.MaxRetries:
			if n, err := strconv.ParseUint(f.Value, 10, 32); err == nil {
				most := uint8(min(n+1, policy.MaxAttempts))
				if p.call.Attempts == 0 || most < p.call.Attempts {
					p.call.Attempts = most
				}
			}
		}
	}
}

// metadataRoom is how much metadata surely goes through: transports take 16 KiB, in which some of Hull's own must find room.
const metadataRoom = 15 << 10

// fit leaves the caller's baggage out if there is no room for it beside what the call itself has to say: it must not fail for what a stranger put there.
func (p *prepared) fit() {
	if !p.borrowed {
		return
	}
	if foreign.FieldsSize(p.md) > metadataRoom {
		p.md = slices.DeleteFunc(p.md, func(f transport.Field) bool { return f.Key == headerBaggage })
	}
}

// addTrailer adds to an answer what its handler did not say, unless what that said leaves no room for it: the answer must not fail for it.
func addTrailer(out *transport.Outgoing, md ...transport.Field) {
	if len(md) > 0 && foreign.FieldsSize(out.Header)+foreign.FieldsSize(out.Trailer)+foreign.FieldsSize(md) <= metadataRoom {
		out.Trailer = append(out.Trailer, md...)
	}
}

// wished marks a failure as not to be repeated after which the call above wants no repetition.
func (p *prepared) wished(e *status.Error) *status.Error {
	if p.wishes == nil {
		return e
	}
	return p.wishes.Narrow(e)
}

// root is the hash of the root request that a call belongs to, 0 = not known. A stranger does not choose who is shed with whom.
func (c *incoming) root() uint64 {
	h := root(c.md)
	if h != 0 && !c.from.trusts(c.md) {
		return 0
	}
	return h
}
