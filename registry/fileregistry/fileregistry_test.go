package fileregistry_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/fileregistry"
	"github.com/hull-go/hull/registry/registrytest"
)

func open(t testing.TB, o fileregistry.Options) *fileregistry.Driver {
	t.Helper()
	d, err := fileregistry.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) { conform(t, func(*fileregistry.Driver) {}) }

// Notifications may be missing, or all used up by others; then polling has to do.
func TestConformanceByPollingAlone(t *testing.T) { conform(t, (*fileregistry.Driver).PollOnly) }

func conform(t *testing.T, set func(*fileregistry.Driver)) {
	registrytest.Run(t, func(t *testing.T) registrytest.Harness {
		dir := filepath.Join(t.TempDir(), "nodes")
		return registrytest.Harness{
			Open: func() registry.Driver {
				d := open(t, fileregistry.Options{Dir: dir, Poll: 10 * time.Millisecond})
				set(d)
				return d
			},
			TTL:     300 * time.Millisecond,
			Guarded: true,
			Lose: func(string, string) {
				deleteDir(t, dir)
			},
		}
	})
}

// deleteDir takes a directory away in one step: nodes register anew faster than files can be removed one by one.
func deleteDir(t testing.TB, dir string) {
	t.Helper()
	gone := dir + ".gone"
	if err := os.Rename(dir, gone); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(gone); err != nil {
		t.Fatal(err)
	}
}

// log collects what a driver or a Registry reports.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	return len(p), nil
}

// count returns how many lines contain s.
func (l *log) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.lines {
		if strings.Contains(line, s) {
			n++
		}
	}
	return n
}

