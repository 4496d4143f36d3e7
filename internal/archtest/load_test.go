package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// modulePath is the import path of the front door.
const modulePath = "github.com/hull-go/hull"

// pkg is the part of "go list -json" that the tests read.
type pkg struct {
	ImportPath   string
	Dir          string
	Standard     bool
	Module       *struct{ Path string }
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
}

// name is the path of p below the module, "." for the front door, and false
// for a package of another module.
func (p *pkg) name() (string, bool) { return localName(p.ImportPath) }

func localName(importPath string) (string, bool) {
	if importPath == modulePath {
		return ".", true
	}
	return strings.CutPrefix(importPath, modulePath+"/")
}

// root is the top directory of the repository.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatalf("the test does not run in its place in the repository: %v", err)
	}
	return dir
}

// Files for one system only have imports of their own, so each graph is read
// once for each kind of system.
var systems = []string{"linux", "darwin", "windows"}

type graph map[string]*pkg // by import path

var loadGraphs = sync.OnceValues(func() (map[string]graph, error) {
	all := map[string]graph{}
	for _, system := range systems {
		g, err := loadGraph(system)
		if err != nil {
			return nil, err
		}
		all[system] = g
	}
	return all, nil
})

func loadGraph(system string) (graph, error) {
	// -e: what does not build is the compiler's to report.
	cmd := exec.Command("go", "list", "-e", "-deps",
		"-json=ImportPath,Dir,Standard,Module,GoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports,Deps", "./...")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.New("go list for " + system + ": " + err.Error() + ": " + stderr.String())
	}
	g := graph{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(pkg)
		if err := dec.Decode(p); errors.Is(err, io.EOF) {
			return g, nil
		} else if err != nil {
			return nil, err
		}
		g[p.ImportPath] = p
	}
}

// eachPackage calls f for each package of the module as each system sees it.
// The name is the package's path below the module, "." for the front door.
func eachPackage(t *testing.T, f func(t *testing.T, g graph, p *pkg, name string)) {
	t.Helper()
	graphs, err := loadGraphs()
	if err != nil {
		t.Fatal(err)
	}
	for _, system := range systems {
		t.Run(system, func(t *testing.T) {
			n := 0
			for _, p := range graphs[system] {
				if name, ok := p.name(); ok {
					f(t, graphs[system], p, name)
					n++
				}
			}
			if n == 0 {
				t.Error("go list found no package of the module")
			}
		})
	}
}

// match reports whether a package name fits a pattern: a name, "a/*" for the
// packages directly below a, "a/..." for a and everything below it, "..." for
// all.
func match(pattern, name string) bool {
	if pattern == "..." {
		return true
	}
	if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
		return name == dir || strings.HasPrefix(name, dir+"/")
	}
	if dir, ok := strings.CutSuffix(pattern, "/*"); ok {
		rest, below := strings.CutPrefix(name, dir+"/")
		return below && !strings.Contains(rest, "/")
	}
	return pattern == name
}

// matchAny reports whether name fits one of the patterns in a list separated
// by blanks.
func matchAny(patterns, name string) bool {
	for p := range strings.FieldsSeq(patterns) {
		if match(p, name) {
			return true
		}
	}
	return false
}
