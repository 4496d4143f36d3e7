package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultWeight is the weight of a node that names none.
const DefaultWeight = 100

// What a node may carry. A registry is read by every program of a fleet, so one hostile or broken entry must not cost
// the others more than this.
const (
	maxName      = 253 // service names, IDs
	maxText      = 128 // version, zone, region, label keys
	maxValue     = 1024
	maxLabels    = 64
	maxProtocols = 16
	maxMethods   = 4096
	maxMethod    = 256
	maxWeight    = 1_000_000
)

// Method is what a node says about one of its methods.
type Method struct {
	// Name is "pkg.Service/Method".
	Name string `json:"name"`
	// Idempotent says that processing a call twice has the effect of processing it once: it may be retried.
	Idempotent bool `json:"idempotent,omitempty"`
	// SideEffectFree says that the method only reads: two nodes may process it at the same time (hedging).
	SideEffectFree bool `json:"sideEffectFree,omitempty"`
	// Keyed says that the service's nodes share idempotency keys: a call that has one may be retried on any of them.
	Keyed bool `json:"keyed,omitempty"`
}

// Node is one running instance of a service. A node that came out of a registry is immutable and shared: Clone it
// before changing anything.
type Node struct {
	// ID is the instance's own name, unique among the nodes of its service. Two processes never share one, not even
	// one after the other, unless the second is meant to replace the first.
	ID string `json:"id"`
	// Service is the discovery name.
	Service string `json:"service"`
	// Version is free text without blanks; empty = unversioned.
	Version string `json:"version,omitempty"`
	// Address is host:port.
	Address string `json:"address"`
	// Protocols are what the port speaks: "hull/1", "grpc", "http" …; empty = it does not say, and callers try "hull/1" first.
	Protocols []string `json:"protocols,omitempty"`
	// Zone and Region say where the node runs; empty = not known.
	Zone   string `json:"zone,omitempty"`
	Region string `json:"region,omitempty"`
	// Weight is the node's share of the load relative to the others; 0 = DefaultWeight.
	Weight int `json:"weight,omitempty"`
	// Labels are free; empty values are allowed.
	Labels map[string]string `json:"labels,omitempty"`
	// Methods are what the node serves and what callers may do with it; nil = it does not say.
	Methods []Method `json:"methods,omitempty"`
	// Draining says that the node still answers, but is about to leave: choose another.
	Draining bool `json:"draining,omitempty"`
	// Started is when the instance started, by its own clock; zero = not known.
	Started time.Time `json:"started,omitzero"`
	// Identifies says that the instance knows this ID as its own: it answers who it is when asked, and refuses calls that
	// are meant for another. Hull's servers set it. What is said of other nodes cannot be checked.
	Identifies bool `json:"identifies,omitempty"`
	// Remembers says that the process remembers idempotency keys, by itself and not together with other nodes (see Method.Keyed): a call that has one may
	// be made again, to the same process and no other.
	Remembers bool `json:"remembers,omitempty"`
	// Absent is set by the Registry alone: the engine no longer lists the node and the Registry does not believe it
	// (see the package comment). A balancer takes such a node as long as it answers; one that never answered here only
	// when no other is left.
	Absent bool `json:"-"`
}

// Clone returns a deep copy that may be changed.
func (n *Node) Clone() *Node {
	c := *n
	c.Protocols = slices.Clone(n.Protocols)
	c.Labels = maps.Clone(n.Labels)
	c.Methods = slices.Clone(n.Methods)
	return &c
}

// Equal reports whether two nodes say the same.
func (n *Node) Equal(m *Node) bool {
	if n == m {
		return true
	}
	return n.ID == m.ID && n.Service == m.Service && n.Version == m.Version && n.Address == m.Address &&
		n.Zone == m.Zone && n.Region == m.Region && n.Weight == m.Weight && n.Draining == m.Draining &&
		n.Absent == m.Absent && n.Identifies == m.Identifies && n.Remembers == m.Remembers && n.Started.Equal(m.Started) && slices.Equal(n.Protocols, m.Protocols) &&
		slices.Equal(n.Methods, m.Methods) && maps.Equal(n.Labels, m.Labels)
}

