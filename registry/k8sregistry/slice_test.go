package k8sregistry

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hull-go/hull/registry"
)

func raw(t testing.TB, object map[string]any) json.RawMessage {
	t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestStates(t *testing.T) {
	for text, want := range map[string]state{
		`{}`:                                ready,
		`{"ready":true}`:                    ready,
		`{"ready":false}`:                   unready,
		`{"ready":null,"serving":null}`:     ready,
		`{"ready":false,"serving":true}`:    unready,
		`{"terminating":true}`:              draining,
		`{"ready":true,"terminating":true}`: draining, // publishNotReadyAddresses
		`{"ready":false,"serving":true,"terminating":true}`:  draining,
		`{"ready":false,"serving":false,"terminating":true}`: gone,
		`{"ready":false,"terminating":true}`:                 gone,
	} {
		var e endpoint
		if err := json.Unmarshal([]byte(text), &e.Conditions); err != nil {
			t.Fatal(err)
		}
		if got := e.state(); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

func TestMerge(t *testing.T) {
	type list = []map[string]any
	at := func(version int, s map[string]any) map[string]any {
		s["metadata"].(map[string]any)["resourceVersion"] = fmt.Sprint(version)
		return s
	}
	for name, tt := range map[string]struct {
		slices list
		family int
		want   string
	}{
		"of two families":                       {slices: list{pods("s4", "g", "a 192.0.2.1"), pods("s6", "g", "a 2001:db8::1", "b 2001:db8::2")}, want: "a@192.0.2.1:80 b@[2001:db8::2]:80"},
		"the other preferred":                   {family: 6, slices: list{pods("s4", "g", "a 192.0.2.1"), pods("s6", "g", "a 2001:db8::1")}, want: "a@[2001:db8::1]:80"},
		"one family is not ready":               {slices: list{at(9, pods("s4", "g", "a 192.0.2.1 -")), at(1, pods("s6", "g", "a 2001:db8::1"))}, want: "a@[2001:db8::1]:80"},
		"in two slices, the newer says ready":   {slices: list{at(1, pods("s1", "g", "a 192.0.2.1 -")), at(2, pods("s2", "g", "a 192.0.2.1"))}, want: "a@192.0.2.1:80"},
		"in two slices, the newer says it goes": {slices: list{at(2, pods("s1", "g", "a 192.0.2.1 st")), at(1, pods("s2", "g", "a 192.0.2.1"))}, want: "a@192.0.2.1:80!"},
		"half are ready":                        {slices: list{pods("s1", "g", "a 192.0.2.1", "b 192.0.2.2 -")}, want: "a@192.0.2.1:80 -b"},
		"fewer than half":                       {slices: list{pods("s1", "g", "a 192.0.2.1", "b 192.0.2.2 -", "c 192.0.2.3 -")}, want: "a@192.0.2.1:80"},
		"none":                                  {slices: list{pods("s1", "g", "a 192.0.2.1 -")}, want: ""},
		"who goes does not count":               {slices: list{pods("s1", "g", "a 192.0.2.1", "b 192.0.2.2 -", "c 192.0.2.3 t", "d 192.0.2.4 st")}, want: "a@192.0.2.1:80 d@192.0.2.4:80! -b -c"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newCluster().open(t, Options{Family: tt.family})
			for range 2 { // in any order
				var got registry.Update
				v := newView(d, "g", func(up registry.Update) { got = up })
				var all []json.RawMessage
				for _, s := range tt.slices {
					all = append(all, raw(t, s))
				}
				v.slices().replace(all)
				if show(got) != strings.TrimSpace(tt.want) {
					t.Errorf("%q, want %q", show(got), tt.want)
				}
				slices.Reverse(tt.slices)
			}
		})
	}
}

func TestPorts(t *testing.T) {
	for _, tt := range []struct{ ports, want, got string }{
		{`[{"port":80}]`, "", "80"},
		{`[{"port":80,"protocol":"UDP"},{"port":81,"name":"a"}]`, "", "81"},
		{`[{"port":80,"name":"metrics"},{"port":81,"name":"http"},{"port":82,"name":"grpc"}]`, "", "82"},
		{`[{"port":80,"name":"metrics"},{"port":81,"name":"http"}]`, "metrics", "80"},
		{`[{"port":80,"name":"metrics"},{"port":81,"name":"http"}]`, "81", "81"},
		{`[{"port":80,"name":"metrics"},{"port":81,"name":"http"}]`, "82", "no TCP port 82"},
		{`[{"port":80,"name":"metrics"},{"port":81,"name":"x"}]`, "", "2 ports"},
		{`[{"port":80,"name":"metrics"},{"port":81,"name":"x"}]`, "http", `no TCP port "http"`},
		{`[{"name":"x"}]`, "", "no TCP port"},
		{`[{"name":"x","port":0}]`, "", "no TCP port"},
		{`[]`, "8080", "8080"},
		{`null`, "8080", "8080"},
		{`null`, "70000", "no TCP port"},
		{`null`, "", "no TCP port"},
	} {
		var ports []port
		if err := json.Unmarshal([]byte(tt.ports), &ports); err != nil {
			t.Fatal(err)
		}
		got, err := choosePort(ports, tt.want)
		if err != nil && !strings.Contains(err.Error(), tt.got) || err == nil && fmt.Sprint(*got.Port) != tt.got {
			t.Errorf("%s, wanted %q: %+v, %v; want %s", tt.ports, tt.want, got, err, tt.got)
		}
	}
}

func TestProtocols(t *testing.T) {
	for app, want := range map[string]string{"": "x", "grpc": "grpc", "kubernetes.io/h2c": "grpc", "http": "http", "hull.dev/1": "hull/1 grpc http", "mysql": "x"} {
		if got := strings.Join(protocols(app, []string{"x"}), " "); got != want {
			t.Errorf("%s: %q, want %q", app, got, want)
		}
	}
}

// A service that is too large is bounded, slice by slice.
func TestTooMany(t *testing.T) {
	d := newCluster().open(t, Options{})
	var got registry.Update
	v := newView(d, "g", func(up registry.Update) { got = up })
	big := &part{name: "big"}
	v.parts, v.total = map[string]*part{"big": big}, maxEndpoints-1
	big.endpoints = make([]seen, maxEndpoints-1)
	for i := range big.endpoints {
		big.endpoints[i] = seen{state: ready, node: &registry.Node{ID: fmt.Sprint(i)}}
	}
	v.slices().apply("ADDED", raw(t, pods("s1", "g", "a 192.0.2.1")))
	v.slices().apply("ADDED", raw(t, pods("s2", "g", "b 192.0.2.2")))
	if len(got.Nodes) != maxEndpoints || len(got.Refused) != 1 || got.Refused[0].Entry != "s2" {
		t.Errorf("%d nodes, refused %v", len(got.Nodes), got.Refused)
	}
}

// A message of a watch that does not end is not kept.
func TestEndlessMessage(t *testing.T) {
	e := newEvents(strings.NewReader(`{"type":"BOOKMARK","object":{}}{"type":"` + strings.Repeat("x", 2*maxEvent)))
	if _, err := e.next(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.next(); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Error(err)
	}
}

func FuzzSlice(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"metadata":{"name":"s","labels":{"kubernetes.io/service-name":"g","a":"b"}},"addressType":"IPv6","endpoints":[{"addresses":["::1"],"conditions":{"ready":false},"zone":"z","targetRef":{"kind":"Pod","name":"a"}}],"ports":[{"port":80}]}`))
	f.Add([]byte(`{"endpoints":[{"addresses":[]},{"addresses":["169.254.169.254"]}],"ports":[{"port":80}]}`))
	d := newCluster().open(f, Options{})
	f.Fuzz(func(t *testing.T, data []byte) {
		var got *registry.Update
		v := newView(d, "g", func(up registry.Update) { got = &up })
		v.slices().replace([]json.RawMessage{data, data})
		if got == nil {
			t.Fatal("nothing was said")
		}
		for _, n := range got.Nodes {
			if n.Service != "g" || n.ID == "" || n.Absent {
				t.Errorf("%+v", n)
			}
		}
		for _, r := range got.Refused {
			if r.Err == nil {
				t.Error("refused without a reason")
			}
		}
		v.slices().apply("DELETED", data)
		if len(got.Nodes) != 0 || v.total != 0 {
			t.Errorf("%d nodes are left, %d endpoints", len(got.Nodes), v.total)
		}
	})
}

func FuzzAnnotations(f *testing.F) {
	f.Add("g.G/Hello idempotent\ng.G/Get side-effect-free", "7", "grpc,http")
	f.Fuzz(func(t *testing.T, methods, weight, protocols string) {
		a, err := parseAbout(map[string]string{noteMethods: methods, noteWeight: weight, noteProtocols: protocols})
		if a == nil || err != nil && (a.methods != nil || a.weight != 0 || a.protocols != nil) {
			t.Fatalf("%+v, %v", a, err)
		}
		n := registry.Node{Service: "s", ID: "i", Address: "h:1", Methods: a.methods, Weight: a.weight, Protocols: a.protocols}
		if err := n.Validate(); err != nil {
			t.Error(err)
		}
	})
}
