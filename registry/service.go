package registry

import (
	"slices"
	"strings"
	"time"
)

// Service is what the Registry believes about a service at one moment. It is immutable and shared.
type Service struct {
	// Name is the discovery name.
	Name string
	// Nodes are the nodes, sorted by ID, those with Absent set among them.
	Nodes []*Node
	// Revision counts the snapshots of this service since its watch began; 0 = nothing has been heard yet.
	Revision uint64
	// Stale is set while the engine does not answer: Nodes are the last good set, from memory or from disk.
	Stale bool
	// Disbelieved is how many Nodes are Absent.
	Disbelieved int
	// Why says in one sentence why the set is stale or nodes are disbelieved; empty when all is well.
	Why string
	// Since is when that began; zero when all is well.
	Since time.Time

	err  error         // what the engine last failed with, while Stale
	next chan struct{} // closed when a newer snapshot is there
}

// Node returns the node with an ID, or nil.
func (s *Service) Node(id string) *Node {
	i, ok := slices.BinarySearchFunc(s.Nodes, id, func(n *Node, id string) int { return strings.Compare(n.ID, id) })
	if !ok {
		return nil
	}
	return s.Nodes[i]
}