// Method returns what the node says about a method, and whether it says anything.
func (n *Node) Method(name string) (Method, bool) {
	for i := range n.Methods {
		if n.Methods[i].Name == name {
			return n.Methods[i], true
		}
	}
	return Method{}, false
}

// Speaks reports whether the node speaks a protocol.
func (n *Node) Speaks(protocol string) bool {
	if len(n.Protocols) == 0 {
		return protocol == "hull/1"
	}
	return slices.Contains(n.Protocols, protocol)
}

// EffectiveWeight returns Weight, or DefaultWeight when it is 0.
func (n *Node) EffectiveWeight() int {
	if n.Weight == 0 {
		return DefaultWeight
	}
	return n.Weight
}

// Validate returns the first thing wrong with the node, or nil. Every node is validated before it is announced and
// again when it is read: what others wrote is not trusted.
func (n *Node) Validate() error {
	if err := ValidName("service", n.Service); err != nil {
		return err
	}
	if err := ValidName("node id", n.ID); err != nil {
		return err
	}
	if err := validAddress(n.Address); err != nil {
		return err
	}
	for _, f := range [...]struct{ what, value string }{
		{"version", n.Version}, {"zone", n.Zone}, {"region", n.Region},
	} {
		if err := validText(f.what, f.value, maxText); err != nil {
			return err
		}
	}
	if n.Weight < 0 || n.Weight > maxWeight {
		return fmt.Errorf("weight %d: choose one from 0 (= %d) to %d", n.Weight, DefaultWeight, maxWeight)
	}
	if len(n.Protocols) > maxProtocols || len(n.Labels) > maxLabels || len(n.Methods) > maxMethods {
		return fmt.Errorf("too many protocols, labels or methods: at most %d, %d and %d", maxProtocols, maxLabels, maxMethods)
	}
	for _, p := range n.Protocols {
		if p == "" {
			return fmt.Errorf("empty protocol name: leave it out")
		}
		if err := validText("protocol", p, maxText); err != nil {
			return err
		}
	}
	for k, v := range n.Labels {
		if k == "" {
			return fmt.Errorf("empty label name: leave it out")
		}
		if err := validText("label name", k, maxText); err != nil {
			return err
		}
		if err := validText("label "+k, v, maxValue); err != nil {
			return err
		}
	}
	for i := range n.Methods {
		if err := validMethod(n.Methods[i].Name); err != nil {
			return err
		}
	}
	return nil
}

// ValidName returns an error unless name may be the name of a service or the ID of a node: 1 to 253 letters, digits
// and . _ - : @ % + = ~ [ ], beginning with a letter, a digit or a bracket. what is how the error calls it.
func ValidName(what, name string) error {
	if name == "" {
		return fmt.Errorf("empty %s: give it one", what)
	}
	if len(name) > maxName {
		return fmt.Errorf("%s %.20q… has %d bytes: at most %d", what, name, len(name), maxName)
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '[':
		case i > 0 && strings.IndexByte("._-:@%+=~]", c) >= 0:
		default:
			return fmt.Errorf("%s %.40q: only letters, digits and . _ - : @ %% + = ~ [ ] are allowed, beginning with a letter or digit", what, name)
		}
	}
	return nil
}

// EscapeName turns a name into one that is safe as part of a file name or a key on every system, unlike any other
// name's in either case: letters in lower case, digits, dots and dashes stay, the rest becomes %xx, and what gets
// longer than 100 bytes ends in ~ and a hash instead.
func EscapeName(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '.' && i > 0 || c == '-' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	if b.Len() <= 100 {
		return b.String()
	}
	sum := sha256.Sum256([]byte(name))
	return b.String()[:64] + "~" + hex.EncodeToString(sum[:16])
}

// validText allows printable ASCII and any letter beyond it, but nothing that could break a line of a log or a table.
func validText(what, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%s has %d bytes: at most %d", what, len(s), limit)
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == '\uFFFD' || (r >= 0x80 && !strconv.IsPrint(r)) {
			return fmt.Errorf("%s %.40q: control characters are not allowed", what, s)
		}
	}
	return nil
}

