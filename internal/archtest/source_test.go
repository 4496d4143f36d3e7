package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// realTime lists the packages whose tests may sleep outside a synctest bubble,
// and why no bubble can hold them. Everywhere else a test that sleeps is slow
// on a good day and fails on a bad one.
var realTime = map[string]string{
	"demo":                  "its services are processes of the operating system",
	"cmd/hull":              "it is run as a process",
	"registry/fileregistry": "locks and the death of processes are the kernel's",
}

// statefulVars lists package-level variables that hold state although none
// should, as "package.name", and why each is right.
var statefulVars = map[string]string{
	"compat/hystrix.circuits": "hystrix-go's functions find circuits by name, for the whole program",
	"compat/hystrix.settings": "the same for their settings",
	"compat/hystrix.current":  "the same for its one logger",
}

// exportedVars lists exported variables other than errors, as "package.name",
// that cannot be constants or functions, and why.
var exportedVars = map[string]string{
	"compat/hystrix.DefaultTimeout":               hystrixVar,
	"compat/hystrix.DefaultMaxConcurrent":         hystrixVar,
	"compat/hystrix.DefaultVolumeThreshold":       hystrixVar,
	"compat/hystrix.DefaultSleepWindow":           hystrixVar,
	"compat/hystrix.DefaultErrorPercentThreshold": hystrixVar,
	"compat/hystrix.DefaultLogger":                hystrixVar,
	"compat/hystrix/metric_collector.Registry":    hystrixVar,
}

const hystrixVar = "programs written for hystrix-go set or use it"

// fileProblems lists what is wrong with one source file of the named package,
// whose tests have the named functions that start a synctest bubble.
func fileProblems(file *ast.File, name string, isTest bool, bubbles []string) []string {
	var problems []string
	if isTest {
		if _, listed := realTime[name]; !listed && uses(file, "time", "Sleep") && !inBubble(file, bubbles) {
			problems = append(problems, "a test that calls time.Sleep runs in a testing/synctest bubble; or wait for the event itself")
		}
		return problems
	}
	if ast.IsGenerated(file) {
		return nil
	}
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.Name == "init" {
				problems = append(problems, "func init: nothing may happen because a package was linked; let the caller say it")
			}
		case *ast.GenDecl:
			if d.Tok == token.VAR {
				problems = append(problems, varProblems(d, name)...)
			}
		}
	}
	return problems
}

// varProblems lists what is wrong with a declaration of package-level
// variables.
func varProblems(d *ast.GenDecl, name string) []string {
	var problems []string
	for _, spec := range d.Specs {
		v, ok := spec.(*ast.ValueSpec)
		if !ok {
			continue
		}
		stateful := false
		for _, e := range append([]ast.Expr{v.Type}, v.Values...) {
			stateful = stateful || isState(e)
		}
		for _, id := range v.Names {
			if _, listed := exportedVars[name+"."+id.Name]; id.IsExported() && !listed && !strings.HasPrefix(id.Name, "Err") {
				problems = append(problems, "var "+id.Name+": an exported variable can be changed by anyone; make it a constant or a function (errors are called Err...)")
			}
			if _, listed := statefulVars[name+"."+id.Name]; stateful && !listed {
				problems = append(problems, "var "+id.Name+": package-level state outlives whoever made it; let a client, a server or another value own it")
			}
		}
	}
	return problems
}

// isState reports whether a variable's type or value is from sync or
// sync/atomic, or a pointer to such: what guards or holds something that
// changes. A sync.OnceValue is a constant that is worked out late.
func isState(e ast.Expr) bool {
	switch x := e.(type) {
	case *ast.StarExpr:
		return isState(x.X)
	case *ast.UnaryExpr:
		return isState(x.X)
	case *ast.CompositeLit:
		return isState(x.Type)
	case *ast.IndexExpr:
		return isState(x.X)
	case *ast.CallExpr:
		if id, ok := x.Fun.(*ast.Ident); ok && id.Name == "new" && len(x.Args) == 1 {
			return isState(x.Args[0])
		}
	case *ast.SelectorExpr:
		id, ok := x.X.(*ast.Ident)
		return ok && (id.Name == "sync" || id.Name == "atomic")
	}
	return false
}

// inBubble reports whether the node starts a synctest bubble: by itself,
// through hulltest, or through one of the named functions. That the sleeps are
// inside is left to the reader.
func inBubble(node ast.Node, bubbles []string) bool {
	found := false
	ast.Inspect(node, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok {
			switch f := c.Fun.(type) {
			case *ast.Ident:
				found = found || slices.Contains(bubbles, f.Name)
			case *ast.SelectorExpr:
				id, ok := f.X.(*ast.Ident)
				found = found || ok && (id.Name == "synctest" || id.Name == "hulltest")
			}
		}
		return !found
	})
	return found
}

// bubbleStarters lists the functions of the files that start a bubble, also
// through each other.
func bubbleStarters(files []*ast.File) []string {
	var found []string
	for before := -1; before < len(found); {
		before = len(found)
		for _, file := range files {
			for _, decl := range file.Decls {
				f, ok := decl.(*ast.FuncDecl)
				if ok && f.Recv == nil && !slices.Contains(found, f.Name.Name) && inBubble(f, found) {
					found = append(found, f.Name.Name)
				}
			}
		}
	}
	return found
}

