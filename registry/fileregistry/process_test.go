//go:build unix

package fileregistry_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/fileregistry"
)

// The test binary runs itself again as a node when this variable holds "dir id ttl shared".
const childVariable = "FILEREGISTRY_TEST_NODE"

func TestMain(m *testing.M) {
	if args := os.Getenv(childVariable); args != "" {
		if err := child(strings.Fields(args)); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child registers a node, says so, and deregisters it when its standard input ends.
func child(args []string) error {
	ttl, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	d, err := fileregistry.New(fileregistry.Options{Dir: args[0], Shared: args[3] == "true"})
	if err != nil {
		return err
	}
	r, err := registry.New(d, registry.Options{TTL: ttl})
	if err != nil {
		return err
	}
	g, err := r.Register(context.Background(), node(args[1]))
	if err == nil {
		err = g.Err()
	}
	if err != nil {
		_ = r.Close()
		return err
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return r.Close()
}

// process is a running child.
type process struct {
	*exec.Cmd
	t     *testing.T
	stdin io.Closer
	out   *bufio.Reader
}

// start runs a child; it may still be registering when start returns.
func start(t *testing.T, binary, dir, id string, ttl time.Duration, shared bool, credential *syscall.Credential) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(binary), t: t}
	p.Env = append(os.Environ(), childVariable+"="+strings.Join([]string{dir, id, ttl.String(), strconv.FormatBool(shared)}, " "))
	p.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	p.Dir = "/"
	stdin, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin, p.out = stdin, bufio.NewReader(stdout)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
	})
	return p
}

func (p *process) ready() {
	p.t.Helper()
	if line := p.line(); line != "ready" {
		p.t.Fatalf("the child says %q", line)
	}
}

func (p *process) line() string {
	line, _ := p.out.ReadString('\n')
	return strings.TrimSpace(line)
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestKill: a crash is proof, believed at once even in a fleet of two.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	r := newRegistry(t, open(t, fileregistry.Options{Dir: dir}), registry.Options{})
	v := r.Open("greeter")
	start(t, self(t), dir, "stays", 30*time.Second, false, nil).ready()
	var took []time.Duration
	for i := range 10 {
		id := "k" + strconv.Itoa(i)
		p := start(t, self(t), dir, id, 30*time.Second, false, nil)
		p.ready()
		until(t, v, id, present("stays", id))
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		took = append(took, until(t, v, "its death", present("stays")))
	}
	slices.Sort(took)
	t.Logf("kill -9 was seen after %v (median), %v (longest)", took[len(took)/2], took[len(took)-1])
	if median := took[len(took)/2]; median > 500*time.Millisecond { // the longest is the machine's affair
		t.Errorf("kill -9 was seen after %v, want at most 500ms", median)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(files) != 1 {
		t.Errorf("dead nodes' files are left: %v", files)
	}
}

// TestStop: a hang shows by its missing heartbeat. It is no proof, so the node stays, absent, until a caller fails.
func TestStop(t *testing.T) {
	dir := t.TempDir()
	const ttl = 900 * time.Millisecond
	r := newRegistry(t, open(t, fileregistry.Options{Dir: dir, Poll: 10 * time.Millisecond}), registry.Options{})
	v := r.Open("greeter")
	start(t, self(t), dir, "stays", ttl, false, nil).ready()
	p := start(t, self(t), dir, "stops", ttl, false, nil)
	p.ready()
	until(t, v, "both", present("stays", "stops"))
	absent := func(s *registry.Service) bool {
		n := s.Node("stops")
		return n != nil && n.Absent && s.Disbelieved == 1 && s.Why != ""
	}
	for range 2 {
		if err := p.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		took := until(t, v, "the hang", absent)
		fi, err := os.Stat(filepath.Join(dir, "greeter@stops.node"))
		if err != nil {
			t.Fatal(err)
		}
		silent := time.Since(fi.ModTime())
		t.Logf("SIGSTOP was seen after %v, %v after the last heartbeat, with a TTL of %v", took, silent, ttl)
		if silent < ttl/2 || took > 10*ttl {
			t.Errorf("SIGSTOP was seen after %v, %v after the last heartbeat, want about %v", took, silent, ttl)
		}
		if err := p.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		until(t, v, "its return", present("stays", "stops"))
	}
	if err := p.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	until(t, v, "the hang", absent)
	v.Report("stops", false)
	until(t, v, "what the caller said", present("stays"))
	if err := p.Process.Kill(); err != nil { // dead while it hangs
		t.Fatal(err)
	}
	if err := p.Process.Signal(syscall.SIGCONT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

// TestAtOnce: processes that register at the same moment all succeed; of those with one ID, one does.
func TestAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nodes") // they make it, too
	var all []*process
	for i := range 4 {
		all = append(all, start(t, self(t), dir, "n"+strconv.Itoa(i), 30*time.Second, false, nil))
	}
	for range 3 {
		all = append(all, start(t, self(t), dir, "same", 30*time.Second, false, nil))
	}
	winners := 0
	for i, p := range all {
		line := p.line()
		switch {
		case i < 4 && line != "ready":
			t.Errorf("node %d says %q", i, line)
		case i >= 4 && line == "ready":
			winners++
		case i >= 4 && !strings.Contains(line, "taken"):
			t.Errorf("one of the three says %q", line)
		}
	}
	// Two may both have found the place free; then the later rename won, and the other has been told.
	if winners == 0 {
		t.Error("none of the three got the ID")
	}
	r := newRegistry(t, open(t, fileregistry.Options{Dir: dir}), registry.Options{})
	until(t, r.Open("greeter"), "five nodes", present("n0", "n1", "n2", "n3", "same"))
	for _, p := range all {
		_ = p.stdin.Close()
	}
	until(t, r.Open("greeter"), "none", present())
}

func TestTwoUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: the cases that need a second user are not checked here")
		return
	}
	base := t.TempDir()
	for dir := base; strings.HasPrefix(dir, os.TempDir()) && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(base, "node")
	data, err := os.ReadFile(self(t))
	if err == nil {
		err = os.WriteFile(binary, data, 0o755) //nolint:gosec // another user has to run it
	}
	if err != nil {
		t.Fatal(err)
	}
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}

	// A directory of one's own is refused to others.
	own := filepath.Join(base, "own")
	r := newRegistry(t, open(t, fileregistry.Options{Dir: own}), registry.Options{})
	register(t, r, node("a"))
	p := start(t, binary, own, "b", 30*time.Second, false, nobody)
	if line := p.line(); !strings.Contains(line, "permission denied") && !strings.Contains(line, "belongs to user 0") {
		t.Errorf("another user in one's own directory: %q", line)
	}
	// So is a directory that somebody else made under the name of ours.
	trap := filepath.Join(base, "trap")
	if err := os.Mkdir(trap, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(trap, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, err := fileregistry.New(fileregistry.Options{Dir: trap}); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
		t.Errorf("a directory of another user: %v", err)
	}
	// A file of another user in one's own directory is not believed.
	file := filepath.Join(own, "greeter@forged.node")
	content := `{"hull":1,"ttl":"30s","node":{"id":"forged","service":"greeter","address":"127.0.0.1:80"}}`
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	until(t, r.Open("greeter"), "a alone", present("a"))

	// A shared one serves both, and neither can take the other's place.
	shared := filepath.Join(base, "shared")
	s := newRegistry(t, open(t, fileregistry.Options{Dir: shared, Shared: true}), registry.Options{})
	register(t, s, node("a"))
	p = start(t, binary, shared, "b", 30*time.Second, true, nobody)
	p.ready()
	v := s.Open("greeter")
	until(t, v, "both", present("a", "b"))
	thief := start(t, binary, shared, "a", 30*time.Second, true, nobody)
	if line := thief.line(); !strings.Contains(line, "taken") {
		t.Errorf("another user with the same ID: %q", line)
	}
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, v, "b's death", present("a"))
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := mountSmall(dir); err != nil {
		t.Logf("no small file system can be mounted (%v): a full disk is not checked here", err)
		return
	}
	t.Cleanup(func() {
		if err := unmount(dir); err != nil {
			t.Error(err)
		}
	})
	nodes := filepath.Join(dir, "nodes")
	start(t, self(t), nodes, "early", 600*time.Millisecond, false, nil).ready()
	r := newRegistry(t, open(t, fileregistry.Options{Dir: nodes, Poll: 10 * time.Millisecond}), registry.Options{TTL: 3 * time.Second})
	v := r.Open("greeter")
	until(t, v, "early", present("early"))

	fill := filepath.Join(dir, "fill")
	f, err := os.Create(fill)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	_ = f.Close()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	g, err := r.Register(t.Context(), node("late"))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Err(); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "full disk") {
		t.Fatalf("registering on a full disk: %v", err)
	}
	if files, _ := filepath.Glob(filepath.Join(nodes, ".*")); len(files) > 1 { // a try may be under way
		t.Errorf("what could not be written is left: %v", files)
	}
	// The early one keeps beating: its file's time moves on, and it is there, not absent, for one who looks only now.
	for range 3 {
		beat(t, filepath.Join(nodes, "greeter@early.node"))
	}
	reader := newRegistry(t, open(t, fileregistry.Options{Dir: nodes, Poll: 10 * time.Millisecond}), registry.Options{})
	until(t, reader.Open("greeter"), "early, on a full disk", present("early"))
	until(t, v, "early, all the time", present("early"))
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := g.Wait(ctx); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	until(t, v, "both", present("early", "late"))
}

