package zkregistry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hull-go/hull/registry"
)

// The driver itself is tested against real servers, in the module integration.
func TestURLs(t *testing.T) {
	for raw, want := range map[string]string{
		"zk://h":                              "",
		"zk://[::1]:2181,[::2],h?prefix=/a/b": "",
		"zk://h?prefix=a":                     "",
		"zk://me:secret@h?tls=true":           "",
		"zk://secret@h":                       "a user and a password",
		"zk://":                               "host",
		"zk://h/path":                         "zk://host:port",
		"zk:h":                                "zk://host:port",
		"file://":                             "zk://host:port",
		"zk://me:secret@h?prefixx=secret":     "unknown parameter",
		"zk://h?prefix=/":                     "prefix",
		"zk://h?prefix=/a//b":                 "prefix",
		"zk://h?prefix=/a/../b":               "prefix",
		"zk://h?prefix=/zookeeper":            "prefix",
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

func TestPaths(t *testing.T) {
	d, err := New([]string{"h:1"}, Options{Prefix: "a/b/"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, name := range []string{"a", "A", "a.b", "[::1]:80", "x+y=z~", "a%40b"} {
		path := d.nodePath("greeter", name)
		if s, id, ok := d.parsePath(path); !ok || s != "greeter" || id != name {
			t.Errorf("%s: %q, %q, %v", path, s, id, ok)
		}
	}
	if s, id, ok := d.parsePath(d.servicePath("greeter")); !ok || s != "greeter" || id != "" {
		t.Errorf("a service's own path: %q, %q, %v", s, id, ok)
	}
	for _, path := range []string{"", "/", "/a/b", "/a/b/", "/a/c/s/n", "/a/b/s/n/x", "/a/b/_/n"} {
		if s, id, ok := d.parsePath(path); ok {
			t.Errorf("%q is taken for node %q of %q", path, id, s)
		}
	}
}

func TestLog(t *testing.T) {
	var text []byte
	for i := range maxLog + 10 {
		var err error
		if text, err = encodeLog(decodeLog(text), entry{ID: fmt.Sprintf("n%d", i), Created: int64(i), Why: byHand}); err != nil {
			t.Fatal(err)
		}
	}
	got := decodeLog(text)
	if len(got) != maxLog || got[0] != (entry{"n10", 10, byHand}) || got[maxLog-1].ID != fmt.Sprintf("n%d", maxLog+9) {
		t.Errorf("%d entries, from %+v", len(got), got[0])
	}
	for _, garbage := range []string{"", "hello", "{}", `{"hull":2,"left":[{"id":"a"}]}`, `{"hull":1,"left":[{"id":"/"}]}`, `{"hull":1,"left":3}`} {
		if got := decodeLog([]byte(garbage)); len(got) != 0 {
			t.Errorf("%s is read as %+v", garbage, got)
		}
	}
	if got := decodeLog([]byte(`{"hull":1,"left":[{"id":"a","created":3,"why":"\u001b[31m"}]}`)); len(got) != 1 || got[0] != (entry{"a", 3, deregistered}) {
		t.Errorf("a reason by others is read as %+v", got)
	}
}

func FuzzDecodeLog(f *testing.F) {
	f.Add([]byte(`{"hull":1,"left":[{"id":"a","created":3,"why":"deregistered by hand"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, e := range decodeLog(b) {
			if registry.ValidName("node id", e.ID) != nil || e.Why != deregistered && e.Why != byHand {
				t.Errorf("%+v", e)
			}
		}
	})
}