// uses reports whether the node mentions a name of an imported package.
func uses(node ast.Node, pkgName, name string) bool {
	found := false
	ast.Inspect(node, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == name {
			id, ok := s.X.(*ast.Ident)
			found = found || ok && id.Name == pkgName
		}
		return !found
	})
	return found
}

// parse reads source files, by path.
func parse(t *testing.T, dir string, names []string) map[string]*ast.File {
	t.Helper()
	files := map[string]*ast.File{}
	for _, name := range names {
		path := filepath.Join(dir, name)
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Error(err)
			continue
		}
		files[path] = file
	}
	return files
}

func TestSource(t *testing.T) {
	dir := root(t)
	eachPackage(t, func(t *testing.T, _ graph, p *pkg, name string) {
		code := parse(t, p.Dir, p.GoFiles)
		tests := parse(t, p.Dir, append(slices.Clone(p.TestGoFiles), p.XTestGoFiles...))
		bubbles := bubbleStarters(slices.Collect(maps.Values(tests)))
		check := func(files map[string]*ast.File, isTest bool) {
			for path, file := range files {
				short, err := filepath.Rel(dir, path)
				if err != nil {
					short = path
				}
				for _, problem := range fileProblems(file, name, isTest, bubbles) {
					t.Errorf("%s: %s", short, problem)
				}
			}
		}
		check(code, false)
		check(tests, true)
		documented := false
		for _, file := range code {
			documented = documented || file.Doc != nil
		}
		if !documented && len(p.GoFiles) > 0 {
			t.Errorf("package %s has no package comment: say in doc.go what it is for and how to think of it", name)
		}
	})
}

func TestBubbleStarters(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "x.go", `package p
func TestX() { outer(f) }
func outer() { inner(nil) }
func inner() { synctest.Test(t, f) }
func f() { time.Sleep(1) }`, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := bubbleStarters([]*ast.File{file})
	if want := []string{"inner", "outer", "TestX"}; !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("starters %v, want %v", got, want)
	}
}

func TestFileProblems(t *testing.T) {
	tests := []struct {
		name   string
		source string
		isTest bool
		want   string // part of the only problem; empty for none
	}{
		{"init", "package p; func init() {}", false, "func init"},
		{"method called init", "package p; type t int; func (t) init() {}", false, ""},
		{"generated", "// Code generated by x. DO NOT EDIT.\n\npackage p\n\nfunc init() {}\nvar X = 1", false, ""},
		{"exported variable", "package p; var Default = 1", false, "var Default"},
		{"error", `package p; import "errors"; var ErrGone = errors.New("gone")`, false, ""},
		{"table", "package p; var names = [...]string{1: `a`}", false, ""},
		{"interface check", "package p; var _ I = T{}", false, ""},
		{"pool", `package p; import "sync"; var pool = sync.Pool{New: f}`, false, "var pool"},
		{"mutex", `package p; import "sync"; var mu sync.Mutex`, false, "var mu"},
		{"counter", `package p; import "sync/atomic"; var n = new(atomic.Int64)`, false, "var n"},
		{"pointer", `package p; import "sync/atomic"; var n atomic.Pointer[int]`, false, "var n"},
		{"late constant", `package p; import "sync"; var v = sync.OnceValue(f)`, false, ""},
		{"sleeping test", `package p; import "time"; func TestX() { time.Sleep(1) }`, true, "time.Sleep"},
		{"bubble", `package p; import ("time"; "testing/synctest"); func TestX() { synctest.Test(t, func() { time.Sleep(1) }) }`, true, ""},
		{"bubble of a helper", `package p; import "time"; func TestX() { inWorld(func() { time.Sleep(1) }) }`, true, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file, err := parser.ParseFile(token.NewFileSet(), "x.go", tt.source, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			got := fileProblems(file, "p", tt.isTest, []string{"inWorld"})
			if tt.want == "" && len(got) > 0 || tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)) {
				t.Errorf("problems %q, want %q", got, tt.want)
			}
		})
	}
}

// The architecture document is the way into the code, so it names every
// package. Before there is one there is nothing to hold it to.
func TestArchitectureNamesEveryPackage(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root(t), "docs", "architecture.md"))
	if os.IsNotExist(err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	eachPackage(t, func(t *testing.T, _ graph, _ *pkg, name string) {
		if !names(string(doc), name) {
			t.Errorf("docs/architecture.md does not mention package %s", name)
		}
	})
}

// names reports whether text mentions a package: by its path, or by its last
// element as a word. One mention of examples/ stands for all examples.
func names(text, name string) bool {
	if name == "." {
		return strings.Contains(text, modulePath)
	}
	if strings.HasPrefix(name, "examples/") {
		return strings.Contains(text, "examples/")
	}
	last := name[strings.LastIndexByte(name, '/')+1:]
	return slices.Contains(strings.FieldsFunc(text, func(r rune) bool {
		return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}), last)
}
