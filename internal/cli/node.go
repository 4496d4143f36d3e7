package cli

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hull-go/hull/registry"
)

// States of a node as discovery sees it.
const (
	stateReady    = "ready"
	stateDraining = "draining"
	stateDoubtful = "doubtful" // no longer listed, and that is not believed
)

// nodeView is a node as -o json prints it.
type nodeView struct {
	ID        string            `json:"id" doc:"the node's own name"`
	Address   string            `json:"address" doc:"host:port"`
	Version   string            `json:"version,omitempty" doc:"the version it publishes"`
	State     string            `json:"state" doc:"ready, draining (about to leave), or doubtful (no longer listed, but that is not believed yet)"`
	Zone      string            `json:"zone,omitempty" doc:"where it runs"`
	Region    string            `json:"region,omitempty" doc:"where it runs, more coarsely"`
	Weight    int               `json:"weight" doc:"its share of the load relative to the others"`
	Protocols []string          `json:"protocols" doc:"what its port speaks"`
	Labels    map[string]string `json:"labels,omitempty" doc:"what else it says of itself"`
	Started   time.Time         `json:"started,omitzero" doc:"when it started, by its own clock"`
	Methods   []string          `json:"methods,omitempty" doc:"names of the methods it publishes"`
}

func viewNode(n *registry.Node) nodeView {
	v := nodeView{ID: n.ID, Address: n.Address, Version: n.Version, State: stateOf(n), Zone: n.Zone, Region: n.Region,
		Weight: n.EffectiveWeight(), Protocols: n.Protocols, Labels: n.Labels, Started: n.Started}
	if len(v.Protocols) == 0 {
		v.Protocols = []string{protocolNative}
	}
	for _, m := range n.Methods {
		v.Methods = append(v.Methods, m.Name)
	}
	return v
}

// protocolNative is what a node speaks that does not say.
const protocolNative = "hull/1"

func stateOf(n *registry.Node) string {
	switch {
	case n.Absent:
		return stateDoubtful
	case n.Draining:
		return stateDraining
	}
	return stateReady
}

// methodView is a method of a service as -o json prints it.
type methodView struct {
	Name           string `json:"name" doc:"pkg.Service/Method"`
	Idempotent     bool   `json:"idempotent" doc:"every node says that it may be processed twice"`
	SideEffectFree bool   `json:"sideEffectFree" doc:"every node says that it only reads"`
	Nodes          int    `json:"nodes" doc:"how many nodes serve it"`
}

// methodsOf merges what nodes publish: where two disagree, the careful one is right, as it is for calls.
func methodsOf(nodes []*registry.Node) []methodView {
	all := map[string]methodView{}
	for _, n := range nodes {
		for _, m := range n.Methods {
			v, ok := all[m.Name]
			if !ok {
				v = methodView{Name: m.Name, Idempotent: true, SideEffectFree: true}
			}
			v.Idempotent, v.SideEffectFree = v.Idempotent && m.Idempotent, v.SideEffectFree && m.SideEffectFree
			v.Nodes++
			all[m.Name] = v
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b methodView) int { return cmp.Compare(a.Name, b.Name) })
}

// declared says in a word or two what callers may do with a method; empty = nothing but call it once.
func (m *methodView) declared() string {
	switch {
	case m.SideEffectFree:
		return "reads only"
	case m.Idempotent:
		return "idempotent"
	}
	return ""
}

// versionsOf lists the versions of nodes, sorted.
func versionsOf(nodes []*registry.Node) []string {
	found := []string{}
	for _, n := range nodes {
		if n.Version != "" && !slices.Contains(found, n.Version) {
			found = append(found, n.Version)
		}
	}
	slices.Sort(found)
	return found
}

// labelsText writes labels in a row.
func labelsText(labels map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, k+"="+labels[k])
	}
	return strings.Join(list, ",")
}

// place writes zone and region in a row.
func place(n *registry.Node) string {
	if n.Region == "" {
		return n.Zone
	}
	return n.Region + "/" + n.Zone
}

// age is how long ago a node started; empty = not known.
func age(n *registry.Node, now time.Time) string {
	if n.Started.IsZero() {
		return ""
	}
	d := max(now.Sub(n.Started), 0)
	switch {
	case d < time.Minute:
		return d.Truncate(time.Second).String()
	case d < time.Hour:
		return strings.TrimSuffix(d.Truncate(time.Minute).String(), "0s")
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Truncate(time.Hour).String(), "0m0s")
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + "d"
}
