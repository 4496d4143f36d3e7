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

	downstream atomic.Bool
}

// Read returns the path of a request; get returns a header's first value. Callers that are not trusted can make their request less
// important, and not more. What makes no sense counts as not said.
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
	return p
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
