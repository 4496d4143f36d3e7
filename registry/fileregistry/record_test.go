package fileregistry

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/hull-go/hull/registry"
)

func TestRecordComesBack(t *testing.T) {
	n := &registry.Node{ID: "a_B", Service: "greeter.Greeter", Address: "h:1", Labels: map[string]string{"k": "ü<>"}}
	data, err := encode(n, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	r, err := decode(fileName(n.Service, n.ID), data)
	if err != nil || !r.Node.Equal(n) || r.ttl != time.Second {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := decode(fileName(n.Service, "other"), data); err == nil {
		t.Error("a file under another's name was read")
	}
}

func TestFileNames(t *testing.T) {
	for name, want := range map[string]string{
		"a@b.node": "a@", "a@.node": "a@", "@b.node": "", ".a@b.node": "", "a@b.tmp": "", "ab.node": "", "": "", "a@b@c.node": "a@",
	} {
		if p, ok := isNodeFile(name); p != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", name, p, ok)
		}
	}
	if got := fileName("greeter", "a"); got != "greeter@a.node" {
		t.Error(got)
	}
}

// FuzzDecode: whatever a file holds, what is read of it is valid and belongs under its name. The seeds are also in
// testdata/fuzz.
func FuzzDecode(f *testing.F) {
	f.Add("greeter@a.node", []byte(`{"hull":1,"ttl":"30s","node":{"id":"a","service":"greeter","address":"h:1","methods":[{"name":"a/b"}]}}`))
	f.Add("greeter@a.node", []byte(`{"hull":1,"ttl":"1ns","node":{"id":"a","service":"greeter","address":"h:1"}}`))
	f.Add("greeter@a.node", []byte(`{"hull":1,"ttl":"30s","node":null}`))
	f.Add("x", []byte(`{"hull":2}`))
	f.Add("x", []byte(`[[[[`))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		r, err := decode(name, data)
		if (r == nil) == (err == nil) {
			t.Fatalf("%v, %v", r, err)
		}
		if err != nil {
			return
		}
		if err := r.Node.Validate(); err != nil || r.Node.Absent || r.ttl < minTTL || r.ttl > maxTTL {
			t.Errorf("%+v: %v", r, err)
		}
		if p, ok := isNodeFile(name); !ok || p != prefix(r.Node.Service) {
			t.Errorf("%q holds a node of %q", name, r.Node.Service)
		}
		again, err := encode(r.Node, r.ttl)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decode(name, again); err != nil || !back.Node.Equal(r.Node) {
			t.Errorf("%s comes back as %+v, %v", again, back, err)
		}
	})
}

// BenchmarkLook is what a quiet look costs by the number of nodes watched: ten a second.
func BenchmarkLook(b *testing.B) {
	for _, n := range []int{3, 100, 500} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			dir := b.TempDir()
			owner, err := New(Options{Dir: dir})
			if err != nil {
				b.Fatal(err)
			}
			defer owner.Close()
			for i := range n {
				node := &registry.Node{ID: strconv.Itoa(i), Service: "greeter", Address: "h:1"}
				if _, err := owner.Announce(b.Context(), node, time.Minute); err != nil {
					b.Fatal(err)
				}
			}
			d, err := New(Options{Dir: dir})
			if err != nil {
				b.Fatal(err)
			}
			defer d.Close()
			d.subs[&subscription{service: "greeter", changed: make(chan struct{}, 1)}] = struct{}{}
			d.scanning = true // this benchmark is the scanner
			s := newScanner(d)
			defer s.close()
			now := time.Now()
			s.look(now)
			if len(s.entries) != n {
				b.Fatalf("%d entries", len(s.entries))
			}
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(DefaultPoll)
				s.look(now)
			}
		})
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, age time.Duration) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	dead := `{"hull":1,"ttl":"30s","node":{"id":"dead","service":"unwatched","address":"h:1"}}`
	write("unwatched@dead.node", dead, 0)
	write("unwatched@junk.node", "junk", 0)
	write(".1-1-x.tmp", "", time.Hour)
	write(".1-2-x.tmp", "", 0)
	write("foreign.tmp", "", time.Hour)
	d, err := New(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	l, err := d.Announce(t.Context(), &registry.Node{ID: "lives", Service: "unwatched", Address: "h:1"}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(t.Context())
	s := newScanner(d)
	defer s.close()
	s.look(time.Now())
	for name, want := range map[string]bool{
		"unwatched@dead.node": false, "unwatched@junk.node": true, ".1-1-x.tmp": false, ".1-2-x.tmp": true,
		"foreign.tmp": true, "unwatched@lives.node": true,
	} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", name, err, want)
		}
	}
}
