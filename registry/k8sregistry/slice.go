package k8sregistry

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/hull-go/hull/registry"
)

// Names of Hull's own labels and annotations.
const (
	labelVersion    = "hull.dev/version"
	labelNodeID     = "hull.dev/node-id"
	appVersion      = "app.kubernetes.io/version"
	noteMethods     = "hull.dev/methods"
	noteWeight      = "hull.dev/weight"
	noteProtocols   = "hull.dev/protocols"
	hullAppProtocol = "hull.dev/1"

	// maxLabels and maxLabelName bound what a node takes over of its Service's labels.
	maxLabels, maxLabelName = 60, 128
)

// endpointSlice is what is read of one.
type endpointSlice struct {
	Metadata    meta       `json:"metadata"`
	AddressType string     `json:"addressType"`
	Endpoints   []endpoint `json:"endpoints"`
	Ports       []port     `json:"ports"`
}

type endpoint struct {
	Addresses  []string `json:"addresses"`
	Conditions struct {
		Ready       *bool `json:"ready"`
		Serving     *bool `json:"serving"`
		Terminating *bool `json:"terminating"`
	} `json:"conditions"`
	TargetRef *struct {
		Kind string `json:"kind"`
		Name string `json:"name"`
	} `json:"targetRef"`
	NodeName string `json:"nodeName"`
	Zone     string `json:"zone"`
}

type port struct {
	Name        string  `json:"name"`
	Protocol    string  `json:"protocol"`
	Port        *uint16 `json:"port"`
	AppProtocol string  `json:"appProtocol"`
}

// state is what a slice says of an endpoint; the more of use comes later.
type state int

const (
	gone    state = iota // terminating, and not serving any more
	unready              // not to be called
	draining
	ready
)

// state reads the conditions. What is not said is as Kubernetes defines it: ready, serving if ready, not terminating.
func (e *endpoint) state() state {
	c := &e.Conditions
	isReady := c.Ready == nil || *c.Ready
	serving := isReady
	if c.Serving != nil {
		serving = *c.Serving
	}
	switch terminating := c.Terminating != nil && *c.Terminating; {
	case terminating && serving:
		return draining
	case terminating:
		return gone
	case isReady:
		return ready
	}
	return unready
}

// seen is an endpoint as a part has it.
type seen struct {
	state state
	// plain is the node as the slice describes it, node with what its Service's annotations add.
	plain, node *registry.Node
}

// part is a slice, read.
type part struct {
	// name is its own, service what its label says, of the name of the Service it belongs to.
	name, service, of string
	// version orders what several slices say of one endpoint.
	version   uint64
	preferred bool // it is of the family that is preferred
	endpoints []seen
	refused   []registry.Refusal
}

// parse reads a slice; service is the name of its nodes', empty = what the label says.
func (d *Driver) parse(service string, raw json.RawMessage) *part {
	var s endpointSlice
	err := json.Unmarshal(raw, &s)
	if err != nil {
		var named struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
		}
		_ = json.Unmarshal(raw, &named) // then it has none
		p := &part{name: named.Metadata.Name}
		p.refuse(fmt.Errorf("no EndpointSlice: %w", err))
		return p
	}
	p := &part{name: s.Metadata.Name, service: s.Metadata.Labels[d.opt.Label], of: s.Metadata.Labels[DefaultLabel],
		preferred: s.AddressType == "IPv"+strconv.Itoa(d.opt.Family)}
	p.version, _ = strconv.ParseUint(s.Metadata.ResourceVersion, 10, 64) // else the slices are alike
	if service == "" {
		service = p.service
	}
	if len(s.Endpoints) == 0 {
		return p
	}
	at, err := choosePort(s.Ports, d.opt.Port)
	if err != nil {
		p.refuse(err)
		return p
	}
	proto := protocols(at.AppProtocol, d.opt.Protocols)
	version := s.Metadata.Labels[labelVersion]
	if version == "" {
		version = s.Metadata.Labels[appVersion]
	}
	labels := nodeLabels(s.Metadata.Labels)
	byPods := s.Metadata.Labels[labelNodeID] == "pod"
	p.endpoints = make([]seen, 0, len(s.Endpoints))
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if len(e.Addresses) == 0 {
			p.refuse(errors.New("an endpoint without an address"))
			continue
		}
		n := &registry.Node{Service: service, Address: net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*at.Port))), Version: version,
			Zone: e.Zone, Protocols: proto, Labels: labels.of(e.NodeName)}
		n.ID = n.Address
		if e.TargetRef != nil && e.TargetRef.Kind == "Pod" && e.TargetRef.Name != "" {
			n.ID, n.Identifies = e.TargetRef.Name, byPods
		}
		st := e.state()
		n.Draining = st == draining
		p.endpoints = append(p.endpoints, seen{state: st, plain: n, node: n})
	}
	return p
}

