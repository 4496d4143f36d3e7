package engine

import (
	"bufio"
	"bytes"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Commands runs the hull program's commands about discovery against an engine that is empty. plant puts an entry of
// service planted, node p1, into it that no process keeps.
func Commands(t *testing.T, registry string, plant func(value string)) {
	t.Helper()
	h := build(t, registry)
	h.says("no service is registered", 0, "list")

	watch, _ := h.start("watch")
	reg, stop := h.start("register", "greeter", "127.0.0.1:8080", "--id=g1", "--version=3")
	h.line(reg, "registered greeter")
	h.line(watch, "greeter  g1")
	h.says("greeter", 0, "list")
	h.says("127.0.0.1:8080", 0, "get", "greeter")
	h.says("", 3, "get", "nobody")

	plant(`{"hull":1,"node":{"service":"planted","id":"p1","address":"127.0.0.1:8081"}}`)
	h.line(watch, "planted  p1")
	h.says("127.0.0.1:8081", 0, "get", "planted")
	h.says("deregistered node p1", 0, "deregister", "planted", "p1")
	h.line(watch, "left       planted  p1")
	h.says("no node", 3, "deregister", "planted", "p1")
	h.says("", 3, "get", "planted")

	// From the engine to a directory.
	dir := (&url.URL{Scheme: "file", Path: t.TempDir()}).String()
	out, stopMigrate := h.start("migrate", dir)
	h.line(out, "copied    greeter  g1")
	h.says("127.0.0.1:8080", 0, "get", "greeter", "--registry="+dir)
	stopMigrate()
	// And from a directory to the engine.
	files, _ := h.start("register", "legacy", "127.0.0.1:8082", "--id=l1", "--registry="+dir)
	h.line(files, "registered legacy")
	in, stopMigrate := h.start("migrate", registry, "--registry="+dir)
	h.line(in, "copied    legacy  l1")
	h.line(watch, "legacy  l1")
	h.says("127.0.0.1:8082", 0, "get", "legacy")
	stopMigrate()
	h.line(watch, "left       legacy  l1")
	stop()
	h.line(watch, "left       greeter  g1")
}

// CommandsReadOnly runs them against one that has a node of service at address and takes none. Whatever would write says so, and that it is the
// user's mistake.
func CommandsReadOnly(t *testing.T, registry, service, address string) {
	t.Helper()
	h := build(t, registry)
	h.says("", 0, "list")
	h.says(address, 0, "get", service)
	h.says("", 3, "get", "nobody")
	const refusal, usage = "cannot register", 2
	h.says(refusal, usage, "register", "new", "127.0.0.1:8080")
	h.says(refusal, usage, "deregister", service, "x")
	dir := (&url.URL{Scheme: "file", Path: t.TempDir()}).String()
	out, stop := h.start("migrate", dir, "--service="+service) // nodes can be taken from there
	h.line(out, "copied    "+service)
	h.says(address, 0, "get", service, "--registry="+dir)
	h.says(refusal, usage, "migrate", registry, "--registry="+dir)
	stop()
}

// build builds the hull program, for a registry.
func build(t *testing.T, registry string) *program {
	t.Helper()
	u, err := url.Parse(registry)
	if err != nil {
		t.Fatal(err)
	}
	h := &program{t: t, binary: filepath.Join(t.TempDir(), "hull"), env: append(os.Environ(), "HULL_REGISTRY="+registry, "HULL_TIMEOUT=1m")}
	if password, ok := u.User.Password(); ok {
		h.secret = password
	} else if u.User != nil {
		h.secret = u.User.Username() // a token
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", h.binary, "./cmd/hull")
	build.Dir = filepath.Join("..", "..") // the module above
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return h
}

// program is the hull program.
type program struct {
	t      *testing.T
	binary string
	env    []string
	secret string // what no command may show; empty = there is none
}

// says runs a command to its end.
func (h *program) says(want string, code int, args ...string) {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), h.binary, args...)
	cmd.Env = h.env
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), want) {
		h.t.Errorf("hull %s: exit %d, want %d and %q:\n%s", strings.Join(args, " "), got, code, want, out)
	}
	if h.secret != "" && strings.Contains(string(out), h.secret) {
		h.t.Errorf("hull %s shows a password:\n%s", strings.Join(args, " "), out)
	}
}

// start starts a command that runs until it is stopped, and returns its lines.
func (h *program) start(args ...string) (lines <-chan string, stop func()) {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), h.binary, args...)
	cmd.Env = h.env
	cmd.SysProcAttr = attributes()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	c := make(chan string, 1000)
	done, err := spawn(cmd, func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			c <- s.Text()
		}
		close(c)
		if err := cmd.Wait(); err != nil && h.t.Context().Err() == nil {
			h.t.Errorf("hull %s: %v: %s", strings.Join(args, " "), err, errs.String())
		}
	})
	if err != nil {
		h.t.Fatal(err)
	}
	ended := false
	stop = func() {
		if !ended {
			ended = true
			_ = cmd.Process.Signal(os.Interrupt)
			<-done
		}
	}
	h.t.Cleanup(stop)
	return c, stop
}

// line waits for a line that says something.
func (h *program) line(lines <-chan string, want string) {
	h.t.Helper()
	var seen []string
	late := time.After(time.Minute)
	for {
		select {
		case l, more := <-lines:
			if !more {
				h.t.Fatalf("the program ended before it said %q; it said %q", want, seen)
			}
			if strings.Contains(l, want) {
				return
			}
			seen = append(seen, l)
		case <-late:
			h.t.Fatalf("the program does not say %q; it said %q", want, fmt.Sprint(seen))
		}
	}
}
