package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/fileregistry"
	"github.com/hull-go/hull/registry/staticregistry"
	"github.com/hull-go/hull/status"
)

// childDir names the registry's directory to a test binary that is to be a server.
const childDir = "HULL_CLI_TEST_SERVER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child is the life of a server that can be killed: it ends with its standard input.
func child(dir string) error {
	reg, err := openFiles(dir)
	if err != nil {
		return err
	}
	defer reg.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	s, err := newGreeter(reg, hull.NodeID("child"), hull.Drain(0, time.Second))
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

func openFiles(dir string) (*registry.Registry, error) {
	d, err := fileregistry.New(fileregistry.Options{Dir: dir})
	if err != nil {
		return nil, err
	}
	return registry.New(d, registry.Options{})
}

type greetRequest struct {
	Name string `json:"name"`
	Big  int64  `json:"big,omitempty"`
}

type greetReply struct {
	Text string `json:"text"`
	Big  int64  `json:"big,omitempty"`
}

func newGreeter(reg *registry.Registry, opts ...hull.ServerOption) (*hull.Server, error) {
	s, err := hull.NewServer("greeter", append([]hull.ServerOption{hull.WithRegistry(reg)}, opts...)...)
	if err != nil {
		return nil, err
	}
	hull.Handle(s, "greeter.Greeter/Hello", func(_ context.Context, r *greetRequest) (*greetReply, error) {
		if r.Name == "" {
			return nil, status.Errorf(status.InvalidArgument, "who is it? set name")
		}
		return &greetReply{Text: "Hello, <" + r.Name + ">", Big: r.Big}, nil
	}, hull.Idempotent())
	hull.Handle(s, "greeter.Greeter/Wait", func(ctx context.Context, _ *greetRequest) (*greetReply, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	hull.HandleStream(s, "greeter.Greeter/Chat", func(*hull.ServerStream[greetRequest, greetReply]) error { return nil })
	return s, nil
}

// serve runs a greeter until the test ends or stop is called, and returns the registry's URL.
func serve(t *testing.T, dir string, opts ...hull.ServerOption) (s *hull.Server, stop func()) {
	t.Helper()
	reg, err := openFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	if s, err = newGreeter(reg, append([]hull.ServerOption{hull.Drain(0, time.Second)}, opts...)...); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
		if err := reg.Close(); err != nil {
			t.Errorf("registry: %v", err)
		}
	}
	t.Cleanup(stop)
	select {
	case <-s.Ready():
	case err := <-done:
		t.Fatal(err)
	}
	return s, stop
}

func fileURL(dir string) string { return (&url.URL{Scheme: "file", Path: dir}).String() }

func testDrivers() []Driver {
	return []Driver{
		{Scheme: "file", Form: "file:///DIRECTORY", Usage: "a directory", Parameters: fileregistry.Parameters(), Open: fileregistry.FromURL},
		{Scheme: "static", Form: "static://HOST:PORT", Usage: "addresses", Parameters: staticregistry.Parameters(), Open: staticregistry.FromURL},
	}
}

// result is what a run left behind.
type result struct {
	code     int
	out, err string
}

// runIn runs the program to its end.
func runIn(t *testing.T, env map[string]string, stdin string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := Run(t.Context(), args, Options{Env: envOf(env), Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs, Drivers: testDrivers()})
	return result{code, out.String(), errs.String()}
}

func run(t *testing.T, args ...string) result {
	t.Helper()
	return runIn(t, nil, "", args...)
}

func envOf(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := env[name]; return v, ok }
}

// want fails the test unless the run ended with that code and said so.
func (r result) want(t *testing.T, code int, out, err string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.out, out) || !strings.Contains(r.err, err) || err == "" && r.err != "" {
		t.Errorf("exit %d, want %d\nstdout, want %q:\n%s\nstderr, want %q:\n%s", r.code, code, out, r.out, err, r.err)
	}
}

// read decodes JSON strictly: what is not in the documented type is a mistake.
func read[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		t.Errorf("something follows the JSON value in %s", text)
	}
	return v
}

// startChild starts a server in a process of its own.
func startChild(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	if _, err = cmd.StdinPipe(); err != nil { // never written to: it ends with this process
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// running is a program that runs until it is stopped, whose output can be read line by line.
type running struct {
	t     *testing.T
	lines chan string
	errs  *bytes.Buffer // to be read after stop
	stop  func() int
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	r, w := io.Pipe()
	p := &running{t: t, lines: make(chan string, 100), errs: &bytes.Buffer{}}
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	go func() {
		c := Run(ctx, args, Options{Stdout: w, Stderr: p.errs, Drivers: testDrivers()})
		w.Close()
		code <- c
	}()
	go func() {
		for s := bufio.NewScanner(r); s.Scan(); {
			p.lines <- s.Text()
		}
		close(p.lines)
	}()
	ended := -1
	p.stop = func() int {
		cancel()
		if ended < 0 {
			ended = <-code
		}
		return ended
	}
	t.Cleanup(func() { p.stop() })
	return p
}

// line waits for the next line of output.
func (p *running) line() string {
	p.t.Helper()
	select {
	case l, ok := <-p.lines:
		if !ok {
			p.t.Fatalf("the program has ended; it said: %s", p.errs)
		}
		return l
	case <-time.After(20 * time.Second):
		p.t.Fatal("no output for 20 s")
	}
	return ""
}
