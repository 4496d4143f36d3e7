package staticregistry_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/registrytest"
	"github.com/hull-go/hull/registry/staticregistry"
)

func harness(t *testing.T, raw string, present ...registry.Node) registrytest.Harness {
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return registrytest.Harness{
		Open: func() registry.Driver {
			d, err := staticregistry.FromURL(u)
			if err != nil {
				t.Fatal(err)
			}
			return d
		},
		ReadOnly: true,
		Present:  present,
		Virtual:  true,
	}
}

func TestConformance(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Harness {
		return harness(t, "static://a.example:80,192.0.2.1:81,a.example:80?service=greeter,other&zone=z",
			registry.Node{Service: "greeter", ID: "a.example:80"}, registry.Node{Service: "greeter", ID: "192.0.2.1:81"},
			registry.Node{Service: "other", ID: "a.example:80"}, registry.Node{Service: "other", ID: "192.0.2.1:81"})
	})
}

func TestConformanceOfAnyService(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Harness {
		h := harness(t, "static:[::1]:80,[2001:db8::1]:81", registry.Node{Service: "*", ID: "[::1]:80"}, registry.Node{Service: "*", ID: "[2001:db8::1]:81"})
		h.Nameless = true
		return h
	})
}

func TestBadURLs(t *testing.T) {
	for raw, want := range map[string]string{
		"static://":                               "host:port",
		"static://a":                              "host:port",
		"static://a:0":                            "port",
		"static://a:80/path":                      "static://",
		"static://user:pw@a:80":                   "static://",
		"static://169.254.169.254:80":             "metadata",
		"static://a:80?service=a/b":               "service",
		"static://a:80?servcie=a":                 "unknown parameter",
		"static://a:80?service=a&service=b":       "once",
		"static://a:80?zone=%0a":                  "control",
		"file://":                                 "static://",
		"static://0.0.0.0:80":                     "cannot be called",
		"static:[::ffff:169.254.169.254]:80,b:80": "metadata",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, err = staticregistry.FromURL(u)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one about %q", raw, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "pw") {
			t.Errorf("%s: the error shows a password: %v", raw, err)
		}
	}
}

func TestSchemes(t *testing.T) {
	u, err := url.Parse("static:grpc://a:1,http://b:2,hull://c:3,d:4")
	if err != nil {
		t.Fatal(err)
	}
	d, err := staticregistry.FromURL(u)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	got := ""
	_ = d.Watch(ctx, "greeter", func(up registry.Update) {
		for _, n := range up.Nodes {
			got += fmt.Sprint(n.ID, n.Protocols, " ")
		}
		cancel()
	})
	if want := "d:4[] a:1[grpc] b:2[http] c:3[hull/1] "; got != want && got != "d:4[] a:1[grpc] c:3[hull/1] b:2[http] " {
		t.Errorf("%q", got)
	}
}
