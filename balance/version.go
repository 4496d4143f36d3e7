package balance

import (
	"math/rand/v2"
	"slices"

	"github.com/hull-go/hull/policy"
)

// HasOther implements policy.Versions: it reports whether a node that may be reached runs another version than all of lacking. Nodes without a version count as
// one version.
func (p *Picker) HasOther(now policy.Time, rnd rand.Source, c *policy.Call, lacking []policy.Node) bool {
	s := p.serving(now, rnd, c)
	return len(other(s.pool, lacking)) > 0 || len(other(s.spare, lacking)) > 0
}

// Other implements policy.Versions. Nodes that the call has not tried come first, and of those the ones that the client is connected to.
func (p *Picker) Other(now policy.Time, rnd rand.Source, c *policy.Call, tried, lacking []policy.Node) (policy.Node, policy.Verdict) {
	s := p.serving(now, rnd, c)
	from := other(s.pool, lacking)
	if len(from) == 0 {
		from = other(s.spare, lacking)
	}
	if len(from) == 0 {
		return nil, policy.Verdict{Decision: policy.Refuse, State: "versions", Reason: "no node of another version is there"}
	}
	if fresh := untried(nil, from, tried, 0); len(fresh) > 0 {
		from = fresh
	}
	n := s.strategy.Choose(now, rnd, c, connected(from))
	n.begin(now)
	return n, policy.Verdict{Permit: policy.Permit{Start: now}}
}

// serving returns the set that a call chooses from.
func (p *Picker) serving(now policy.Time, rnd rand.Source, c *policy.Call) *set {
	s := p.cur.Load()
	if s == nil || s.gen != p.gen.Load() {
		s = p.refresh(now, rnd)
	}
	if lacked := p.lacked.Load(); lacked != nil || s.methods != nil {
		s = s.serving(lacked, c.Method)
	}
	return s
}

// other returns the nodes that run another version than all of lacking.
func other(nodes []*Node, lacking []policy.Node) (to []*Node) {
	for _, n := range nodes {
		same := func(l policy.Node) bool {
			b, ok := l.(*Node)
			return ok && b.Info().Version == n.Info().Version
		}
		if !slices.ContainsFunc(lacking, same) {
			to = append(to, n)
		}
	}
	return to
}
