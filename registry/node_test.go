package registry

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	long := strings.Repeat("x", 5000)
	cases := map[string]func(*Node){
		"empty service":     func(n *Node) { n.Service = "" },
		"empty node id":     func(n *Node) { n.ID = "" },
		"only letters":      func(n *Node) { n.ID = "a/b" },
		"node id \"..\"":    func(n *Node) { n.ID = ".." },
		"service \"a\\nb\"": func(n *Node) { n.Service = "a\nb" },
		"at most 253":       func(n *Node) { n.Service = long },
		"host:port":         func(n *Node) { n.Address = "localhost" },
		"from 1 to 65535":   func(n *Node) { n.Address = "localhost:0" },
		"address \"h:65536": func(n *Node) { n.Address = "h:65536" },
		"address \"h:080":   func(n *Node) { n.Address = "h:080" },
		"address \":80":     func(n *Node) { n.Address = ":80" },
		"in brackets":       func(n *Node) { n.Address = "::1:80" },
		"only an IPv6":      func(n *Node) { n.Address = "[host]:80" },
		"letters, digits":   func(n *Node) { n.Address = "ho st:80" },
		"address \"user@":   func(n *Node) { n.Address = "user@host:80" },
		"be called":         func(n *Node) { n.Address = "[::]:80" },
		"metadata":          func(n *Node) { n.Address = "[fd00:ec2::254]:80" },
		"version":           func(n *Node) { n.Version = "1\x00" },
		"zone":              func(n *Node) { n.Zone = "\u202ez" },
		"region":            func(n *Node) { n.Region = long },
		"weight":            func(n *Node) { n.Weight = -1 },
		"too many":          func(n *Node) { n.Protocols = slices.Repeat([]string{"p"}, 100) },
		"empty protocol":    func(n *Node) { n.Protocols = []string{""} },
		"empty label":       func(n *Node) { n.Labels = map[string]string{"": "x"} },
		"label k":           func(n *Node) { n.Labels = map[string]string{"k": long} },
		"method \"M\"":      func(n *Node) { n.Methods = []Method{{Name: "M"}} },
		"method \"a/b/c\"":  func(n *Node) { n.Methods = []Method{{Name: "a/b/c"}} },
	}
	for want, spoil := range cases {
		n := testNode("a")
		spoil(n)
		if err := n.Validate(); err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 300 {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for _, address := range []string{"localhost:80", "[::1]:80", "[fe80::1%eth0]:65535", "10.0.0.1:1", "a-b.c_d.example:8080", "node-1:80"} {
		n := testNode("a")
		n.Address = address
		if err := n.Validate(); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestNodeIsCopiedComparedAndWrittenWhole(t *testing.T) {
	full := &Node{ID: "a", Service: "s", Version: "1", Address: "h:1", Protocols: []string{"grpc"}, Zone: "z", Region: "r",
		Weight: 1, Labels: map[string]string{"k": "v"}, Methods: []Method{{Name: "a/b", Idempotent: true}}, Draining: true,
		Started: time.Unix(1, 2).UTC(), Identifies: true, Remembers: true, Absent: true}
	v := reflect.ValueOf(full).Elem()
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Fatalf("field %s is not set by this test", v.Type().Field(i).Name)
		}
		c := full.Clone()
		if !c.Equal(full) {
			t.Fatal("a copy differs")
		}
		reflect.ValueOf(c).Elem().Field(i).SetZero()
		if c.Equal(full) || full.Equal(c) {
			t.Errorf("Equal does not look at %s", v.Type().Field(i).Name)
		}
	}
	c := full.Clone()
	c.Protocols[0], c.Labels["k"], c.Methods[0].Name = "x", "x", "x"
	if full.Protocols[0] == "x" || full.Labels["k"] == "x" || full.Methods[0].Name == "x" {
		t.Error("a copy shares memory")
	}
	data, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	var back Node
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if back.Absent = true; !back.Equal(full) {
		t.Errorf("%s", data)
	}
	if err := json.Unmarshal([]byte(`{"absent":true,"Absent":true}`), &Node{}); err != nil {
		t.Error(err)
	}
}

func TestNodeSays(t *testing.T) {
	n := &Node{Methods: []Method{{Name: "a/b", Idempotent: true}}}
	if m, ok := n.Method("a/b"); !ok || !m.Idempotent {
		t.Error(m, ok)
	}
	if _, ok := n.Method("a/c"); ok {
		t.Error("a/c")
	}
	if !n.Speaks("hull/1") || n.Speaks("grpc") || n.EffectiveWeight() != DefaultWeight {
		t.Error("defaults")
	}
	n.Protocols, n.Weight = []string{"grpc"}, 3
	if n.Speaks("hull/1") || !n.Speaks("grpc") || n.EffectiveWeight() != 3 {
		t.Error("what is set")
	}
}

// Nobody is sent to where clouds hand out credentials, in whatever way it is written.
func TestMetadataServices(t *testing.T) {
	for _, host := range []string{"169.254.169.254", "[::ffff:169.254.169.254]", "[64:ff9b::169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "169.254.170.2", "169.254.170.23",
		"100.100.100.200", "168.63.129.16", "[fd00:ec2::254]", "[fd00:ec2::254%eth0]", "[fe80::a9fe:a9fe%eth0]", "169.254.169.254.", "2852039166", "0xA9FEA9FE", "0251.0376.0251.0376",
		"0xa9.0xfe.0xa9.0xfe", "169.254.43518", "metadata.google.internal", "METADATA.google.internal.", "metadata", "instance-data"} {
		if err := (&Node{Service: "s", ID: "i", Address: host + ":80"}).Validate(); err == nil {
			t.Errorf("%s may be called", host)
		}
	}
	for _, host := range []string{"10.0.0.1", "169.254.1.1", "host-1", "n1.example", "metadata.example", "pod-0.greeter.shop.svc", "a.0b", "1-2-3-4.shop.pod.cluster.local", "h2", "host.", "0xyz"} {
		if err := (&Node{Service: "s", ID: "i", Address: host + ":80"}).Validate(); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}
