package ui

import (
	"context"
	"time"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/demo/board"
	"github.com/hull-go/hull/demo/stats"
	"github.com/hull-go/hull/demo/supervise"
)

// SideStats is what GET /api/stats says about one side.
type SideStats struct {
	stats.Snapshot
	// Saved is how many saves the board has acknowledged; Outbox how many wait, Delivered how many were late.
	Saved     int64 `json:"saved"`
	Outbox    int   `json:"outbox"`
	Delivered int64 `json:"delivered"`
}

// NodeStats is what it says about one node.
type NodeStats struct {
	supervise.NodeStatus
	// Protected and Unprotected are the node's standing in the eyes of each client, in one word ("absent" if discovery does not
	// list it; left out if the client does not say), and Why the protected one avoids it.
	Protected   string `json:"protected,omitempty"`
	Unprotected string `json:"unprotected,omitempty"`
	Why         string `json:"why,omitempty"`
}

// Stats is the answer of GET /api/stats.
type Stats struct {
	// Uptime is in seconds, Rate in calls per second of each side.
	Uptime     float64    `json:"uptime"`
	Rate       float64    `json:"rate"`
	Protection Protection `json:"protection"`
	// AttemptTimeout and Patience are in milliseconds.
	AttemptTimeout int64 `json:"attemptTimeoutMillis"`
	Patience       int64 `json:"patienceMillis"`
	// Stall is how long the machine kept the demo waiting at most in the last 10 s, in milliseconds.
	Stall       float64     `json:"stallMillis"`
	Protected   SideStats   `json:"protected"`
	Unprotected SideStats   `json:"unprotected"`
	Nodes       []NodeStats `json:"nodes"`
	// NodesError says why Nodes is not what it should be.
	NodesError string `json:"nodesError,omitempty"`
	// Rules are what holds whatever is broken, as of a second ago.
	Rules []RuleStats `json:"rules"`
}

func (s *side) stats() SideStats {
	_, waiting, delivered := s.outbox.state(board.Wall)
	return SideStats{Snapshot: s.rec.Snapshot(), Saved: s.saved.Load(), Outbox: waiting, Delivered: delivered}
}

// standing returns how the side's client sees each node, by the fleet's names.
func (s *side) standing() map[string]balance.NodeState {
	c, ok := any(s.conn).(interface{ Explain() []balance.NodeState })
	if !ok {
		return nil
	}
	m := map[string]balance.NodeState{}
	for _, n := range c.Explain() {
		id := n.ID
		if name, ok := s.names[id]; ok {
			id = name
		}
		m[id] = n
	}
	return m
}

func (s *Server) stats(ctx context.Context) Stats {
	st := Stats{
		Uptime: time.Since(s.begin).Seconds(), Rate: s.loads[0].Rate(), Protection: s.protected.protection(),
		AttemptTimeout: AttemptTimeout.Milliseconds(), Patience: Patience.Milliseconds(), Stall: s.stall.Max(),
		Protected: s.protected.stats(), Unprotected: s.unprotected.stats(),
		Rules: s.ruleStats(),
	}
	nodes, err := s.nodes(ctx)
	if err != nil {
		st.NodesError = err.Error()
	}
	st.Nodes = nodes
	return st
}

func (s *Server) nodes(ctx context.Context) ([]NodeStats, error) {
	list, err := s.control.Nodes(ctx)
	if err != nil {
		return []NodeStats{}, err
	}
	with, without := s.protected.standing(), s.unprotected.standing()
	nodes := make([]NodeStats, 0, len(list))
	for _, n := range list {
		ns := NodeStats{NodeStatus: n}
		ns.Protected, ns.Why = word(with, n.ID)
		ns.Unprotected, _ = word(without, n.ID)
		nodes = append(nodes, ns)
	}
	return nodes, nil
}

// word returns how a client sees a node, and why.
func word(seen map[string]balance.NodeState, id string) (state, why string) {
	if seen == nil {
		return "", ""
	}
	b, ok := seen[id]
	if !ok {
		return string(balance.Absent), "discovery does not list it"
	}
	return string(b.State), b.Why
}
