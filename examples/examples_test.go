package examples_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the examples into README.md")

// inReadme are the files that README.md shows.
var inReadme = []string{"examples/hello/server/main.go", "examples/hello/client/main.go"}

// What the README shows is what runs. With -update the test writes it.
func TestReadmeShowsTheExamples(t *testing.T) {
	path := filepath.Join("..", "README.md")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(b), "\r\n", "\n")
	want := text
	for _, name := range inReadme {
		source, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		begin, end := "<!-- "+name+" -->\n```go\n", "```\n"
		before, rest, found := strings.Cut(want, begin)
		_, after, ended := strings.Cut("\n"+rest, "\n"+end)
		if !found || !ended {
			t.Errorf("README.md does not show %s: write %s%s", name, begin, end)
			continue
		}
		want = before + begin + strings.ReplaceAll(string(source), "\r\n", "\n") + end + after
	}
	if want == text {
		return
	}
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Error("README.md does not show the examples as they are: run go test ./examples -run Readme -update, and commit it")
}

// machine is a place where programs run that see each other and no others.
type machine struct {
	t    *testing.T
	home string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	return &machine{t, t.TempDir()}
}

// command prepares a program of this directory.
func (m *machine) command(name string) *exec.Cmd {
	m.t.Helper()
	cmd := exec.CommandContext(m.t.Context(), build(m.t, name))
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HULL_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "HOME="+m.home, "XDG_CACHE_HOME=", "XDG_RUNTIME_DIR="+m.home, "LocalAppData="+m.home, "TMPDIR="+m.home, "TEMP="+m.home)
	return cmd
}

// start starts a program that runs until the test ends.
func (m *machine) start(name string) *exec.Cmd {
	m.t.Helper()
	cmd := m.command(name)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill() // it may have ended
			_ = cmd.Wait()         // it was killed
		}
		if m.t.Failed() {
			m.t.Logf("%s said: %s", name, said.String())
		}
	})
	return cmd
}

// output runs a program to its end.
func (m *machine) output(name string) string {
	m.t.Helper()
	cmd := m.command(name)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		m.t.Fatalf("%s: %v\n%s%s", name, err, out, stderr.String())
	}
	return string(out)
}

// built are the programs that have been built, for all tests together.
type built struct {
	mu  sync.Mutex
	dir string
}

var programs built

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "hull-examples-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		programs.dir = dir
		return m.Run()
	}())
}

// build builds a program, once.
func build(t *testing.T, name string) string {
	t.Helper()
	programs.mu.Lock()
	defer programs.mu.Unlock()
	path := filepath.Join(programs.dir, strings.ReplaceAll(name, "/", "-")+".exe")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./"+name).CombinedOutput()
	if err != nil {
		t.Fatalf("building %s: %v\n%s", name, err, out)
	}
	return path
}

// Two programs written as in the README, started in two terminals, find each other with no configuration.
func TestHello(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start("hello/server")
	for range 2 {
		if got := m.output("hello/client"); got != "Hello, Ada\n" {
			t.Errorf("%q", got)
		}
	}
}

// The client may be started first: it waits.
func TestHelloClientFirst(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	client, server := m.command("hello/client"), m.command("hello/server")
	var out, stderr bytes.Buffer
	client.Stdout, client.Stderr = &out, &stderr
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	err := client.Wait()
	_ = server.Process.Kill() // it runs for ever
	_ = server.Wait()         // it was killed
	if err != nil || out.String() != "Hello, Ada\n" {
		t.Errorf("%q, %v, %s", out.String(), err, stderr.String())
	}
}

// A client alone says what is missing.
func TestHelloAlone(t *testing.T) {
	t.Parallel()
	cmd := newMachine(t).command("hello/client")
	began := time.Now()
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), `no nodes of service "greeter"`) {
		t.Errorf("%v, %s", err, out)
	}
	if took := time.Since(began); took > time.Minute { // it waits for 5 s
		t.Errorf("it took %v to give up", took)
	}
}

func TestGreeter(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	server := m.start("greeter/server")
	// A server that has no CPU for a while is asked a second time.
	if got, want := m.output("greeter/client"), regexp.MustCompile(`^Hello, Ada \(attempts: [1-3]\)\n1\n2\n3\n$`); !want.MatchString(got) {
		t.Errorf("got %q, want %q", got, want)
	}
	ends(t, server, os.Interrupt)
}

// ends wants that a server ends in good order when it is asked to.
func ends(t *testing.T, server *exec.Cmd, s os.Signal) {
	t.Helper()
	if err := server.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	if err := server.Wait(); err != nil {
		t.Errorf("after %v the server ends with %v", s, err)
	}
}

// What a terminal, systemd and Kubernetes send ends both servers in good order.
func TestServersEndInGoodOrder(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"hello", "greeter"} {
		for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
			t.Run(fmt.Sprint(name, " ", s), func(t *testing.T) {
				t.Parallel()
				m := newMachine(t)
				server := m.start(name + "/server")
				m.output(name + "/client") // it serves
				ends(t, server, s)
			})
		}
	}
}

// Each service has less time than the one before, and a chain that takes too long ends at its caller's deadline.
func TestChain(t *testing.T) {
	t.Parallel()
	m, out := newMachine(t), ""
	// If the machine stands still for 300 ms the first call ends at its deadline, too, which is right and shows nothing.
	for try := 0; try < 10 && !strings.Contains(out, "answered after"); try++ {
		out = m.output("chain")
	}
	left := regexp.MustCompile(`chain-(\w+) +began with (\S+) left`).FindAllStringSubmatch(out, -1)
	if len(left) != 3 {
		t.Fatalf("%s", out)
	}
	before := 300 * time.Millisecond
	for i, name := range []string{"first", "second", "third"} {
		d, err := time.ParseDuration(left[i][2])
		if err != nil || left[i][1] != name || d > before || i > 0 && d > before-20*time.Millisecond {
			t.Errorf("hop %d: %v, %v after %v", i, left[i], err, before)
		}
		before = d
	}
	if !strings.Contains(out, "DeadlineExceeded") {
		t.Errorf("the second call has no deadline:\n%s", out)
	}
}
