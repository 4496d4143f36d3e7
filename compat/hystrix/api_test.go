package hystrix_test

import (
	"bytes"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// ours is where the packages are, apiFile what hystrix-go exports in the same form.
const (
	ours    = "github.com/hull-go/hull/compat/hystrix"
	apiFile = "testdata/hystrix-go-api.txt"
)

// additions are what these packages export beyond hystrix-go, and why.
var additions = map[string]string{
	"hystrix: type PanicError struct":                             "a panic is an error here",
	"hystrix: field PanicError.Value any ``":                      "",
	"hystrix: field PanicError.Stack []byte ``":                   "",
	"hystrix: method (*PanicError) Error() string":                "",
	"hystrix: method (*PanicError) Unwrap() error":                "",
	"rolling: method (*Timing) AddAt(policy.Time, time.Duration)": "for those who have just read the clock",
}

// TestSameAPI: whatever compiles with hystrix-go compiles with these packages.
func TestSameAPI(t *testing.T) {
	want, err := os.ReadFile(apiFile)
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]bool{}
	for _, line := range surface(t, ours) {
		has[line] = true
	}
	for line := range strings.Lines(string(want)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !has[line] {
			t.Errorf("hystrix-go has, and we have not: %s", line)
		}
		delete(has, line)
	}
	for line := range has {
		if _, ok := additions[line]; !ok {
			t.Errorf("hystrix-go has not: %s", line)
		}
	}
	for line := range additions {
		if !has[line] {
			t.Errorf("listed as an addition, but gone: %s", line)
		}
	}
}

// surface lists what the package at path and those below it export, one line each.
func surface(t *testing.T, path string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", path+"/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	exports := map[string]string{}
	for line := range strings.Lines(string(out)) {
		p, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		exports[p] = file
	}
	imp := importer.ForCompiler(token.NewFileSet(), "gc", func(p string) (io.ReadCloser, error) {
		b, err := os.ReadFile(exports[p])
		return io.NopCloser(bytes.NewReader(b)), err
	})
	var lines []string
	for p := range exports {
		if p == path || strings.HasPrefix(p, path+"/") {
			pkg, err := imp.Import(p)
			if err != nil {
				t.Fatalf("import %s: %v", p, err)
			}
			lines = append(lines, exported(pkg)...)
		}
	}
	slices.Sort(lines)
	return lines
}

// exported lists what a package exports. Packages go by their names: where they are is what changes.
func exported(pkg *types.Package) (lines []string) {
	short := func(p *types.Package) string {
		if p == pkg {
			return ""
		}
		return p.Name()
	}
	// Older code writes any in the longer form.
	say := func(words ...string) {
		lines = append(lines, strings.ReplaceAll(pkg.Name()+": "+strings.Join(words, " "), "interface{}", "any"))
	}
	typed := func(t types.Type) string { return types.TypeString(t, short) }
	signature := func(t types.Type) string {
		s := t.(*types.Signature)
		bare := func(tuple *types.Tuple) *types.Tuple {
			var vars []*types.Var
			for v := range tuple.Variables() {
				vars = append(vars, types.NewParam(token.NoPos, nil, "", v.Type()))
			}
			return types.NewTuple(vars...)
		}
		return strings.TrimPrefix(typed(types.NewSignatureType(nil, nil, nil, bare(s.Params()), bare(s.Results()), s.Variadic())), "func")
	}
	described := map[*types.Named]bool{}
	describe := func(n *types.Named) {
		if described[n] || n.Obj().Pkg() != pkg {
			return
		}
		described[n] = true
		name := n.Obj().Name()
		direct := types.NewMethodSet(n)
		for m := range types.NewMethodSet(types.NewPointer(n)).Methods() {
			if m.Obj().Exported() {
				on := "(*" + name + ")"
				if direct.Lookup(m.Obj().Pkg(), m.Obj().Name()) != nil {
					on = "(" + name + ")"
				}
				say("method", on, m.Obj().Name()+signature(m.Type()))
			}
		}
		switch u := n.Underlying().(type) {
		case *types.Interface:
			say("type", name, "interface")
			for m := range u.Methods() {
				say("method", "("+name+")", m.Name()+signature(m.Type()))
			}
		case *types.Struct:
			say("type", name, "struct")
			for i := range u.NumFields() {
				if f := u.Field(i); f.Exported() {
					say("field", name+"."+f.Name(), typed(f.Type()), "`"+u.Tag(i)+"`")
				}
			}
		default:
			say("type", name, typed(u))
		}
	}
	// Types that are not exported are part of what can be used through what is.
	follow := func(t types.Type) {
		if n, ok := t.(*types.Named); ok {
			describe(n)
		}
	}
	for _, name := range pkg.Scope().Names() {
		obj := pkg.Scope().Lookup(name)
		if !obj.Exported() {
			continue
		}
		switch o := obj.(type) {
		case *types.Func:
			say("func", name+signature(o.Type()))
			for v := range o.Signature().Params().Variables() {
				follow(v.Type())
			}
		case *types.TypeName:
			if n, ok := o.Type().(*types.Named); ok {
				describe(n)
			}
		default:
			say(strings.ToLower(strings.TrimPrefix(reflect.TypeOf(obj).String(), "*types.")), name, typed(obj.Type()))
			follow(obj.Type())
		}
	}
	return lines
}