func (l *log) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func newRegistry(t testing.TB, d registry.Driver, o registry.Options) *registry.Registry {
	t.Helper()
	r, err := registry.New(d, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return r
}

// node returns a node at an address of its own.
func node(id string) registry.Node {
	port := 1024 + crc32.ChecksumIEEE([]byte(id))%60_000
	return registry.Node{ID: id, Service: "greeter", Address: fmt.Sprintf("127.0.0.1:%d", port)}
}

func register(t testing.TB, r *registry.Registry, n registry.Node) *registry.Registration {
	t.Helper()
	g, err := r.Register(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Err(); err != nil {
		t.Fatal(err)
	}
	return g
}

// until waits for a snapshot that fits, and returns how long that took.
func until(t testing.TB, v *registry.View, what string, fits func(*registry.Service) bool) time.Duration {
	t.Helper()
	began := time.Now()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for {
		changed := v.Changed()
		if fits(v.Snapshot()) {
			return time.Since(began)
		}
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatalf("%s was not seen; last seen: %+v", what, v.Snapshot())
		}
	}
}

// present reports whether exactly these nodes are there and believed in.
func present(ids ...string) func(*registry.Service) bool {
	return func(s *registry.Service) bool {
		if len(s.Nodes) != len(ids) || s.Disbelieved > 0 {
			return false
		}
		for _, id := range ids {
			if s.Node(id) == nil {
				return false
			}
		}
		return true
	}
}

func TestJunkDisturbsNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nodes")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	good := `{"hull":1,"ttl":"30s","node":{"id":"x","service":"greeter","address":"127.0.0.1:80"}}`
	junk := map[string]string{
		"greeter@garbage.node":   "\x00\xff\xfe garbage",
		"greeter@empty.node":     "",
		"greeter@half.node":      good[:len(good)/2],
		"greeter@two.node":       good + good,
		"greeter@array.node":     "[]",
		"greeter@null.node":      "null",
		"greeter@renamed.node":   good,
		"greeter@version.node":   `{"hull":99}`,
		"greeter@huge.node":      strings.Repeat(" ", 2<<20),
		"greeter@metadata.node":  `{"hull":1,"ttl":"30s","node":{"id":"metadata","service":"greeter","address":"169.254.169.254:80"}}`,
		"greeter@ttl.node":       `{"hull":1,"ttl":"-5s","node":{"id":"ttl","service":"greeter","address":"127.0.0.1:80"}}`,
		"greeter@other.node":     `{"hull":1,"ttl":"30s","node":{"id":"other","service":"gr","address":"127.0.0.1:80"}}`,
		"greeter@ctl.node":       `{"hull":1,"ttl":"30s","node":{"id":"ctl","service":"greeter","address":"127.0.0.1:80","zone":"\u001b[31m"}}`,
		"README":                 "foreign",
		"@.node":                 "foreign",
		".hidden@x.node":         "foreign",
		"greeter@swap.node.swp~": "foreign",
	}
	for name, content := range junk {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Symlink(secret, filepath.Join(dir, "greeter@x.node")),
		os.Symlink("greeter@loop.node", filepath.Join(dir, "greeter@loop.node")),
		os.Mkdir(filepath.Join(dir, "greeter@dir.node"), 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5000 {
		if err := os.WriteFile(filepath.Join(dir, "foreign"+strconv.Itoa(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	logged := &log{}
	d := open(t, fileregistry.Options{Dir: dir, Poll: 5 * time.Millisecond, Logger: logged.logger()})
	r := newRegistry(t, d, registry.Options{})
	v := r.Open("greeter")
	other := newRegistry(t, open(t, fileregistry.Options{Dir: dir}), registry.Options{})
	register(t, other, node("good"))
	until(t, v, "the good node", present("good"))
	for i := range 20 { // every one makes the directory change, and be listed again
		g := register(t, other, node("g"+strconv.Itoa(i)))
		until(t, v, "another", present("good", "g"+strconv.Itoa(i)))
		if err := g.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := r.List(t.Context()); err != nil || len(names) != 1 || names[0] != "greeter" {
		t.Errorf("list: %q, %v", names, err)
	}
	for name := range junk {
		want := 1
		if !strings.HasPrefix(name, "greeter@") || !strings.HasSuffix(name, ".node") {
			want = 0
		}
		if got := logged.count(name); got != want {
			t.Errorf("%s was reported %d times, want %d", name, got, want)
		}
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("%s was touched: %v", name, err)
		}
	}
	if logged.count(`file="\"greeter@x.node\""`) != 1 {
		t.Error("the link was not reported once")
	}
}

// Whatever is deleted is made again, as often as that happens, and no view loses a node meanwhile.
func TestDeletedDirectoryIsMadeAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "nodes")
	a := newRegistry(t, open(t, fileregistry.Options{Dir: dir}), registry.Options{})
	b := newRegistry(t, open(t, fileregistry.Options{Dir: dir, Poll: 3 * time.Millisecond}), registry.Options{})
	register(t, a, node("a"))
	register(t, a, node("b"))
	v := b.Open("greeter")
	until(t, v, "both", present("a", "b"))
	// keeps fits a snapshot with these nodes, and fails if a or b is missing from one before.
	keeps := func(ids ...string) func(*registry.Service) bool {
		return func(s *registry.Service) bool {
			if s.Node("a") == nil || s.Node("b") == nil {
				t.Fatalf("the view lost a node: %+v", s)
			}
			return present(ids...)(s)
		}
	}
	for i := range 20 {
		if i%2 == 0 {
			deleteDir(t, dir)
		} else if err := os.Remove(filepath.Join(dir, "greeter@a.node")); err != nil {
			t.Fatal(err)
		}
		// One who looks now sees them as soon as they have registered anew; the old view never lost them.
		c, err := registry.New(open(t, fileregistry.Options{Dir: dir}), registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		took := until(t, c.Open("greeter"), "both again", present("a", "b"))
		if i < 2 {
			t.Logf("registered anew after %v", took)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		g := register(t, a, node("c"))
		until(t, v, "c, in the new directory", keeps("a", "b", "c"))
		if err := g.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		until(t, v, "c's end", keeps("a", "b"))
	}
}

// A jump of the wall clock shows as file times in the past or the future, which must mean nothing.
func TestClockJump(t *testing.T) {
	dir := t.TempDir()
	a := newRegistry(t, open(t, fileregistry.Options{Dir: dir}), registry.Options{TTL: 3 * time.Second})
	r := newRegistry(t, open(t, fileregistry.Options{Dir: dir, Poll: 5 * time.Millisecond}), registry.Options{})
	v := r.Open("greeter")
	register(t, a, node("a"))
	until(t, v, "a", present("a"))
	files, err := filepath.Glob(filepath.Join(dir, "*.node"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	for _, at := range []time.Time{time.Now().Add(-1000 * time.Hour), time.Now().Add(1000 * time.Hour), time.Unix(0, 0)} {
		if err := os.Chtimes(files[0], at, at); err != nil {
			t.Fatal(err)
		}
		late := newRegistry(t, open(t, fileregistry.Options{Dir: dir, Poll: 5 * time.Millisecond}), registry.Options{})
		until(t, late.Open("greeter"), "a, by one who looks now", present("a"))
		// Another node comes and goes, so that the first reader has looked in between.
		g := register(t, a, node("b"))
		until(t, v, "b", present("a", "b"))
		if err := g.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		until(t, v, "b's end", present("a"))
	}
}

func TestOneIDIsGivenToOneProcess(t *testing.T) {
	dir := t.TempDir()
	a := newRegistry(t, open(t, fileregistry.Options{Dir: dir}), registry.Options{})
	b := newRegistry(t, open(t, fileregistry.Options{Dir: dir}), registry.Options{})
	first := register(t, a, node("a"))
	second, err := b.Register(t.Context(), node("a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Err(); !errors.Is(err, registry.ErrTaken) {
		t.Fatalf("the second: %v, want ErrTaken", err)
	}
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := second.Wait(ctx); err != nil {
		t.Fatalf("after the first had left: %v", err)
	}
}

func TestBadDirectories(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wide := filepath.Join(dir, "wide")
	if err := os.Mkdir(wide, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(wide, 0o777); err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{file: "not a directory", filepath.Join(file, "below"): "not a directory"}
	if runtime.GOOS != "windows" {
		cases[wide] = "can be written by others"
	}
	for dir, want := range cases {
		if _, err := fileregistry.New(fileregistry.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", dir, err, want)
		}
	}
}

func TestFromURL(t *testing.T) {
	dir := t.TempDir()
	for raw, want := range map[string]string{
		"file://" + dir: "",
		"file://" + dir + "?poll=50ms&shared=false": "",
		"file://" + dir + "?poll=50":                "duration",
		"file://" + dir + "?poll=1ns":               "too often",
		"file://" + dir + "?shared=perhaps":         "true or false",
		"file://" + dir + "?x=1":                    "unknown parameter",
		"file://host" + dir:                         "file:///",
		"etcd://host":                               "file:///",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		d, err := fileregistry.FromURL(u)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", raw, err, want)
		}
		if c, ok := d.(*fileregistry.Driver); ok && c != nil {
			if c.Dir() != dir {
				t.Errorf("%s: directory %s", raw, c.Dir())
			}
			_ = c.Close()
		}
	}
}

func TestDefaultDir(t *testing.T) {
	if d := fileregistry.DefaultDir(); !filepath.IsAbs(d) || d != fileregistry.DefaultDir() {
		t.Errorf("default directory %q", d)
	}
}

// A process that comes back under the ID it had takes over the dead one's place, though others are just clearing that
// one's file away.
func TestRestartUnderTheSameID(t *testing.T) {
	dir := t.TempDir()
	var views []*registry.View
	for range 4 { // each of them clears dead files away
		r := newRegistry(t, open(t, fileregistry.Options{Dir: dir, Poll: time.Millisecond}), registry.Options{})
		views = append(views, r.Open("greeter"))
	}
	for i := range 50 {
		d := open(t, fileregistry.Options{Dir: dir, Poll: time.Millisecond})
		r, err := registry.New(d, registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		n := node("same")
		n.Version = strconv.Itoa(i)
		g, err := r.Register(t.Context(), n)
		if err != nil || g.Err() != nil {
			t.Fatal(err, g.Err())
		}
		for _, v := range views {
			until(t, v, "the new one", func(s *registry.Service) bool {
				n := s.Node("same")
				return n != nil && !n.Absent && n.Version == strconv.Itoa(i)
			})
		}
		d.Crash()
		if i%2 == 0 { // and now and then nobody is quick
			until(t, views[0], "its death", present())
		}
		d.Crash() // what has been registered anew since
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