// beat waits for the next heartbeat of the node in a file.
func beat(t *testing.T, file string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var first time.Time
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-tick.C {
		fi, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if first.IsZero() {
			first = fi.ModTime()
		}
		if !fi.ModTime().Equal(first) {
			return
		}
	}
	t.Fatalf("no heartbeat of %s for a minute", file)
}

// A FIFO under a node's name must not hang anyone.
func TestFIFO(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "greeter@fifo.node"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRegistry(t, open(t, fileregistry.Options{Dir: dir}), registry.Options{})
	register(t, r, node("a"))
	until(t, r.Open("greeter"), "a", present("a"))
	if _, err := r.List(t.Context()); err != nil {
		t.Error(err)
	}
}

// After Close nothing is left: no descriptor, no goroutine.
func TestNothingIsLeft(t *testing.T) {
	dir := t.TempDir()
	cycle := func() {
		a, err := registry.New(open(t, fileregistry.Options{Dir: dir}), registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		v := a.Open("greeter")
		for i := range 5 {
			register(t, a, node("n"+strconv.Itoa(i)))
		}
		until(t, v, "five", present("n0", "n1", "n2", "n3", "n4"))
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	cycle() // the run-time opens its poller
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	for range 20 {
		cycle()
	}
	if n := descriptors(t); n > files {
		t.Errorf("%d descriptors, %d before", n, files)
	}
	// A goroutine that has said it is done may still be on its last instructions.
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		buf := make([]byte, 1<<16)
		t.Errorf("%d goroutines, %d before\n%s", n, goroutines, buf[:runtime.Stack(buf, true)])
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
}

func descriptors(t *testing.T) int {
	dir := "/proc/self/fd"
	if runtime.GOOS != "linux" {
		dir = "/dev/fd"
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
