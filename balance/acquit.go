package balance

import (
	"math/rand/v2"

	"github.com/hull-go/hull/policy"
)

// Acquit implements policy.Acquitting: a request that fails on one node after the other is to blame for that, so none of them is ejected for it. What was
// seen beside the failure stays: that a connection broke, that nothing was heard, and what the balancer charged.
func (p *Picker) Acquit(now policy.Time, _ rand.Source, node policy.Node, ended policy.Time, cl policy.Class) {
	n, ok := node.(*Node)
	if !ok || n == nil {
		return
	}
	c := cl.Counts()
	if c.Rate == policy.Failure {
		n.excused.Add(1)
	}
	if c.Node != policy.Failure || ended < policy.Time(n.row.Load()) {
		return // a success has ended its row since
	}
	left, taken := n.streak.Load(), false
	for left > 0 && !taken {
		if taken = n.streak.CompareAndSwap(left, left-1); !taken {
			left = n.streak.Load()
		}
	}
	k := n.core
	if !taken || n.flags.Load()&isEjected == 0 || left-1 >= k.limit.Load() {
		return
	}
	k.mu.Lock()
	defer k.release()
	if n.inARow && n.since >= ended && n.flags.Load()&isEjected != 0 && k.byKey[key{n.id, n.Info().Address}] == n {
		n.ejections = max(0, n.ejections-1)
		k.absolve(now, n, isEjected, "what it failed with failed elsewhere, too")
	}
}

// failures is how many failures since the last sweep count against the node, of those that there have been. It is called with core.mu held.
func (n *Node) failures(failed, excused uint64) uint64 {
	bad := failed - n.lastFailed
	return bad - min(bad, excused-n.lastExcuse) // a failure may have come before the sweep, and its excuse after it
}
