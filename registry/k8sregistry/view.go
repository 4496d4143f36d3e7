package k8sregistry

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/hull-go/hull/registry"
)

// maxEndpoints bounds what is kept of a service; the Registry takes no more either, and says so.
const maxEndpoints = 100_001

// view is what one watch knows of a service. Slices and Services come from two goroutines.
type view struct {
	d       *Driver
	service string
	emit    func(registry.Update)

	mu sync.Mutex
	// wanted is how many resources have to be listed before there is something to say.
	wanted  int
	parts   map[string]*part  // nil = not listed yet; by name
	notes   map[string]*about // the same, by the Service's name
	total   int               // endpoints in parts
	refused []registry.Refusal
}

func newView(d *Driver, service string, emit func(registry.Update)) *view {
	return &view{d: d, service: service, emit: emit, wanted: 1}
}

// slices takes the service's EndpointSlices.
func (v *view) slices() sink {
	return sink{
		replace: func(all []json.RawMessage) {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.parts, v.total = map[string]*part{}, 0
			for _, raw := range all {
				v.put(raw)
			}
			v.tell()
		},
		apply: func(kind string, raw json.RawMessage) {
			v.mu.Lock()
			defer v.mu.Unlock()
			if kind == "DELETED" {
				v.drop(v.d.parse(v.service, raw).name)
			} else {
				v.put(raw)
			}
			v.tell()
		},
	}
}

// put takes a slice in the place of the one of its name; v.mu is held.
func (v *view) put(raw json.RawMessage) {
	p := v.d.parse(v.service, raw)
	v.refused = append(v.refused, p.refused...)
	p.refused = nil
	v.drop(p.name)
	if v.total+len(p.endpoints) > maxEndpoints {
		v.refused = append(v.refused, registry.Refusal{Entry: p.name, Err: fmt.Errorf("it is left out: the service has more than %d endpoints", maxEndpoints-1)})
		return
	}
	if a := v.notes[p.of]; a != nil {
		p.annotate(a)
	}
	v.parts[p.name] = p
	v.total += len(p.endpoints)
}

func (v *view) drop(name string) {
	if p := v.parts[name]; p != nil {
		v.total -= len(p.endpoints)
		delete(v.parts, name)
	}
}

// services takes the annotations of the Services that the slices belong to.
func (v *view) services() sink {
	return sink{
		replace: func(all []json.RawMessage) {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.notes = map[string]*about{}
			for _, raw := range all {
				v.note("ADDED", raw)
			}
			for _, p := range v.parts {
				p.annotate(v.notes[p.of])
			}
			v.tell()
		},
		apply: func(kind string, raw json.RawMessage) {
			v.mu.Lock()
			defer v.mu.Unlock()
			name := v.note(kind, raw)
			for _, p := range v.parts {
				if p.of == name {
					p.annotate(v.notes[name])
				}
			}
			v.tell()
		},
	}
}

// note takes what has become of a Service and returns its name; v.mu is held.
func (v *view) note(kind string, raw json.RawMessage) string {
	var s struct {
		Metadata meta `json:"metadata"`
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		v.refused = append(v.refused, registry.Refusal{Err: fmt.Errorf("no Service: %w", err)})
		return ""
	}
	if kind == "DELETED" {
		delete(v.notes, s.Metadata.Name)
		return s.Metadata.Name
	}
	a, err := parseAbout(s.Metadata.Annotations)
	if err != nil {
		v.refused = append(v.refused, registry.Refusal{Entry: s.Metadata.Name, Err: err})
	}
	v.notes[s.Metadata.Name] = a
	return s.Metadata.Name
}

// tell says what is known, if all is there; v.mu is held.
func (v *view) tell() {
	if v.parts == nil || v.wanted > 1 && v.notes == nil {
		return
	}
	up := merge(v.parts, v.total)
	up.Refused, v.refused = v.refused, nil
	v.emit(up)
}

// claim is what is believed of an ID so far, and the slice that says so.
type claim struct {
	*seen
	by *part
}

// beats reports whether one claim counts more than another. Slices of one family may both list an endpoint while it moves
// from one to the other; then the newer slice is right. Of two families the better state counts, then the preferred family.
func (c claim) beats(o claim) bool {
	switch {
	case c.by.preferred == o.by.preferred && c.by.version != o.by.version:
		return c.by.version > o.by.version
	case c.state != o.state:
		return c.state > o.state
	case c.by.preferred != o.by.preferred:
		return c.by.preferred
	}
	return c.by.name < o.by.name
}

// merge makes one answer of all slices.
func merge(parts map[string]*part, total int) registry.Update {
	best := make(map[string]claim, total)
	for _, p := range parts {
		for i := range p.endpoints {
			c := claim{seen: &p.endpoints[i], by: p}
			if o, ok := best[c.node.ID]; !ok || c.beats(o) {
				best[c.node.ID] = c
			}
		}
	}
	wanted, serving := 0, 0 // of those that are not about to go
	for _, c := range best {
		switch c.state {
		case ready:
			wanted, serving = wanted+1, serving+1
		case unready:
			wanted++
		case gone, draining:
		}
	}
	up := registry.Update{Nodes: make([]*registry.Node, 0, len(best))}
	for id, c := range best {
		switch {
		case c.state >= draining:
			up.Nodes = append(up.Nodes, c.node)
		case c.state == gone:
			up.Left = append(up.Left, registry.Departure{ID: id, Why: "its pod is terminating"})
		case 2*serving >= wanted:
			up.Left = append(up.Left, registry.Departure{ID: id, Why: "its pod is not ready"})
		}
	}
	return up
}
