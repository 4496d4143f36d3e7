package hull

import (
	"google.golang.org/grpc"

	"github.com/hull-go/hull/policy"
)

type criticalityOption struct {
	grpc.EmptyCallOption
	c policy.Criticality
}

// Criticality says how much a call matters, for one call or all calls of a Conn: servers with too much to do refuse the least important ones first.
// It belongs where a request enters; the calls that are made to serve it inherit it. A handler's own calls can be less important than the call
// that it serves, not more.
func Criticality(c policy.Criticality) CallOption { return criticalityOption{c: c} }

// importance orders the classes, the most important first.
var importance = [...]uint8{policy.CriticalPlus: 0, policy.Critical: 1, policy.SheddablePlus: 2, policy.Sheddable: 3}

// inherits returns the class of a call that is made on behalf of another, nil = of none.
func (c *callOptions) inherits(parent *incoming) policy.Criticality {
	switch {
	case parent == nil && c.criticality == nil:
		return policy.Critical
	case parent == nil:
		return min(*c.criticality, policy.Sheddable)
	case c.criticality == nil || importance[min(*c.criticality, policy.Sheddable)] < importance[min(parent.criticality, policy.Sheddable)]:
		return parent.criticality
	}
	return min(*c.criticality, policy.Sheddable)
}
