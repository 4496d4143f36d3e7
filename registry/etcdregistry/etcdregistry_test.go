package etcdregistry_test

import (
	"strings"
	"testing"

	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/etcdregistry"
)

// The driver itself is tested against real servers, in the module integration.
func TestURLs(t *testing.T) {
	for raw, want := range map[string]string{
		"etcd://h": "",
		"etcd://[::1]:2379,[::2]:2379,h?prefix=/x": "",
		"etcd://me:secret@h:2379?tls=true":         "",
		"etcd://me@h":                              "user:password",
		"etcd://:secret@h":                         "user:password",
		"etcd://":                                  "host",
		"etcd://h/path":                            "etcd://host:port",
		"etcd:h":                                   "etcd://host:port",
		"file://":                                  "etcd://host:port",
		"etcd://me:secret@h?prefixx=secret":        "unknown parameter",
		"etcd://me:secret@h?tls=secre":             "true or false",
		"etcd://h?prefix=" + strings.Repeat("x", 300): "shorter",
	} {
		u, err := registry.ParseURL(raw)
		if err != nil {
			t.Fatal(err)
		}
		d, err := etcdregistry.FromURL(u)
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%.80s: error %v, want one about %q", raw, err, want)
		}
		if err != nil {
			continue
		}
		if err := d.(*etcdregistry.Driver).Close(); err != nil {
			t.Errorf("%s: close: %v", raw, err)
		}
	}
}
