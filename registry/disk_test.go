package registry

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// saved runs a Registry that sees a and b, and leaves its snapshot in dir.
func saved(t *testing.T, dir string) {
	t.Helper()
	d := newTestDriver()
	r := mustNew(t, d, Options{Snapshot: dir})
	r.Open("greeter")
	d.feed <- Update{Nodes: testNodes("a", "b")}
	synctest.Wait()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestStartWhileTheEngineIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "deep", "dir")
		saved(t, dir)
		time.Sleep(23 * time.Hour)

		// It fails at once: so is the disk asked.
		d := newTestDriver()
		r := mustNew(t, d, Options{Snapshot: dir})
		v := r.Open("greeter")
		d.feed <- errSick
		synctest.Wait()
		if s := v.Snapshot(); show(s.Nodes) != "a b" || !s.Stale || s.Disbelieved != 0 || !strings.Contains(s.Why, "sick") {
			t.Errorf("%+v", s)
		}
		d.feed <- Update{Nodes: testNodes("b", "c")}
		synctest.Wait()
		if s := v.Snapshot(); show(s.Nodes) != "b c" || s.Stale {
			t.Errorf("%+v", s)
		}
		_ = r.Close()

		// It is silent: the disk is asked after a moment.
		d = newTestDriver()
		r = mustNew(t, d, Options{Snapshot: dir})
		v = r.Open("greeter")
		began := time.Now()
		s, err := v.Wait(t.Context())
		if err != nil || show(s.Nodes) != "b c" || !s.Stale || s.Why == "" || time.Since(began) != patience {
			t.Errorf("%+v, %v, after %v", s, err, time.Since(began))
		}
		d.feed <- Update{}
		synctest.Wait()
		if s := v.Snapshot(); show(s.Nodes) != "(b) (c)" || s.Stale {
			t.Errorf("%+v", s)
		}
		time.Sleep(2 * time.Minute)
		if s := v.Snapshot(); len(s.Nodes) != 0 {
			t.Errorf("%+v", s)
		}
		_ = r.Close()

		// It answers at once: the disk is not shown.
		d = newTestDriver()
		r = mustNew(t, d, Options{Snapshot: dir})
		v = r.Open("greeter")
		d.feed <- Update{Nodes: testNodes("x")}
		synctest.Wait()
		if s := v.Snapshot(); show(s.Nodes) != "x" || s.Revision != 1 {
			t.Errorf("%+v", s)
		}
		_ = r.Close()
	})
}

func TestASnapshotOfYesterdayIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		saved(t, dir)
		time.Sleep(believed + time.Second)
		d := newTestDriver()
		logged := &logLines{}
		r := mustNew(t, d, Options{Snapshot: dir, Logger: logged.logger()})
		defer r.Close()
		v := r.Open("greeter")
		d.feed <- errSick
		synctest.Wait()
		if s := v.Snapshot(); len(s.Nodes) != 0 || logged.count("too old") != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestAQuietServiceStaysBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newTestDriver()
		r := mustNew(t, d, Options{Snapshot: dir})
		r.Open("greeter")
		d.feed <- Update{Nodes: testNodes("a")}
		time.Sleep(100 * time.Hour)
		_ = r.Close()
		dk, err := openDisk(dir)
		if err != nil {
			t.Fatal(err)
		}
		if nodes, err := dk.load("greeter", time.Now().Add(22*time.Hour)); err != nil || show(nodes) != "a" {
			t.Errorf("%q, %v", show(nodes), err)
		}
	})
}

func TestSnapshotsAreNotWrittenTooOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newTestDriver()
		r := mustNew(t, d, Options{Snapshot: dir})
		defer r.Close()
		r.Open("greeter")
		writes, last := 0, []byte{}
		for i := range 1000 {
			d.feed <- Update{Nodes: append(testNodes("a"), testNodes(ids(20)...)[:i%2]...)}
			time.Sleep(10 * time.Millisecond)
			data, err := os.ReadFile(filepath.Join(dir, "greeter.nodes"))
			if err == nil && !bytes.Equal(data, last) {
				writes, last = writes+1, data
			}
		}
		if writes < 5 || writes > 12 {
			t.Errorf("%d writes in 10 s, want about one a second", writes)
		}
	})
}

func TestBadSnapshotDirectories(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "greeter.nodes"), []byte("{garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
		gone := t.TempDir()
		for _, dir := range []string{file, dir, gone} {
			logged := &logLines{}
			d := newTestDriver()
			r := mustNew(t, d, Options{Snapshot: dir, Logger: logged.logger()})
			if dir == gone {
				if err := os.RemoveAll(gone); err != nil {
					t.Fatal(err)
				}
			}
			v := r.Open("greeter")
			for i := range 10 {
				d.feed <- Update{Nodes: testNodes(ids(i + 1)...)}
				time.Sleep(2 * time.Second)
			}
			if s := v.Snapshot(); len(s.Nodes) != 10 || s.Stale {
				t.Errorf("%s: %+v", dir, s)
			}
			if n := logged.count("WARN"); n != 1 {
				t.Errorf("%s: %d complaints", dir, n)
			}
			if err := r.Close(); err != nil {
				t.Errorf("%s: %v", dir, err)
			}
		}
	})
}

func TestFileNamesOfServices(t *testing.T) {
	seen := map[string]string{}
	for _, s := range []string{"a", "A", "a.b", "a%2eb", "a@b", "con", strings.Repeat("x", 200), strings.Repeat("X", 253), strings.Repeat("X", 252) + "Y"} {
		name := fileName(s)
		if other := seen[strings.ToLower(name)]; other != "" || len(name) > 240 || strings.ContainsAny(name, "/\\@:") {
			t.Errorf("%.20q: file %q, also that of %q", s, name, other)
		}
		seen[strings.ToLower(name)] = s
	}
}

func FuzzSnapshot(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	f.Add([]byte(`{"service":"greeter","saved":"2027-01-15T08:00:00Z","nodes":[{"id":"a","service":"greeter","address":"h:1"},null,{"id":"/"}]}`))
	f.Add([]byte(`{"service":"other"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		nodes, err := decodeSnapshot(data, "greeter", now)
		if err != nil && nodes != nil {
			t.Error("nodes and an error")
		}
		for _, n := range nodes {
			if err := n.Validate(); err != nil || n.Service != "greeter" || n.Absent {
				t.Errorf("%+v: %v", n, err)
			}
		}
	})
}