func validMethod(name string) error {
	service, method, ok := strings.Cut(name, "/")
	if !ok || service == "" || method == "" || len(name) > maxMethod || strings.Contains(method, "/") {
		return fmt.Errorf("method %.40q: write it as \"pkg.Service/Method\", at most %d bytes", name, maxMethod)
	}
	return validText("method", name, maxMethod)
}

// metadata are the addresses, and metadataNames the names, at which clouds hand credentials to whoever asks. No service lives
// there, but an entry that points at them would make every caller ask.
var (
	metadata = [...]netip.Addr{
		netip.AddrFrom4([4]byte{169, 254, 169, 254}),
		netip.AddrFrom4([4]byte{169, 254, 170, 2}),  // of AWS's containers
		netip.AddrFrom4([4]byte{169, 254, 170, 23}), // of AWS's pods
		netip.AddrFrom4([4]byte{169, 254, 0, 23}),   // Tencent
		netip.AddrFrom4([4]byte{100, 100, 100, 200}),
		netip.AddrFrom4([4]byte{168, 63, 129, 16}), // Azure's hosts
		netip.MustParseAddr("fd00:ec2::254"),
		netip.MustParseAddr("fd00:ec2::23"),
		netip.MustParseAddr("fe80::a9fe:a9fe"),
	}
	metadataNames = [...]string{"metadata", "metadata.google.internal", "metadata.goog", "metadata.tencentyun.com", "instance-data", "instance-data.ec2.internal"}
	// nat64 is in front of IPv4 addresses that an IPv6 network can reach.
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

// isMetadata reports whether an address is one of a cloud's metadata service, in whatever form.
func isMetadata(ip netip.Addr) bool {
	if nat64.Contains(ip) {
		b := ip.As16()
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	return slices.Contains(metadata[:], ip)
}

// unixScheme begins the address of a node that listens on a Unix socket.
const unixScheme = "unix://"

// maxSocket is how long the path of a Unix socket may be; systems differ.
const maxSocket = 104

func validAddress(address string) error {
	const form = "write it as host:port with a port from 1 to 65535"
	if name, ok := strings.CutPrefix(address, unixScheme); ok {
		if !path.IsAbs(name) || path.Clean(name) != name || len(name) < 2 || len(name) >= maxSocket {
			return fmt.Errorf("address %.60q: a Unix socket is named by its whole path, of less than %d bytes: unix:///run/greeter.sock", address, maxSocket)
		}
		return validText("address", address, len(address))
	}
	i := strings.LastIndexByte(address, ':')
	if i <= 0 || len(address) > maxName+6 {
		return fmt.Errorf("address %.60q: %s", address, form)
	}
	host, port := address[:i], address[i+1:]
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil || p == 0 || port[0] == '+' || port[0] == '0' {
		return fmt.Errorf("address %.60q: %s", address, form)
	}
	bracketed := host[0] == '[' && host[len(host)-1] == ']'
	if bracketed {
		host = host[1 : len(host)-1]
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Is6() != bracketed {
			return fmt.Errorf("address %.60q: an IPv6 host goes in brackets, and only that: [::1]:80", address)
		}
		ip = ip.Unmap().WithZone("")
		if ip.IsUnspecified() || ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
			return fmt.Errorf("address %.60q cannot be called: give the one that others reach the node at", address)
		}
		if isMetadata(ip) {
			return fmt.Errorf("address %.60q is a cloud's metadata service, not a node", address)
		}
		return nil
	}
	for i := range len(host) {
		c := host[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || i > 0 && (c == '.' || c == '-' || c == '_')) {
			return fmt.Errorf("address %.60q: a host is an IP address or a name of letters, digits, dots and dashes", address)
		}
	}
	if bracketed {
		return fmt.Errorf("address %.60q: only an IPv6 host goes in brackets", address)
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if slices.Contains(metadataNames[:], name) {
		return fmt.Errorf("address %.60q is a cloud's metadata service, not a node", address)
	}
	// Resolvers take 2852039166 and 0xa9fea9fe for addresses, which would get around all of the above.
	if last := name[strings.LastIndexByte(name, '.')+1:]; last == "" || strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") && strings.Trim(last[2:], "0123456789abcdef") == "" {
		return fmt.Errorf("address %.60q: write an IP address as such, and no host's name ends in a number", address)
	}
	return nil
}
