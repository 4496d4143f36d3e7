package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hull-go/hull/internal/cli"
)

// asHull turns the test binary into the program itself. The demo starts its processes from it, too.
const asHull = "HULL_TEST_AS_HULL"

var update = flag.Bool("update", false, "write the generated parts of docs")

func TestMain(m *testing.M) {
	if os.Getenv(asHull) != "" {
		os.Exit(run())
	}
	os.Exit(m.Run())
}

// hull returns the program as a process, with a home of its own.
func hull(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	home := t.TempDir()
	cmd.Env = append(os.Environ(), asHull+"=1", "HOME="+home, "XDG_CACHE_HOME=", "LocalAppData="+home, "TMPDIR="+home, "TEMP="+home)
	return cmd
}

func TestProcess(t *testing.T) {
	out, err := hull(t, "version").Output()
	if err != nil || !strings.HasPrefix(string(out), "hull ") {
		t.Errorf("%q, %v", out, err)
	}
	cmd := hull(t, "get", "ghost")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != cli.ExitNotFound || !strings.Contains(stderr.String(), "ghost") {
		t.Errorf("%v, %s", err, stderr.String())
	}
	cmd = hull(t, "list", "-o", "json")
	cmd.Env = append(cmd.Env, "HULL_REGISTRY=static://127.0.0.1:1?service=a")
	if out, err := cmd.Output(); err != nil || !strings.Contains(string(out), `"name": "a"`) {
		t.Errorf("%q, %v", out, err)
	}
}

// The demo starts, serves its page, and ends with an interrupt, which is how it ends.
func TestDemo(t *testing.T) {
	cmd := hull(t, "demo", "--addr", "127.0.0.1:0", "--nodes", "1", "--rate", "5")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	page := ""
	for lines := bufio.NewScanner(stdout); page == "" && lines.Scan(); {
		page = regexp.MustCompile(`http://[^/ ]+`).FindString(lines.Text())
	}
	if page == "" {
		t.Fatalf("the demo does not say where its page is: %v, %s", cmd.Wait(), stderr.String())
	}
	res, err := http.Get(page)
	if err != nil {
		t.Error(err)
	} else if res.Body.Close(); res.StatusCode != http.StatusOK {
		t.Errorf("the page: %s", res.Status)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v, %s", err, stderr.String())
	}
	if res, err := http.Get(page); err == nil {
		res.Body.Close()
		t.Error("the page is still served")
	}
}

// The references come from the program's own tables. With -update the test writes them.
func TestReferenceIsUpToDate(t *testing.T) {
	parts := cli.Reference(drivers())
	for file, names := range map[string][]string{"cli.md": {"commands", "flags", "exit", "json"}, "discovery.md": {"registries"}} {
		path := filepath.Join("..", "..", "docs", file)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(b), "\r\n", "\n")
		want := text
		for _, name := range names {
			begin, end := fmt.Sprintf("<!-- begin generated: %s -->\n", name), "<!-- end generated -->"
			before, rest, found := strings.Cut(want, begin)
			_, after, ended := strings.Cut(rest, end)
			if !found || !ended {
				t.Errorf("docs/%s has no place for the part %q: write %s%s", file, name, begin, end)
				continue
			}
			want = before + begin + parts[name] + end + after
			delete(parts, name)
		}
		if n := strings.Count(text, "<!-- begin generated: "); n != len(names) {
			t.Errorf("docs/%s has %d generated parts, the program %d", file, n, len(names))
		}
		switch {
		case want == text:
		case *update:
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		default:
			t.Errorf("docs/%s is not what the program says: run go test ./cmd/hull -update, and commit it", file)
		}
	}
	for name := range parts {
		t.Errorf("no page has the part %q", name)
	}
}

func TestDrivers(t *testing.T) {
	schemes := map[string]bool{}
	for _, d := range drivers() {
		if schemes[d.Scheme] || d.Open == nil || d.Usage == "" || !strings.HasPrefix(d.Form, d.Scheme+":") {
			t.Errorf("%+v", d)
		}
		schemes[d.Scheme] = true
	}
	if drivers()[0].Scheme != "file" {
		t.Error("the default registry is not the first")
	}
}
