// Package hop is what the adapters of policy (httppolicy, grpcpolicy) know of a request's place in its call tree: what its caller
// said, for calls made on its behalf, and what became of these, for its answer. The headers are those that Hull's own nodes
// speak (package transport), so that services behind the adapters are part of one discipline with them.
package hop

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// The headers, in the form that gRPC metadata has them.
const (
	// Attempt is the highest attempt number on the path, in requests.
	Attempt = "x-envoy-attempt-count"
	// MaxRetries is how often a trusted caller wants calls on its behalf repeated at most, RetryOn and RetryGRPCOn after which failures:
	// names of Envoy's, with commas.
	MaxRetries  = "x-envoy-max-retries"
	RetryOn     = "x-envoy-retry-on"
	RetryGRPCOn = "x-envoy-retry-grpc-on"
	// Criticality is the name of a policy.Criticality, in requests that are not critical.
	Criticality = "hull-criticality"
	// Origin is "downstream" in an answer that passes on a failure.
	Origin = "hull-origin"
)

// Path is the place of one request that is being served. It is safe for concurrent use.
type Path struct {
	// Attempt is the highest attempt number from the root to here; 0 = nobody said.
	Attempt int
	// Criticality is the request's.
	Criticality policy.Criticality
	// Attempts is how many attempts calls on its behalf may have; 0 = nobody said.
	Attempts uint8

	narrow     bool // only failures in on are repeated
	on         classes
	downstream atomic.Bool
}

// classes is a set of policy.Class.
type classes uint32

func set(cs ...policy.Class) (s classes) {
	for _, c := range cs {
		s |= 1 << c
	}
	return s
}

// retryOn says what Envoy's names stand for. Names of what is never repeated here, and of what cannot be known, are left out.
var retryOn = map[string]classes{
	"5xx": set(policy.ClassInternal, policy.ClassUnavailable, policy.ClassOverloaded, policy.ClassShed, policy.ClassDraining, policy.ClassUnsent,
		policy.ClassHandshake, policy.ClassReset, policy.ClassTimeout, policy.ClassProtocol),
	"gateway-error":        set(policy.ClassUnavailable, policy.ClassOverloaded, policy.ClassShed),
	"reset":                set(policy.ClassReset, policy.ClassUnsent, policy.ClassTimeout, policy.ClassProtocol),
	"reset-before-request": set(policy.ClassUnsent),
	"connect-failure":      set(policy.ClassUnsent, policy.ClassHandshake),
	"refused-stream":       set(policy.ClassDraining),
	"envoy-ratelimited":    set(policy.ClassOverloaded, policy.ClassShed),
	"deadline-exceeded":    set(policy.ClassTimeout),
	"internal":             set(policy.ClassInternal),
	"resource-exhausted":   set(policy.ClassOverloaded, policy.ClassShed),
	"unavailable":          set(policy.ClassUnavailable, policy.ClassDraining, policy.ClassUnsent, policy.ClassReset),
}

// Read returns the path of a request; get returns a header's first value. Callers that are not trusted can make their request less
// important, and not more, and have no say in what is repeated. What makes no sense counts as not said.
func Read(get func(key string) string, trusted bool) *Path {
	p := new(Path)
	if n, err := strconv.ParseUint(get(Attempt), 10, 16); err == nil {
		p.Attempt = int(n)
	}
	if s := get(Criticality); s != "" {
		for _, c := range []policy.Criticality{policy.CriticalPlus, policy.SheddablePlus, policy.Sheddable} {
			if strings.EqualFold(s, c.String()) && (trusted || c != policy.CriticalPlus) {
				p.Criticality = c
			}
		}
	}
	if trusted {
		p.readRetries(get)
	}
	return p
}

func (p *Path) readRetries(get func(key string) string) {
	if n, err := strconv.ParseUint(get(MaxRetries), 10, 32); err == nil {
		p.Attempts = uint8(min(n, policy.MaxAttempts) + 1)
	}
	for _, header := range []string{RetryOn, RetryGRPCOn} {
		names := get(header)
		p.narrow = p.narrow || names != ""
		for name := range strings.SplitSeq(names, ",") {
			p.on |= retryOn[strings.ToLower(strings.TrimSpace(name))]
		}
	}
}

// Narrow returns the failure of an attempt of a call on the request's behalf, marked as not to be repeated if the request's caller
// does not want that.
func (p *Path) Narrow(e *status.Error) *status.Error {
	if e == nil || !p.narrow || p.on&set(policy.Classify(e)) != 0 {
		return e
	}
	c := *e
	c.Pushback = -1
	return &c
}

type key struct{}

// With returns a context that carries p.
func With(ctx context.Context, p *Path) context.Context { return context.WithValue(ctx, key{}, p) }

// From returns the path of the request that ctx belongs to. A context that belongs to none has an empty one.
func From(ctx context.Context) *Path {
	if p, ok := ctx.Value(key{}).(*Path); ok {
		return p
	}
	return new(Path)
}

// Failed notes that a call made on the request's behalf has failed for good with class c.
func (p *Path) Failed(c policy.Class) {
	switch c {
	case policy.ClassOK, policy.ClassCaller, policy.ClassAborted, policy.ClassCancelled, policy.ClassLoser:
	default:
		p.downstream.Store(true)
	}
}

// Origin says whose failure the request's would be.
func (p *Path) Origin() status.Origin {
	if p.downstream.Load() {
		return status.Downstream
	}
	return status.Self
}

// ParseOrigin reads the header. Peers that say nothing speak of themselves.
func ParseOrigin(s string) status.Origin {
	if strings.EqualFold(s, status.Downstream.String()) {
		return status.Downstream
	}
	return status.Self
}
