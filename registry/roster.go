package registry

// maxRefused bounds the complaints of one update; the Registry keeps no more either.
const maxRefused = maxReports

// Roster is what a driver's watch knows about its service, entry by entry. Make one with NewRoster; it is not safe for
// concurrent use.
type Roster struct {
	service string
	nodes   map[string]*Node
	changed bool

	// Since the last update.
	left    map[string]string
	refused []Refusal
}

// NewRoster returns an empty roster of a service.
func NewRoster(service string) *Roster {
	return &Roster{service: service, nodes: map[string]*Node{}, changed: true}
}

// Put takes a node's entry, as EncodeNode writes it. One that is no node is refused, and its node is gone.
func (r *Roster) Put(id string, record []byte) {
	n, err := DecodeNode(r.service, id, record)
	if err != nil {
		r.Remove(id)
		r.Refuse(id, err)
		return
	}
	r.Add(n)
}

// Add takes a node. What is beyond a hundred thousand is left out.
func (r *Roster) Add(n *Node) {
	if r.nodes[n.ID] == nil && len(r.nodes) > maxNodes { // one more than the Registry takes, so that it says so
		return
	}
	delete(r.left, n.ID)
	r.nodes[n.ID], r.changed = n, true
}

// Remove notes that an entry is not there any more, for whatever reason.
func (r *Roster) Remove(id string) {
	if r.nodes[id] != nil {
		delete(r.nodes, id)
		r.changed = true
	}
}

// Leave notes that a node has left on purpose, and why.
func (r *Roster) Leave(id, why string) {
	r.Remove(id)
	if r.left == nil {
		r.left = map[string]string{}
	}
	r.left[id], r.changed = why, true
}

// Refuse notes an entry that cannot be used.
func (r *Roster) Refuse(entry string, err error) {
	if len(r.refused) < maxRefused {
		r.refused, r.changed = append(r.refused, Refusal{Entry: entry, Err: err}), true
	}
}

// Full reports whether the roster takes no more nodes.
func (r *Roster) Full() bool { return len(r.nodes) > maxNodes }

// Changed reports whether there is something to tell since the last Update; at first there is.
func (r *Roster) Changed() bool { return r.changed }

// Update returns what has to be told.
func (r *Roster) Update() Update {
	up := Update{Nodes: make([]*Node, 0, len(r.nodes)), Refused: r.refused}
	for _, n := range r.nodes {
		up.Nodes = append(up.Nodes, n)
	}
	for id, why := range r.left {
		up.Left = append(up.Left, Departure{ID: id, Why: why})
	}
	r.left, r.refused, r.changed = nil, nil, false
	return up
}
