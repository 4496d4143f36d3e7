package natsregistry

import (
	"strings"
	"testing"

	"github.com/hull-go/hull/registry"
)

// The driver itself is tested against real servers, in the module integration.
func TestURLs(t *testing.T) {
	for raw, want := range map[string]string{
		"nats://h": "",
		"nats://[::1]:4222,[::2],h?bucket=x&replicas=3&storage=memory": "",
		"nats://me:secret@h?tls=true":                                  "",
		"nats://secret@h":                                              "",
		"nats://h?creds=/some/file":                                    "",
		"nats://me:secret@h?creds=/some/file":                          "twice",
		"nats://":                                                      "host",
		"nats://h/path":                                                "nats://host:port",
		"nats:h":                                                       "nats://host:port",
		"file://":                                                      "nats://host:port",
		"nats://me:secret@h?buckett=secret":                            "unknown parameter",
		"nats://h?bucket=a.b":                                          "bucket",
		"nats://h?replicas=0":                                          "replicas",
		"nats://h?replicas=9":                                          "replicas",
		"nats://h?storage=tape":                                        "file or memory",
	} {
		u, err := registry.ParseURL(raw)
		if err != nil {
			t.Fatal(err)
		}
		d, err := FromURL(u)
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: error %v, want one about %q", raw, err, want)
		}
		if err != nil {
			continue
		}
		if err := d.(*Driver).Close(); err != nil {
			t.Errorf("%s: close: %v", raw, err)
		}
	}
}

func TestKeys(t *testing.T) {
	for _, name := range []string{"a", "A", "a.b", "a-b_c", "[::1]:80", "x+y=z~", "a%40b"} {
		key := nodeKey("greeter", name)
		if strings.Count(key, ".") != 2 || strings.ContainsAny(key, "*> :%[]") {
			t.Errorf("%s: the key %q is no subject of three tokens", name, key)
		}
		if s, id, ok := parseKey(key); !ok || s != "greeter" || id != name {
			t.Errorf("%s: %q, %q, %v", name, s, id, ok)
		}
	}
	for _, key := range []string{"", "nodes", "nodes.a", "nodes.a.b.c", "other.a.b", "nodes.a.=4", "nodes.a.=GG", "nodes.a.=41", "nodes.a.=2e", "nodes.=20.b", "nodes..b"} {
		if s, id, ok := parseKey(key); ok {
			t.Errorf("%q is taken for node %q of %q", key, id, s)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add("nodes.a=2Eb.c")
	f.Fuzz(func(t *testing.T, key string) {
		if s, id, ok := parseKey(key); ok && nodeKey(s, id) != key {
			t.Errorf("%q became %q", key, nodeKey(s, id))
		}
	})
}
