package registry

import (
	"net"
	"net/url"
	"strings"
	"testing"
)

func TestCheckQuery(t *testing.T) {
	known := []Parameter{{Name: "a"}, {Name: "b"}}
	for raw, want := range map[string]string{
		"x://h?a=1&b=2":     "",
		"x://h":             "",
		"x://h?a=1&a=2":     "once is enough",
		"x://h?c=1":         "a x registry has a, b",
		"x://h?a=%zz":       "cannot be read",
		"x://u:secret@h?c=": "unknown parameter",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		q, err := CheckQuery(u, known)
		if want == "" && (err != nil || q.Get("a") != u.Query().Get("a")) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", raw, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows a password: %v", raw, err)
		}
	}
}

func TestParseURL(t *testing.T) {
	for raw, want := range map[string]string{
		"etcd://h":                               "h:1",
		"etcd://h:5":                             "h:5",
		"etcd://h,i:5/x?p=1":                     "h:1 i:5",
		"etcd://[::1],[::2]:5":                   "[::1]:1 [::2]:5",
		"etcd://u:p@[2001:db8::1]:5,h?prefix=/a": "[2001:db8::1]:5 h:1",
		"etcd://h:5,h:5":                         "h:5",
		"etcd://u:p%2Fw%40@a,b":                  "a:1 b:1",
	} {
		u, err := ParseURL(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if got, err := Hosts(u, "1"); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q, %v; want %q", raw, got, err, want)
		}
	}
	for _, raw := range []string{"etcd://", "etcd://a,", "etcd://a:0", "etcd://a:x", "etcd://a,b:70000", "etcd://::1", "etcd://a b,c", "etcd://[::1", "etcd://[::1]x,b"} {
		u, err := ParseURL(raw)
		if err == nil {
			_, err = Hosts(u, "1")
		}
		if err == nil {
			t.Errorf("%s: no error", raw)
		}
	}
	if u, err := ParseURL("etcd://h"); err != nil {
		t.Error(err)
	} else if _, err := Hosts(u, ""); err == nil {
		t.Error("a host without a port, and none to take instead: no error")
	}
}

func TestNobodySeesAPassword(t *testing.T) {
	for _, raw := range []string{"etcd://me:secret@a:1,b:2/x?password=secret", "etcd://me:sec/secret@a", "etcd://me:1/secret@a",
		"etcd://me:secret#secret@a,b", "etcd://me:%zzsecret@a", "etcd://me:secret@a:x", "etcd://me:secret@[::1,b", "me:secret@a:1",
		"etcd://secret@a?x=secret", "etcd://a:secret,b@c", "etcd:me:secret@a"} {
		u, err := ParseURL(raw)
		if err != nil {
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: the error is %v", raw, err)
			}
			continue
		}
		if s := Redact(u); strings.Contains(s, "secret") {
			t.Errorf("%s: redacted to %s", raw, s)
		}
		if _, err := Hosts(u, "1"); err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: hosts: %v", raw, err)
		}
	}
	for raw, want := range map[string]string{"file:///a/b?poll=1s": "file:///a/b", "etcd://u:p@a:1,[::1]:2?prefix=x": "etcd://a:1,[::1]:2",
		"static:[::1]:80": "static:[::1]:80", "file://": "file://"} {
		u, err := ParseURL(raw)
		if err != nil || Redact(u) != want {
			t.Errorf("%s: %v, %v", raw, Redact(u), err)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("etcd://u:p@a:1,[::1]:2/x?y=z")
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := ParseURL(raw)
		if err != nil {
			return
		}
		_ = Redact(u)
		hosts, err := Hosts(u, "1")
		for _, h := range hosts {
			if _, _, serr := net.SplitHostPort(h); err == nil && serr != nil {
				t.Errorf("%q: host %q", raw, h)
			}
		}
	})
}

func TestNotFoundErrorSaysWhatToDo(t *testing.T) {
	for want, e := range map[string]*NotFoundError{
		"did you mean a or b?":          {Service: "x", Nearest: []string{"a", "b"}, Known: 2},
		"nothing is registered at all":  {Service: "x"},
		"registered under this name":    {Service: "x", Known: 3},
		"is it running, and registered": {Service: "x", Known: -1},
	} {
		if !strings.Contains(e.Error(), want) {
			t.Errorf("%v, want %q", e, want)
		}
	}
}
