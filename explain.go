package hull

import (
	"maps"
	"slices"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/transport/pool"
)

// Explain says of every node of the service how it stands with this client, and why: who is avoided since when and until
// when, what was seen of it. It is empty before the first call.
func (c *Conn) Explain() []balance.NodeState {
	if c.s.picker == nil {
		return nil
	}
	return c.s.picker.Explain(policy.Now())
}

// MethodState is how one method stands with a client.
type MethodState struct {
	// Breaker is its breaker, whatever its mode.
	Breaker breaker.Snapshot
	// Unary and Stream count all of the client's calls of the method, also those that were made through other Conns.
	Unary, Stream policy.Snapshot
}

// Methods says how the methods stand that were called through this Conn, also with options that chose other nodes for single calls.
func (c *Conn) Methods() map[string]MethodState {
	out := map[string]MethodState{}
	c.methodsInto(policy.Now(), out)
	c.mu.Lock()
	chosen := slices.Collect(maps.Values(c.chosen))
	c.mu.Unlock()
	for _, n := range chosen {
		n.methodsInto(policy.Now(), out)
	}
	return out
}

func (c *Conn) methodsInto(now policy.Time, out map[string]MethodState) {
	if t := c.methods.Load(); t != nil {
		for name, m := range t.byName {
			out[name] = MethodState{Breaker: m.Breaker.Snapshot(now), Unary: m.Unary.Snapshot(), Stream: m.Stream.Snapshot()}
		}
	}
}

// Budget says how many tokens are left for retries and hedges of calls to the service.
func (c *Conn) Budget() retry.BudgetSnapshot {
	if c.s.budget == nil {
		return retry.BudgetSnapshot{}
	}
	return c.s.budget.Snapshot(policy.Now())
}

// Connections says how the client is connected to the nodes of all services.
func (c *Client) Connections() []pool.State { return c.pool.Snapshot() }
