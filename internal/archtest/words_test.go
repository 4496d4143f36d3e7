package archtest

import (
	"bytes"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// foreignPaths matches absolute paths that exist on one person's machine only.
var foreignPaths = regexp.MustCompile(`(^|[^\w./-])(/(home|Users)/[A-Za-z][\w.-]*/|/(root|work)/[\w.-]|[A-Z]:\\Users\\)`)

// machineWords are what belongs to the machine that the test runs on: the
// place of the checkout, the home directory, and where modules come from.
func machineWords(t *testing.T) []string {
	t.Helper()
	words := []string{root(t) + "/"}
	if home, err := os.UserHomeDir(); err == nil && len(home) > 1 {
		words = append(words, home+"/")
	}
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOPROXY").Output()
	if err != nil {
		t.Fatalf("go env: %v", err)
	}
	for _, s := range strings.FieldsFunc(string(out), func(r rune) bool { return r == ',' || r == '|' || r == '\n' }) {
		if u, err := url.Parse(s); err == nil && strings.Contains(u.Hostname(), ".") {
			words = append(words, u.Hostname())
		}
	}
	return words
}

// Text in the repository holds for everyone who reads it, so it names no
// machine: no path of one, and no server that its packages came from.
func TestNoMachineInText(t *testing.T) {
	dir := root(t)
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v; the test needs git and a clone", err)
	}
	words := machineWords(t)
	files := strings.Split(strings.Trim(string(out), "\x00"), "\x00")
	slices.Sort(files)
	n := 0
	for _, name := range slices.Compact(files) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || bytes.IndexByte(b, 0) >= 0 {
			continue // gone from the work tree, a link to a directory, or not text
		}
		n++
		for i, line := range strings.Split(string(b), "\n") {
			if word, found := machineIn(line, words); found {
				t.Errorf("%s:%d names a machine (%q): write it so that it holds everywhere", name, i+1, word)
			}
		}
	}
	if n == 0 {
		t.Error("git lists no text file")
	}
}

// machineIn finds what in the line belongs to one machine.
func machineIn(line string, words []string) (string, bool) {
	for _, w := range words {
		if strings.Contains(line, w) {
			return w, true
		}
	}
	s := foreignPaths.FindString(line)
	return strings.TrimSpace(s), s != ""
}

func TestMachineIn(t *testing.T) {
	words := []string{"/srv/checkout/", "proxy.test"}
	for line, want := range map[string]bool{
		"see /srv/checkout/codec":               true,
		"from https://proxy.test/x":             true,
		"cd /ho" + "me/ada/hull":                true,
		`"/Us` + `ers/ada/hull"`:                true,
		"cd /wo" + "rk/main":                    true,
		"ls /ro" + "ot/x":                       true,
		"POST /home/messages":                   false,
		"https://example.com/home/ada/page":     false,
		"../home/ada/x":                         false,
		"the backend does its work/sleep cycle": false,
		"under $XDG_RUNTIME_DIR/hull":           false,
	} {
		if word, got := machineIn(line, words); got != want {
			t.Errorf("%q: found %v (%q), want %v", line, got, word, want)
		}
	}
}