func (p *part) refuse(err error) {
	p.refused = append(p.refused, registry.Refusal{Entry: p.name, Err: err})
}

// choosePort returns the port that nodes are called at.
func choosePort(ports []port, want string) (port, error) {
	var usable []port
	for _, p := range ports {
		if p.Port != nil && *p.Port != 0 && (p.Protocol == "" || p.Protocol == "TCP") {
			usable = append(usable, p)
		}
	}
	number, err := strconv.ParseUint(want, 10, 16)
	if err == nil && number > 0 {
		if len(ports) == 0 { // a headless Service need not say
			n := uint16(number)
			return port{Port: &n}, nil
		}
		for _, p := range usable {
			if uint64(*p.Port) == number {
				return p, nil
			}
		}
		return port{}, fmt.Errorf("it has no TCP port %d", number)
	}
	names := []string{want}
	if want == "" {
		if len(usable) == 1 {
			return usable[0], nil
		}
		names = []string{"hull", "grpc", "http"}
	}
	for _, name := range names {
		for _, p := range usable {
			if p.Name == name {
				return p, nil
			}
		}
	}
	switch {
	case want != "":
		return port{}, fmt.Errorf("it has no TCP port %.60q", want)
	case len(usable) == 0:
		return port{}, errors.New("it has no TCP port: say one with port=NUMBER")
	}
	return port{}, fmt.Errorf("it has %d ports, none called hull, grpc or http: say one with port=NAME", len(usable))
}

// protocols is what a port speaks.
func protocols(app string, otherwise []string) []string {
	switch app {
	case hullAppProtocol:
		return []string{"hull/1", "grpc", "http"}
	case "grpc", "kubernetes.io/h2c":
		return []string{"grpc"}
	case "http", "https":
		return []string{"http"}
	}
	return otherwise
}

// labelSet makes the labels of nodes; those on one machine share theirs.
type labelSet struct {
	common map[string]string
	nodes  map[string]map[string]string
}

func nodeLabels(all map[string]string) *labelSet {
	l := &labelSet{common: map[string]string{}, nodes: map[string]map[string]string{}}
	for _, k := range slices.Sorted(maps.Keys(all)) {
		domain, _, _ := strings.Cut(k, "/")
		switch domain {
		case "kubernetes.io", "endpointslice.kubernetes.io", "service.kubernetes.io": // Kubernetes' own
			continue
		}
		if len(k) <= maxLabelName && len(l.common) < maxLabels {
			l.common[k] = all[k]
		}
	}
	return l
}

func (l *labelSet) of(node string) map[string]string {
	m := l.nodes[node]
	if m == nil {
		m = maps.Clone(l.common)
		if node != "" {
			m["node"] = node
		}
		l.nodes[node] = m
	}
	return m
}

// about is what the annotations of a Service say.
type about struct {
	methods   []registry.Method
	weight    int
	protocols []string
}

// parseAbout reads a Service's annotations; what is wrong in them is no part of what it returns.
func parseAbout(notes map[string]string) (*about, error) {
	a := &about{protocols: list(notes[noteProtocols])}
	if s := notes[noteWeight]; s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			return &about{}, fmt.Errorf("%s: %.40q is no number", noteWeight, s)
		}
		a.weight = n
	}
	for line := range strings.Lines(notes[noteMethods]) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		m := registry.Method{Name: words[0]}
		for _, w := range words[1:] {
			switch w {
			case "idempotent":
				m.Idempotent = true
			case "side-effect-free":
				m.SideEffectFree = true
			default:
				return &about{}, fmt.Errorf("%s: %.40q: write a method's name and then idempotent, or side-effect-free", noteMethods, w)
			}
		}
		a.methods = append(a.methods, m)
	}
	try := registry.Node{Service: "a", ID: "a", Address: "a:1", Weight: a.weight, Protocols: a.protocols, Methods: a.methods}
	if err := try.Validate(); err != nil {
		return &about{}, err
	}
	return a, nil
}

// annotate gives a part's nodes what the annotations say; nil = nothing.
func (p *part) annotate(a *about) {
	for i := range p.endpoints {
		e := &p.endpoints[i]
		if a == nil {
			e.node = e.plain
			continue
		}
		n := *e.plain // which is shared, and nobody changes
		n.Methods, n.Weight = a.methods, a.weight
		if len(a.protocols) > 0 {
			n.Protocols = a.protocols
		}
		e.node = &n
	}
}
